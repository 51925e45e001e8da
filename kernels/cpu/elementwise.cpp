// add, sub, mul, div with numpy broadcasting; exp, log, sqrt, scale, cast.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/elementwise.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/vec-inl.h"
#include <hwy/contrib/math/math-inl.h>

#include "kernels/cpu/map.h"
#include "ops/attrs.h"

HWY_BEFORE_NAMESPACE();
namespace ds::cpu {
namespace HWY_NAMESPACE {
namespace {

// Highway's Log is for positive finite numbers.
HWY_INLINE V log_any(V x) {
    const V infinity = hn::Inf(d);
    V y = hn::Log(d, x);
    y = hn::IfThenElse(hn::Eq(x, infinity), infinity, y);
    y = hn::IfThenElse(hn::Eq(x, hn::Zero(d)), hn::Neg(infinity), y);
    return hn::IfThenElse(hn::Ge(x, hn::Zero(d)), y, hn::NaN(d));
}

void exp_f32(const float* x, float* y, int64_t n, float) {
    each(n, [=](auto at) HWY_ATTR { at.store(exp_any(at.load(x)), y); });
}
void log_f32(const float* x, float* y, int64_t n, float) {
    each(n, [=](auto at) HWY_ATTR { at.store(log_any(at.load(x)), y); });
}
void sqrt_f32(const float* x, float* y, int64_t n, float) {
    each(n, [=](auto at) HWY_ATTR { at.store(hn::Sqrt(at.load(x)), y); });
}
void scale_f32(const float* x, float* y, int64_t n, float factor) {
    const V f = hn::Set(d, factor);
    each(n, [=](auto at) HWY_ATTR { at.store(hn::Mul(at.load(x), f), y); });
}

// One side may be a single value that serves all n elements.
template <class F>
HWY_INLINE void binary(const float* a, const float* b, float* y, int64_t n, bool one_a, bool one_b, const F& f) {
    if (one_b) {
        const V v = hn::Set(d, *b);
        each(n, [=](auto at) HWY_ATTR { at.store(f(at.load(a), v), y); });
    } else if (one_a) {
        const V v = hn::Set(d, *a);
        each(n, [=](auto at) HWY_ATTR { at.store(f(v, at.load(b)), y); });
    } else {
        each(n, [=](auto at) HWY_ATTR { at.store(f(at.load(a), at.load(b)), y); });
    }
}
#define DS_BINARY(name, op)                                                                  \
    void name(const float* a, const float* b, float* y, int64_t n, bool one_a, bool one_b) { \
        binary(a, b, y, n, one_a, one_b, [](V p, V q) HWY_ATTR { return hn::op(p, q); });    \
    }
DS_BINARY(add_f32, Add)
DS_BINARY(sub_f32, Sub)
DS_BINARY(mul_f32, Mul)
DS_BINARY(div_f32, Div)

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace ds::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <cstring>

namespace ds::cpu {
namespace {

using Binary = void (*)(const float* a, const float* b, float* y, int64_t n, bool one_a, bool one_b);

// How an operand is walked along with the rows of the output: which of its rows goes with which, and whether one value serves a whole row.
struct Side {
    const Tensor& t;
    bool one_column, one_value, same;
    int64_t stride[kMaxRank] = {};  // in rows, for each leading dimension of the output; 0 where broadcast

