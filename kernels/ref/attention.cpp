// Attention, y_i = sum over visible j of softmax_j(scale q_i . k_j + bias_ij) v_j, and its gradient; which keys a query sees is told in
// kernels/README.md. Scores are kept for one query at a time. The gradient recomputes what it needs from q, k and v.
#include <vector>

#include "kernels/ref/ref.h"
#include "kernels/relative.h"
#include "ops/attrs.h"

namespace ds::ref {
namespace {

struct View {
    const Tensor &q, &k, &segments, &tokens, &key_mask, &key_segments, &key_tokens, &first_tokens, &bias, &layout;
    const Attention& attrs;
    const Runtime* runtime;
    int64_t heads, group, size;  // group: query heads that share a key head
    double scale;

    // `inputs`: q, k, v and, from `rest` on, what else attention takes.
    View(const Call& call, const Tensor* inputs, const Tensor* rest)
        : q(inputs[0]),
          k(inputs[1]),
          segments(rest[0]),
          tokens(rest[1]),
          key_mask(rest[2]),
          key_segments(rest[3]),
          key_tokens(rest[4]),
          first_tokens(rest[5]),
          bias(rest[6]),
          layout(rest[7]),
          attrs(call.attr<Attention>()),
          runtime(call.runtime) {
        heads = q.rank == 4 ? q.dims[2] : attrs.heads;  // rank 4 says so itself
        group = k.rank == 4 ? heads / k.dims[2] : attrs.kv_heads ? heads / attrs.kv_heads : 1;
        size = q.rank == 4 ? q.columns() : q.columns() / heads;
        scale = attrs.scale != 0 ? attrs.scale : 1 / std::sqrt(static_cast<double>(size));
    }
    int64_t kv_heads() const { return heads / group; }
    int64_t sequences() const { return segments.present ? segments.count() - 1 : q.dims[0]; }
    int64_t begin(const Tensor& t, int64_t s) const {
        const Tensor& ends = &t == &k && key_segments.present ? key_segments : segments;
        return ends.present ? static_cast<int64_t>(get(ends, s)) : s * t.dims[1];
    }
    int64_t token(int64_t row) const { return tokens.present ? static_cast<int64_t>(get(tokens, row)) : row; }
    int64_t key_token(int64_t row) const {
        return !key_segments.present ? token(row) : key_tokens.present ? static_cast<int64_t>(get(key_tokens, row)) : row;
    }

    // first: the first key of the sequence.
    bool sees(int64_t i, int64_t h, int64_t j, int64_t first) const {
        if (key_mask.present && get(key_mask, j) == 0) return false;
        if (attrs.causal && (key_tokens.present ? key_token(j) > token(i) : j > i)) return false;
        if (layout.present) {
            const int64_t row = (token(i) - key_token(first)) / attrs.block, column = (key_token(j) - key_token(first)) / attrs.block,
                          n = layout.dims[1];
            if (row >= n || column >= n || get(layout, ((layout.dims[0] > 1 ? h : 0) * n + row) * n + column) == 0) return false;
        }
        return attrs.window == 0 || token(i) - key_token(j) < attrs.window;
    }
    // Where in the table of biases this pair's is.
    int64_t at_bias(int64_t i, int64_t h, int64_t j) const {
        return relative_bucket(key_token(j) - token(i), bias.dims[0], attrs.max_distance, attrs.both_ways) * heads + h;
    }
    // What dropout multiplies the probability by. s: the sequence, whose keys here begin with `first`.
    double kept(int64_t s, int64_t i, int64_t h, int64_t j, int64_t first) const {
        if (attrs.dropout == 0) return 1;
        const auto index =
            static_cast<uint64_t>((token(i) * (attrs.all_heads ? attrs.all_heads : heads) + attrs.first_head + h) << 20) +
            static_cast<uint64_t>(key_token(j) - (first_tokens.present ? static_cast<int64_t>(get(first_tokens, s)) : key_token(first)));
        return static_cast<double>(uniform_draw(*runtime, static_cast<uint64_t>(attrs.salt), index)) >= attrs.dropout
                   ? 1 / (1 - attrs.dropout)
                   : 0;
    }
    int64_t at_q(int64_t row, int64_t h, int64_t c) const { return (row * heads + h) * size + c; }
    int64_t at_kv(int64_t row, int64_t h, int64_t c) const { return (row * kv_heads() + h / group) * size + c; }

    // Undropped probabilities of query i for keys [first, last); returns log sum exp of the scores, 0 where it sees none.
    double probabilities(int64_t i, int64_t h, int64_t first, int64_t last, std::vector<double>& p) const {
        p.assign(static_cast<size_t>(last - first), -INFINITY);
        double most = -INFINITY, total = 0;
        for (int64_t j = first; j < last; ++j) {
            if (!sees(i, h, j, first)) continue;
            double score = 0;
            for (int64_t c = 0; c < size; ++c) score += get(q, at_q(i, h, c)) * get(k, at_kv(j, h, c));
            score = score * scale + (bias.present ? get(bias, at_bias(i, h, j)) : 0);
            p[static_cast<size_t>(j - first)] = score;
            if (score > most || std::isnan(score)) most = score;  // which stays
        }
        if (most == -INFINITY) {
            p.assign(p.size(), 0);
            return first_tokens.present ? -INFINITY : 0;
        }
        for (double& x : p) total += x = std::exp(x - most);
        for (double& x : p) x /= total;
        return most + std::log(total);
    }

