// Vectors of f32 for the kernels of this folder, compiled once for each instruction level by Highway's foreach_target: loops over arrays
// with ends handled, sums, and exp, tanh, logistic and normal distribution functions accurate to a few units in the last place. Polynomials
// were fitted by weighted least squares on Chebyshev nodes (Lawson's iteration) against f64.
#if defined(DS_KERNELS_CPU_VEC_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef DS_KERNELS_CPU_VEC_INL_H
#undef DS_KERNELS_CPU_VEC_INL_H
#else
#define DS_KERNELS_CPU_VEC_INL_H
#endif

#include <hwy/highway.h>

#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace ds::cpu {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<float>;
using DI = hn::RebindToSigned<D>;
using V = hn::Vec<D>;
using VI = hn::Vec<DI>;
constexpr D d;
constexpr DI di;
HWY_INLINE int64_t lanes() { return static_cast<int64_t>(hn::Lanes(d)); }

// The first n < lanes() elements at p, zero beyond; nothing beyond is read.
HWY_INLINE V load_n(const float* p, int64_t n) {
#if HWY_MEM_OPS_MIGHT_FAULT
    HWY_ALIGN float buffer[HWY_LANES(float)] = {};
    for (int64_t i = 0; i < n; ++i) buffer[i] = p[i];
    return hn::Load(d, buffer);
#else
    return hn::MaskedLoad(hn::FirstN(d, static_cast<size_t>(n)), d, p);
#endif
}

// As many bf16 at p as the tag has lanes, as f32.
template <class DF>
HWY_INLINE hn::Vec<DF> load_bf16(DF df, const void* p) {
    const auto halves = hn::LoadU(hn::Rebind<uint16_t, DF>(), static_cast<const uint16_t*>(p));
    return hn::BitCast(df, hn::ShiftLeft<16>(hn::PromoteTo(hn::RebindToUnsigned<DF>(), halves)));
}

HWY_INLINE void store_n(V v, float* p, int64_t n) {
#if HWY_MEM_OPS_MIGHT_FAULT
    HWY_ALIGN float buffer[HWY_LANES(float)];
    hn::Store(v, d, buffer);
    for (int64_t i = 0; i < n; ++i) p[i] = buffer[i];
#else
    hn::BlendedStore(v, hn::FirstN(d, static_cast<size_t>(n)), d, p);
#endif
}

// A place in an array: load(p) gives the vector at p + i, store(v, p) writes it. Part is what is left at the end, shorter than a vector:
// its loads give zero beyond the end; `fill` puts another value there.
struct Whole {
    int64_t i;
    HWY_INLINE V load(const float* p) const { return hn::LoadU(d, p + i); }
    HWY_INLINE void store(V v, float* p) const { hn::StoreU(v, d, p + i); }
    HWY_INLINE V fill(V v, V) const { return v; }
};
struct Part {
    int64_t i, n;
    HWY_INLINE V load(const float* p) const { return load_n(p + i, n); }
    HWY_INLINE void store(V v, float* p) const { store_n(v, p + i, n); }
    HWY_INLINE V fill(V v, V other) const { return hn::IfThenElse(hn::FirstN(d, static_cast<size_t>(n)), v, other); }
};

// f(place) over [0, n).
template <class F>
HWY_INLINE void each(int64_t n, const F& f) {
    const int64_t step = lanes();
    int64_t i = 0;
    for (; i + step <= n; i += step) f(Whole{i});
    if (i < n) f(Part{i, n - i});
}

HWY_INLINE float total(V v) { return hn::GetLane(hn::SumOfLanes(d, v)); }

// The sum over [0, n) of f(place), which must give zero beyond the end. Four running sums hide the latency of additions.
template <class F>
HWY_INLINE float sum_each(int64_t n, const F& f) {
    const int64_t step = lanes();
    V s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
    int64_t i = 0;
    for (; i + 4 * step <= n; i += 4 * step) {
        s0 = hn::Add(s0, f(Whole{i}));
        s1 = hn::Add(s1, f(Whole{i + step}));
        s2 = hn::Add(s2, f(Whole{i + 2 * step}));
        s3 = hn::Add(s3, f(Whole{i + 3 * step}));
    }
    for (; i + step <= n; i += step) s0 = hn::Add(s0, f(Whole{i}));
    if (i < n) s1 = hn::Add(s1, f(Part{i, n - i}));
    return total(hn::Add(hn::Add(s0, s1), hn::Add(s2, s3)));
}

// 2^n for n in [-126, 127].
HWY_INLINE V power_of_two(VI n) { return hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(n, hn::Set(di, 127)))); }

// x = n ln 2 + r with |r| <= ln 2 / 2; gives e^r - 1, for |x| < 1e4.
HWY_INLINE V exp_reduced(V x, VI& n) {
    n = hn::NearestInt(hn::Mul(x, hn::Set(d, 1.44269504f)));
    const V k = hn::ConvertTo(d, n);
    V r = hn::NegMulAdd(k, hn::Set(d, 0.693359375f), x);  // the constant has 9 bits: this product is exact
    r = hn::NegMulAdd(k, hn::Set(d, -2.12194440e-4f), r);
    V p = hn::MulAdd(r, hn::Set(d, 0.001388251082971692f), hn::Set(d, 0.008366547524929047f));
    p = hn::MulAdd(p, r, hn::Set(d, 0.04166720062494278f));
    p = hn::MulAdd(p, r, hn::Set(d, 0.1666654348373413f));
    p = hn::MulAdd(p, r, hn::Set(d, 0.5f));
    return hn::MulAdd(hn::Mul(r, r), p, r);
}