    Side(const Tensor& tensor, const Tensor& y)
        : t(tensor), one_column(t.columns() == 1 && y.columns() != 1), one_value(t.count() == 1), same(t.count() == y.count()) {
        int64_t rows = 1;
        for (int i = t.rank - 2, o = y.rank - 2; i >= 0; --i, --o) {
            if (t.dims[i] != 1) stride[o] = rows;
            rows *= t.dims[i];
        }
    }
    int64_t row(int64_t of_output, const Tensor& y) const {
        if (same) return of_output;
        int64_t row = 0;
        for (int i = y.rank - 2; i >= 0; --i) {
            row += of_output % y.dims[i] * stride[i];
            of_output /= y.dims[i];
        }
        return row;
    }
    const float* block(int64_t row, int64_t column, int64_t n, float* buffer) const {
        return one_value || one_column ? read(t, row, 0, 1, buffer) : read(t, row, column, n, buffer);
    }
};

void run_binary(const Call& call, Team team, Binary function) {
    const Tensor& y = call.out[0];
    const Side a(call.in[0], y), b(call.in[1], y);
    const auto flat = [](const Side& s) { return s.one_value || (s.same && s.t.dense()); };
    const bool one_a = a.one_value || a.one_column, one_b = b.one_value || b.one_column;
    const bool all_flat = flat(a) && flat(b) && y.dense();
    int64_t last = -1, row_a = 0, row_b = 0;
    blocks(all_flat, y.rows(), y.columns(), team, [&](int64_t row, int64_t column, int64_t n) {
        alignas(64) float left[kBlock], right[kBlock], to[kBlock];
        if (row != last && !all_flat) row_a = a.row(row, y), row_b = b.row(row, y), last = row;
        const Out out(y, row, column, to);
        function(a.block(row_a, column, n, left), b.block(row_b, column, n, right), out.data(), n, one_a, one_b);
        out.done(n);
    });
}

HWY_EXPORT(exp_f32);
HWY_EXPORT(log_f32);
HWY_EXPORT(sqrt_f32);
HWY_EXPORT(scale_f32);
HWY_EXPORT(add_f32);
HWY_EXPORT(sub_f32);
HWY_EXPORT(mul_f32);
HWY_EXPORT(div_f32);

void exp_phase(const Call& c, Team t) { map1(c, t, HWY_DYNAMIC_DISPATCH(exp_f32)); }
void log_phase(const Call& c, Team t) { map1(c, t, HWY_DYNAMIC_DISPATCH(log_f32)); }
void sqrt_phase(const Call& c, Team t) { map1(c, t, HWY_DYNAMIC_DISPATCH(sqrt_f32)); }
void scale_phase(const Call& c, Team t) { map1(c, t, HWY_DYNAMIC_DISPATCH(scale_f32), static_cast<float>(c.attr<Scale>().factor)); }
void add_phase(const Call& c, Team t) { run_binary(c, t, HWY_DYNAMIC_DISPATCH(add_f32)); }
void sub_phase(const Call& c, Team t) { run_binary(c, t, HWY_DYNAMIC_DISPATCH(sub_f32)); }
void mul_phase(const Call& c, Team t) { run_binary(c, t, HWY_DYNAMIC_DISPATCH(mul_f32)); }
void div_phase(const Call& c, Team t) { run_binary(c, t, HWY_DYNAMIC_DISPATCH(div_f32)); }

void cast_phase(const Call& call, Team team) {
    const Tensor &x = call.in[0], &y = call.out[0];
    blocks(x.dense() && y.dense(), y.rows(), y.columns(), team, [&](int64_t row, int64_t column, int64_t n) {
        if (x.dtype == y.dtype) {
            std::memmove(address(y, row, column), address(x, row, column), static_cast<size_t>(n * float_size(x.dtype)));
            return;
        }
        alignas(64) float buffer[kBlock];
        const Out out(y, row, column, buffer);
        to_f32(address(x, row, column), x.dtype, n, out.data());
        out.done(n);
    });
}

// Integers, f64 and the 8-bit floats; not a hot path.
void cast_any_phase(const Call& call, Team team) {
    const Tensor &x = call.in[0], &y = call.out[0];
    const auto [begin, end] = team.part(y.rows());
    for (int64_t row = begin; row < end; ++row)
        convert(x.as<std::byte>() + row * x.row_stride * size_of(x.dtype), x.dtype,
                y.as<std::byte>() + row * y.row_stride * size_of(y.dtype), y.dtype, y.columns());
}

constexpr KernelImpl kExp[] = {{"simd", floats_only, simd<exp_phase>}};
constexpr KernelImpl kLog[] = {{"simd", floats_only, simd<log_phase>}};
constexpr KernelImpl kSqrt[] = {{"simd", floats_only, simd<sqrt_phase>}};
constexpr KernelImpl kScale[] = {{"simd", floats_only, simd<scale_phase>}};
constexpr KernelImpl kCast[] = {{"simd", floats_only, simd<cast_phase>}, {"any", accepts_all, simd<cast_any_phase>}};
constexpr KernelImpl kAdd[] = {{"simd", floats_only, simd<add_phase>}};
constexpr KernelImpl kSub[] = {{"simd", floats_only, simd<sub_phase>}};
constexpr KernelImpl kMul[] = {{"simd", floats_only, simd<mul_phase>}};
constexpr KernelImpl kDiv[] = {{"simd", floats_only, simd<div_phase>}};

}  // namespace

const KernelList exp{kExp}, log{kLog}, sqrt{kSqrt}, scale{kScale}, cast{kCast}, add{kAdd}, sub{kSub}, mul{kMul}, div{kDiv};

}  // namespace ds::cpu
#endif
