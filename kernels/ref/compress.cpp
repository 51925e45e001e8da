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

const char* only_dense(const Request& request) {
    return request.in[0].dense() && request.out[0].dense() ? nullptr : "a tensor is not dense";
}

void mask(const Call& c) {
    const TopMask& a = c.attr<TopMask>();
    top_mask(c.in[0].as<float>(), c.out[0].as<float>(), c.in[0].count(), a.ratio, a.n, a.m);
}

// Rows [first, last) of x through f32, a piece at a time.
template <class F>
void each_piece(const Tensor& x, int64_t first, int64_t last, const F& f) {
    constexpr int64_t kPiece = 1024;
    float piece[kPiece];
    const int64_t columns = x.columns();
    for (int64_t row = first; row < last; ++row)
        for (int64_t at = 0; at < columns; at += kPiece) {
            const int64_t n = std::min(kPiece, columns - at);
            convert(element(x, row * columns + at), x.dtype, piece, DType::f32, n);
            f(row * columns + at, piece, n);
        }
}

void round_within(const Call& c, Team team) {
    const auto& a = c.attr<QuantizeWithin>();
    const Levels to = levels(a.bits, a.asymmetric, static_cast<float>(get(c.in[1], 0)), static_cast<float>(get(c.in[1], 1)));
    const auto [first, last] = team.part(c.in[0].rows());
    each_piece(c.in[0], first, last, [&](int64_t at, float* piece, int64_t n) {
        for (int64_t i = 0; i < n; ++i) piece[i] = to.of(piece[i]);
        convert(piece, DType::f32, element(c.out[0], at), c.out[0].dtype, n);
    });
}

int64_t rows_that_count(const Call& c) {
    const Tensor &x = c.in[0], &ends = c.in[2];
    return ends.present ? std::clamp<int64_t>(ends.as<int32_t>()[ends.count() - 1], 0, x.rows()) : x.rows();
}

void find_ranges(const Call& c, Team team) {
    float least = INFINITY, most = -INFINITY;
    const auto [first, last] = team.part(rows_that_count(c));
    each_piece(c.in[0], first, last, [&](int64_t, const float* piece, int64_t n) {
        const auto [low, high] = std::minmax_element(piece, piece + n);
        least = std::min(least, *low), most = std::max(most, *high);
    });
    auto* found = reinterpret_cast<float*>(c.scratch) + 2 * team.rank;
    found[0] = least, found[1] = most;
}

void move_range(const Call& c, Team team) {
    if (team.rank != 0) return;
    const auto* found = reinterpret_cast<const float*>(c.scratch);
    float now[2] = {found[0], found[1]};
    for (int t = 1; t < team.size; ++t) now[0] = std::min(now[0], found[2 * t]), now[1] = std::max(now[1], found[2 * t + 1]);
    const auto* range = c.in[1].as<float>();
    auto* moved = c.out[0].as<float>();
    const bool nothing = now[0] > now[1], fresh = range[0] == range[1];
    const auto momentum = static_cast<float>(c.attr<MovingRange>().momentum);
    for (int i = 0; i < 2; ++i) moved[i] = nothing ? range[i] : (fresh ? now[i] : range[i]) * momentum + now[i] * (1 - momentum);
}

Result<Prepared> prepare_range(const Request& request) { return Prepared{{find_ranges, move_range}, nullptr, 8 * request.threads}; }

const char* only_f32(const Request& request) {
    for (const Tensor& t : {request.in[0], request.out[0]})
        if (t.dtype != DType::f32 || !t.dense()) return "a tensor is not dense f32";
    return nullptr;
}

Result<Prepared> prepare(const Request& request) {
    const Groups g = groups_of(request.in[0], request.attr<FakeQuantize>());
    return Prepared{{ranges, quantize}, nullptr, g.count < request.threads ? 8 * g.count * request.threads : 0};
}

constexpr KernelImpl kQuantize[] = {{"ref", only_f32, prepare}, {"ref_low", only_dense, simple<quantize_low>}},
                     kMask[] = {{"ref", only_f32, simple<alone<mask>>}}, kWithin[] = {{"ref", accepts_all, simple<round_within>}},
                     kRange[] = {{"ref", accepts_all, prepare_range}};

}  // namespace

extern const KernelList fake_quantize = kQuantize;
extern const KernelList top_mask = kMask;
extern const KernelList quantize_within = kWithin;
extern const KernelList moving_range = kRange;

}  // namespace ds::ref