// The bounds of x; a NaN in x passes through, as x86's own min and max give their second operand then. Arm's give the bound.
HWY_INLINE V at_least(V bound, V x) {
    return HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR ? hn::Max(bound, x) : hn::IfThenElse(hn::Lt(x, bound), bound, x);
}
HWY_INLINE V at_most(V bound, V x) {
    return HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR ? hn::Min(bound, x) : hn::IfThenElse(hn::Gt(x, bound), bound, x);
}
HWY_INLINE V at_least(float low, V x) { return at_least(hn::Set(d, low), x); }
HWY_INLINE V at_most(float high, V x) { return at_most(hn::Set(d, high), x); }

// e^x for every x: infinity above, subnormals below.
HWY_INLINE V exp_any(V x) {
    x = at_least(-105.0f, at_most(89.0f, x));
    VI n;
    const V q = exp_reduced(x, n);
    const VI half = hn::ShiftRight<1>(n);
    const V p = hn::Add(q, hn::Set(d, 1.0f));
    return hn::Mul(hn::Mul(p, power_of_two(half)), power_of_two(hn::Sub(n, half)));
}

// e^x for x < 88; below the smallest normal number the result is zero.
HWY_INLINE V exp_below_88(V x) {
    constexpr float kLow = -87.3f;
    VI n;
    const V p = hn::Add(exp_reduced(at_least(kLow, x), n), hn::Set(d, 1.0f));
    return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, kLow)), hn::Mul(p, power_of_two(n)));
}

// 2^x for x < 127; below the smallest normal number the result is zero. With base 2 the reduction is exact, and the polynomial's error
// 1e-7.
HWY_INLINE V exp2_below_127(V x) {
    constexpr float kLow = -126.0f;
    if (HWY_TARGET == HWY_SCALAR) x = at_least(2 * kLow, x);  // its conversion wants numbers that fit
    const VI n = hn::NearestInt(x);
    const V r = hn::Sub(x, hn::ConvertTo(d, n));
    V p = hn::MulAdd(r, hn::Set(d, 0.001326469937339425f), hn::Set(d, 0.009671533480286598f));
    p = hn::MulAdd(p, r, hn::Set(d, 0.05550733953714371f));
    p = hn::MulAdd(p, r, hn::Set(d, 0.24022242426872253f));
    p = hn::MulAdd(p, r, hn::Set(d, 0.6931470036506653f));
    p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
    const V y = hn::BitCast(d, hn::Add(hn::BitCast(di, p), hn::ShiftLeft<23>(n)));
    return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, kLow)), y);
}

// 1 / (1 + e^-x).
HWY_INLINE V logistic(V x) {
    const V one = hn::Set(d, 1.0f);
    return hn::Div(one, hn::Add(one, exp_below_88(at_most(87.5f, hn::Neg(x)))));
}

// tanh |x| = -e / (e + 2) with e = exp(-2 |x|) - 1, which keeps small x exact.
HWY_INLINE V tanh_any(V x) {
    VI n;
    const V q = exp_reduced(at_least(-40.0f, hn::Mul(hn::Abs(x), hn::Set(d, -2.0f))), n);
    const V scale = power_of_two(n);
    const V e = hn::MulAdd(scale, q, hn::Sub(scale, hn::Set(d, 1.0f)));
    return hn::CopySign(hn::Div(e, hn::Add(e, hn::Set(d, 2.0f))), x);
}

// P(Z <= x) of the standard normal distribution; `bell` becomes exp(-x^2 / 2). The tail beyond |x| is bell * R(1 / (1 + 0.3 |x|)), R of
// degree 8.
HWY_INLINE V normal_below(V x, V& bell) {
    const V a = hn::Abs(x), one = hn::Set(d, 1.0f);
    bell = exp_below_88(hn::Mul(hn::Mul(a, a), hn::Set(d, -0.5f)));
    const V t = hn::Div(one, hn::MulAdd(a, hn::Set(d, 0.3f), one));
    V r = hn::MulAdd(t, hn::Set(d, 0.03837840259075165f), hn::Set(d, -0.16916663944721222f));
    r = hn::MulAdd(r, t, hn::Set(d, 0.22866109013557434f));
    r = hn::MulAdd(r, t, hn::Set(d, -0.0765075534582138f));
    r = hn::MulAdd(r, t, hn::Set(d, 0.1425362080335617f));
    r = hn::MulAdd(r, t, hn::Set(d, 0.09468325972557068f));
    r = hn::MulAdd(r, t, hn::Set(d, 0.1219203993678093f));
    r = hn::MulAdd(r, t, hn::Set(d, 0.11948768049478531f));
    r = hn::MulAdd(r, t, hn::Set(d, 7.169252057792619e-06f));
    const V tail = hn::Mul(bell, r);
    return hn::IfThenElse(hn::Lt(x, hn::Zero(d)), tail, hn::Sub(one, tail));
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace ds::cpu
HWY_AFTER_NAMESPACE();

#endif
