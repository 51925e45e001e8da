// fake_quantize and top_mask, in f32. A few large groups are shared by the team, in two phases; many small ones are dealt out.
#include "kernels/compress.h"

#include "kernels/ref/ref.h"
#include "ops/attrs_compress.h"

namespace ds::ref {
namespace {

struct Groups {
    int64_t count, size;
};
Groups groups_of(const Tensor& x, const FakeQuantize& a) {
    const int64_t groups = a.groups == 0 ? std::max<int64_t>(x.rows(), 1) : a.groups;
    return {groups, x.count() / groups};
}
bool shared(const Groups& g, int64_t bits, int threads) { return bits > 2 && g.count < threads && g.size > 4096; }

// Least and largest value of each thread's part of each group.
void ranges(const Call& c, Team team) {
    const FakeQuantize& a = c.attr<FakeQuantize>();
    const Groups g = groups_of(c.in[0], a);
    if (!shared(g, a.bits, team.size)) return;
    const float* x = c.in[0].as<float>();
    auto* found = reinterpret_cast<float*>(c.scratch);
    for (int64_t i = 0; i < g.count; ++i) {
        const auto [begin, end] = team.part(g.size, 16);
        float* range = found + 2 * (i * team.size + team.rank);
        range[0] = INFINITY, range[1] = -INFINITY;
        if (begin == end) continue;
        const auto [least, most] = std::minmax_element(x + i * g.size + begin, x + i * g.size + end);
        range[0] = *least, range[1] = *most;
    }
}

void quantize(const Call& c, Team team) {
    const FakeQuantize& a = c.attr<FakeQuantize>();
    const Groups g = groups_of(c.in[0], a);
    const float* x = c.in[0].as<float>();
    float* y = c.out[0].as<float>();
    if (!shared(g, a.bits, team.size)) {
        const auto [first, last] = team.part(g.count);
        for (int64_t i = first; i < last; ++i) fake_quantize_group(x + i * g.size, y + i * g.size, g.size, a.bits, a.asymmetric);
        return;
    }
    const auto* found = reinterpret_cast<const float*>(c.scratch);
    for (int64_t i = 0; i < g.count; ++i) {
        float least = INFINITY, most = -INFINITY;
        for (int t = 0; t < team.size; ++t) {
            const float* range = found + 2 * (i * team.size + t);
            least = std::min(least, range[0]), most = std::max(most, range[1]);
        }
        const Levels to = levels(a.bits, a.asymmetric, least, most);
        const auto [begin, end] = team.part(g.size, 16);
        for (int64_t k = i * g.size + begin; k < i * g.size + end; ++k) y[k] = to.of(x[k]);
    }
}

// Of bf16 and f16: each group through f32.
void quantize_low(const Call& c, Team team) {
    const FakeQuantize& a = c.attr<FakeQuantize>();
    const Groups g = groups_of(c.in[0], a);
    const int64_t element = size_of(c.in[0].dtype);
    std::vector<float> group(static_cast<size_t>(g.size));
    const auto [first, last] = team.part(g.count);
    for (int64_t i = first; i < last; ++i) {
        convert(c.in[0].as<std::byte>() + i * g.size * element, c.in[0].dtype, group.data(), DType::f32, g.size);
        fake_quantize_group(group.data(), group.data(), g.size, a.bits, a.asymmetric);
        convert(group.data(), DType::f32, c.out[0].as<std::byte>() + i * g.size * element, c.out[0].dtype, g.size);
    }
}

const char* only_dense(const Request& request) { return request.in[0].dense() && request.out[0].dense() ? nullptr : "a tensor is not dense"; }

void mask(const Call& c) {
    const TopMask& a = c.attr<TopMask>();
    top_mask(c.in[0].as<float>(), c.out[0].as<float>(), c.in[0].count(), a.ratio, a.n, a.m);
}

const char* only_f32(const Request& request) {
    for (const Tensor& t : {request.in[0], request.out[0]})
        if (t.dtype != DType::f32 || !t.dense()) return "a tensor is not dense f32";
    return nullptr;
}

Result<Prepared> prepare(const Request& request) {
    const Groups g = groups_of(request.in[0], request.attr<FakeQuantize>());
    return Prepared{{ranges, quantize}, nullptr, g.count < request.threads ? 8 * g.count * request.threads : 0};
}

constexpr KernelImpl kQuantize[] = {{"ref", only_f32, prepare}, {"ref_low", only_dense, simple<quantize_low>}}, kMask[] = {{"ref", only_f32, simple<alone<mask>>}};

}  // namespace

extern const KernelList fake_quantize = kQuantize;
extern const KernelList top_mask = kMask;

}  // namespace ds::ref
