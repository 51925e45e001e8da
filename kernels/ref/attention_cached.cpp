// attention_cached: new keys and values go where `table` says, then every new query sees the tokens of its sequence up to itself.
#include <vector>

#include "kernels/ref/ref.h"
#include "kernels/relative.h"
#include "ops/attrs.h"

namespace ds::ref {
namespace {

void attend(const Call& call) {
    const Tensor &q = call.in[0], &k = call.in[1], &v = call.in[2], &keys = call.in[3], &values = call.in[4], &table = call.in[5],
                 &lengths = call.in[6], &segments = call.in[7], &key_segments = call.in[8], &bias = call.in[9], &y = call.out[0];
    const auto& attrs = call.attr<Attention>();
    const int64_t kv_heads = keys.dims[0], pool = keys.dims[1], size = keys.dims[2], group = attrs.heads / kv_heads,
                  sequences = segments.count() - 1;
    const double scale = attrs.scale != 0 ? attrs.scale : 1 / std::sqrt(static_cast<double>(size));
    const auto number = [](const Tensor& t, int64_t i) { return static_cast<int64_t>(get(t, i)); };
    const auto place = [&](int64_t s, int64_t j) { return number(table, s * table.dims[1] + j); };
    const auto cached = [&](int64_t h, int64_t at, int64_t c) { return (h * pool + at) * size + c; };
    for (int64_t i = 0; i < y.count(); ++i) set(y, i, 0);
    for (int64_t s = 0; s < sequences; ++s) {
        const Tensor& cuts = key_segments.present ? key_segments : segments;
        const int64_t begin = number(segments, s), end = number(segments, s + 1), first_key = number(cuts, s),
                      end_key = number(cuts, s + 1);
        const int64_t length = lengths.present ? number(lengths, s) : end_key - first_key, before = length - (end - begin);
        const int64_t cached_before = length - (end_key - first_key);
        for (int64_t i = first_key; k.present && i < end_key; ++i)
            for (int64_t h = 0; h < kv_heads; ++h)
                for (int64_t c = 0; c < size; ++c) {
                    move(k, (i * kv_heads + h) * size + c, keys, cached(h, place(s, cached_before + i - first_key), c));
                    move(v, (i * kv_heads + h) * size + c, values, cached(h, place(s, cached_before + i - first_key), c));
                }
        for (int64_t i = begin; i < end; ++i)
            for (int64_t h = 0; h < attrs.heads; ++h) {
                const int64_t last = attrs.causal ? before + i - begin + 1 : length,
                              first = attrs.window ? std::max<int64_t>(last - attrs.window, 0) : 0;
                std::vector<double> p;
                double most = -INFINITY, total = 0;
                for (int64_t j = first; j < last; ++j) {
                    double score = 0;
                    for (int64_t c = 0; c < size; ++c)
                        score += get(q, (i * attrs.heads + h) * size + c) * get(keys, cached(h / group, place(s, j), c));
                    p.push_back(score * scale +
                                (bias.present
                                     ? get(bias, relative_bucket(j - (last - 1), bias.dims[0], attrs.max_distance, false) * attrs.heads + h)
                                     : 0));
                    if (p.back() > most || std::isnan(p.back())) most = p.back();  // which stays
                }
                for (double& x : p) total += x = std::exp(x - most);
                for (int64_t c = 0; c < size && total != 0; ++c) {
                    double sum = 0;
                    for (int64_t j = first; j < last; ++j)
                        sum += p[static_cast<size_t>(j - first)] / total * get(values, cached(h / group, place(s, j), c));
                    set(y, (i * attrs.heads + h) * size + c, sum);
                }
            }
    }
}

constexpr KernelImpl kAttentionCached[] = {plain<attend>()};

}  // namespace

extern const KernelList attention_cached;
const KernelList attention_cached{kAttentionCached};

}  // namespace ds::ref