    // f(sequence, query row, its head, first and last key row of its sequence)
    template <class F>
    void each_query(const F& f) const {
        for (int64_t s = 0; s < sequences(); ++s)
            for (int64_t i = begin(q, s); i < begin(q, s + 1); ++i)
                for (int64_t h = 0; h < heads; ++h) f(s, i, h, begin(k, s), begin(k, s + 1));
    }
};

void zero(const Tensor& t) {
    for (int64_t i = 0; i < t.count(); ++i) set(t, i, 0);
}

void forward(const Call& call) {
    const View a(call, call.in, call.in + 3);
    const Tensor &v = call.in[2], &y = call.out[0], &lse = call.out[1];
    zero(y);
    for (int64_t i = 0; i < lse.count(); ++i) set(lse, i, a.first_tokens.present ? -INFINITY : 0);
    std::vector<double> p;
    a.each_query([&](int64_t s, int64_t i, int64_t h, int64_t first, int64_t last) {
        set(lse, i * a.heads + h, a.probabilities(i, h, first, last, p));
        for (int64_t c = 0; c < a.size; ++c) {
            double sum = 0;
            for (int64_t j = first; j < last; ++j)
                if (p[static_cast<size_t>(j - first)] != 0)
                    sum += p[static_cast<size_t>(j - first)] * a.kept(s, i, h, j, first) * get(v, a.at_kv(j, h, c));
            set(y, a.at_q(i, h, c), sum);
        }
    });
}

// ds_ij = p_ij (dp_ij - sum_j p_ij dp_ij),  dp_ij = kept_ij dy_i . v_j.
void backward(const Call& call) {
    const View a(call, call.in + 1, call.in + 6);
    const Tensor &dy = call.in[0], &q = call.in[1], &k = call.in[2], &v = call.in[3], &y = call.in[4], &lse = call.in[5];
    std::vector<double> dq(static_cast<size_t>(q.count())), dk(static_cast<size_t>(k.count())), dv(dk.size()), p, dp;
    std::vector<double> dbias(a.bias.present ? static_cast<size_t>(a.bias.count()) : 0);
    a.each_query([&](int64_t s, int64_t i, int64_t h, int64_t first, int64_t last) {
        const double seen = a.probabilities(i, h, first, last, p);
        // Of a part of the keys: y and lse are those of all.
        const bool part = a.first_tokens.present;
        if (part)
            for (double& x : p) x *= seen == -INFINITY ? 0 : std::exp(seen - get(lse, i * a.heads + h));
        dp.assign(p.size(), 0);
        double delta = 0;
        for (int64_t c = 0; part && c < a.size; ++c) delta += get(dy, a.at_q(i, h, c)) * get(y, a.at_q(i, h, c));
        for (int64_t j = first; j < last; ++j) {
            const auto at = static_cast<size_t>(j - first);
            if (p[at] == 0) continue;
            const double kept = a.kept(s, i, h, j, first);
            for (int64_t c = 0; c < a.size; ++c) {
                dp[at] += kept * get(dy, a.at_q(i, h, c)) * get(v, a.at_kv(j, h, c));
                dv[static_cast<size_t>(a.at_kv(j, h, c))] += p[at] * kept * get(dy, a.at_q(i, h, c));
            }
            if (!part) delta += p[at] * dp[at];
        }
        for (int64_t j = first; j < last; ++j) {
            const auto at = static_cast<size_t>(j - first);
            const double dscore = p[at] * (dp[at] - delta), ds = dscore * a.scale;
            if (dscore == 0) continue;
            if (!dbias.empty()) dbias[static_cast<size_t>(a.at_bias(i, h, j))] += dscore;
            for (int64_t c = 0; c < a.size; ++c) {
                dq[static_cast<size_t>(a.at_q(i, h, c))] += ds * get(k, a.at_kv(j, h, c));
                dk[static_cast<size_t>(a.at_kv(j, h, c))] += ds * get(q, a.at_q(i, h, c));
            }
        }
    });
    for (size_t i = 0; i < dq.size(); ++i) set(call.out[0], static_cast<int64_t>(i), dq[i]);
    for (size_t i = 0; i < dk.size(); ++i) set(call.out[1], static_cast<int64_t>(i), dk[i]);
    for (size_t i = 0; i < dv.size(); ++i) set(call.out[2], static_cast<int64_t>(i), dv[i]);
    for (size_t i = 0; i < dbias.size(); ++i) set(call.out[3], static_cast<int64_t>(i), dbias[i]);
}

constexpr KernelImpl kAttention[] = {plain<forward>()};
constexpr KernelImpl kAttentionGrad[] = {plain<backward>()};

}  // namespace

const KernelList attention{kAttention};
const KernelList attention_grad{kAttentionGrad};

}  // namespace ds::ref
