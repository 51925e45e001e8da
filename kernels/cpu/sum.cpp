// sum over axes (+ into), in an order that depends on shapes only. Adjacent axes of one kind are merged, so that x is [outer, reduced,
// inner]: inner > 1 adds rows (bias gradients), inner = 1 adds along rows. Long reductions are cut into blocks whose sums are added in a
// second phase.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/sum.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/vec-inl.h"

#include "kernels/cpu/map.h"
#include "ops/attrs.h"

HWY_BEFORE_NAMESPACE();
namespace ds::cpu {
namespace HWY_NAMESPACE {
namespace {

float sum_f32(const float* x, int64_t n) {
    return sum_each(n, [=](auto at) HWY_ATTR { return at.load(x); });
}
void add_1(float* sums, const float* a, int64_t n) {
    each(n, [=](auto at) HWY_ATTR { at.store(hn::Add(at.load(sums), at.load(a)), sums); });
}
void add_4(float* sums, const float* a, const float* b, const float* c, const float* e, int64_t n) {
    each(n, [=](auto at) HWY_ATTR {
        const V four = hn::Add(hn::Add(at.load(a), at.load(b)), hn::Add(at.load(c), at.load(e)));
        at.store(hn::Add(at.load(sums), four), sums);
    });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace ds::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <cstring>

namespace ds::cpu {
namespace {
HWY_EXPORT(sum_f32);
HWY_EXPORT(add_1);
HWY_EXPORT(add_4);

struct Shape3 {
    int64_t outer = 1, reduced = 1, inner = 1;
    int64_t outer_pitch = 0, reduced_pitch = 0;  // elements of x between neighbours
    int64_t block = 1, blocks = 1;               // of the reduced axis
};

// False where the reduced axes are not one run.
bool merge(const Tensor& x, const Reduce& attrs, Shape3& s) {
    bool reduce[kMaxRank] = {};
    for (int64_t axis : attrs.axes) reduce[axis < 0 ? axis + x.rank : axis] = true;
    int stage = 0;  // 0: outer, 1: reduced, 2: inner
    for (int i = 0; i < x.rank; ++i) {
        if (x.dims[i] == 1) continue;
        const bool r = reduce[i] || attrs.axes.empty();
        if (r ? stage == 2 : false) return false;
        if (r) stage = 1;
        else if (stage == 1) stage = 2;
        (stage == 0 ? s.outer : stage == 1 ? s.reduced : s.inner) *= x.dims[i];
    }
    s.outer_pitch = s.reduced * s.inner;
    s.reduced_pitch = s.inner;
    if (!x.dense() && x.rows() > 1) {  // only where whole rows are added, or added along
        if (s.inner == x.columns() && s.outer == 1 && s.inner > 1) s.reduced_pitch = x.row_stride;
        else if (s.inner == 1 && s.reduced == x.columns()) s.outer_pitch = x.row_stride;
        else return false;
    }
    s.block = s.inner == 1 ? 8 * kBlock : std::max<int64_t>(32, (s.reduced + 31) / 32);
    s.blocks = std::max<int64_t>(1, (s.reduced + s.block - 1) / s.block);
    return true;
}

const char* declines(const Request& request) {
    Shape3 s;
    if (const char* why = floats_only(request)) return why;
    if (!request.out[0].dense() && request.out[0].count() > 1) return "the result is not dense";
    if (request.in[1].present && !request.in[1].dense() && request.in[1].count() > 1) return "into is not dense";
    return merge(request.in[0], request.attr<Reduce>(), s) ? nullptr : "the reduced axes are not adjacent";
}

const Shape3& shape(const Call& call) { return *static_cast<const Shape3*>(call.state); }
float* partial(const Call& call) { return reinterpret_cast<float*>(call.scratch); }

const float* source(const Tensor& x, int64_t index, int64_t n, float* buffer) { return read(x, 0, index, n, buffer); }

// Results [index, index + n) from sums, adding into.
void finish(const Call& call, int64_t index, int64_t n, float* sums) {
    alignas(64) float buffer[kBlock];
    if (call.in[1].present) HWY_DYNAMIC_DISPATCH(add_1)(sums, read(call.in[1], 0, index, n, buffer), n);
    from_f32(sums, n, call.out[0].dtype, address(call.out[0], 0, index));
}

void along_rows(const Call& call, Team team) {
    const Shape3& s = shape(call);
    const auto [begin, end] = team.part(s.outer * s.blocks);
    for (int64_t item = begin; item < end; ++item) {
        const int64_t outer = item / s.blocks, first = item % s.blocks * s.block, last = std::min(s.reduced, first + s.block);
        float sum = 0;
        for (int64_t i = first; i < last; i += kBlock) {
            alignas(64) float buffer[kBlock];
            const int64_t n = std::min(kBlock, last - i);
            sum += HWY_DYNAMIC_DISPATCH(sum_f32)(source(call.in[0], outer * s.outer_pitch + i, n, buffer), n);
        }
        if (s.blocks == 1) finish(call, outer, 1, &sum);
        else partial(call)[item] = sum;
    }
}

void along_rows_end(const Call& call, Team team) {
    const Shape3& s = shape(call);
    const auto [begin, end] = team.part(s.outer);
    for (int64_t outer = begin; outer < end; ++outer) {
        double sum = 0;
        for (int64_t b = 0; b < s.blocks; ++b) sum += partial(call)[outer * s.blocks + b];
        float result = static_cast<float>(sum);
        finish(call, outer, 1, &result);
    }
}

// Adds rows [first, last) of x, columns [column, column + n), to sums.
void add_rows(const Tensor& x, const Shape3& s, int64_t outer, int64_t first, int64_t last, int64_t column, int64_t n, float* sums) {
    alignas(64) float buffer[4][kBlock];
    const auto row = [&](int64_t i, int which) {
        return source(x, outer * s.outer_pitch + i * s.reduced_pitch + column, n, buffer[which]);
    };
    int64_t i = first;
    for (; i + 4 <= last; i += 4) HWY_DYNAMIC_DISPATCH(add_4)(sums, row(i, 0), row(i + 1, 1), row(i + 2, 2), row(i + 3, 3), n);
    for (; i < last; ++i) HWY_DYNAMIC_DISPATCH(add_1)(sums, row(i, 0), n);
}

void across_rows(const Call& call, Team team) {
    const Shape3& s = shape(call);
    const int64_t tiles = (s.inner + kBlock - 1) / kBlock;
    const auto [begin, end] = team.part(s.outer * s.blocks * tiles);
    for (int64_t item = begin; item < end; ++item) {
        const int64_t tile = item % tiles, block = item / tiles % s.blocks, outer = item / tiles / s.blocks;
        const int64_t column = tile * kBlock, n = std::min(kBlock, s.inner - column), first = block * s.block;
        alignas(64) float sums[kBlock] = {};
        add_rows(call.in[0], s, outer, first, std::min(s.reduced, first + s.block), column, n, sums);
        if (s.blocks == 1) finish(call, outer * s.inner + column, n, sums);
        else std::memcpy(partial(call) + (outer * s.blocks + block) * s.inner + column, sums, static_cast<size_t>(n) * 4);
    }
}

void across_rows_end(const Call& call, Team team) {
    const Shape3& s = shape(call);
    const int64_t step = 64, tiles = (s.inner + step - 1) / step;
    const auto [begin, end] = team.part(s.outer * tiles);
    for (int64_t item = begin; item < end; ++item) {
        const int64_t outer = item / tiles, column = item % tiles * step, n = std::min(step, s.inner - column);
        alignas(64) float sums[64] = {};
        for (int64_t b = 0; b < s.blocks; ++b)
            HWY_DYNAMIC_DISPATCH(add_1)(sums, partial(call) + (outer * s.blocks + b) * s.inner + column, n);
        finish(call, outer * s.inner + column, n, sums);
    }
}

Result<Prepared> prepare(const Request& request) {
    level();
    auto s = std::make_shared<Shape3>();
    merge(request.in[0], request.attr<Reduce>(), *s);
    Prepared p;
    p.phases = {s->inner == 1 ? along_rows : across_rows};
    if (s->blocks > 1) p.phases.push_back(s->inner == 1 ? along_rows_end : across_rows_end);
    p.scratch_bytes = s->blocks > 1 ? s->outer * s->blocks * s->inner * 4 : 0;
    p.state = std::move(s);
    return p;
}

constexpr KernelImpl kSum[] = {{"simd", declines, prepare}};

}  // namespace

const KernelList sum{kSum};

}  // namespace ds::cpu
#endif
