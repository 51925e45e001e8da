// f32 <-> bf16 and f16, rounding to nearest even; a NaN stays one.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/convert.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/vec-inl.h"

#include "kernels/cpu/convert.h"
#include "kernels/cpu/level.h"

HWY_BEFORE_NAMESPACE();
namespace ds::cpu {
namespace HWY_NAMESPACE {
namespace {

using D16 = hn::Rebind<uint16_t, D>;
using DH = hn::Rebind<hwy::float16_t, D>;
using DU = hn::RebindToUnsigned<D>;
constexpr D16 d16;
constexpr DU du;

void bf16_to_f32(const uint16_t* x, int64_t n, float* y) {
    const int64_t step = lanes();
    int64_t i = 0;
    for (; i + step <= n; i += step) hn::StoreU(load_bf16(d, x + i), d, y + i);
    for (; i < n; ++i) y[i] = ds::to_f32(BF16{x[i]});
}

HWY_INLINE hn::Vec<D16> bf16_of(V x) {
    const auto u = hn::BitCast(du, x);
    const auto odd = hn::And(hn::ShiftRight<16>(u), hn::Set(du, 1));
    const auto rounded = hn::Add(u, hn::Add(odd, hn::Set(du, 0x7fff)));
    const auto nan = hn::Or(u, hn::Set(du, 0x400000));
    const auto bits = hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(x)), nan, rounded);
    return hn::DemoteTo(d16, hn::BitCast(di, hn::ShiftRight<16>(bits)));
}

void f32_to_bf16(const float* x, int64_t n, uint16_t* y) {
    const int64_t step = lanes();
    int64_t i = 0;
    for (; i + step <= n; i += step) hn::StoreU(bf16_of(hn::LoadU(d, x + i)), d16, y + i);
    for (; i < n; ++i) y[i] = to_bf16(x[i]).bits;
}

// Without the F16C instructions the scalar conversions serve.
void f16_to_f32(const uint16_t* x, int64_t n, float* y) {
    int64_t i = 0;
#if HWY_TARGET <= HWY_AVX2
    const DH dh;
    for (const int64_t step = lanes(); i + step <= n; i += step)
        hn::StoreU(hn::PromoteTo(d, hn::LoadU(dh, reinterpret_cast<const hwy::float16_t*>(x) + i)), d, y + i);
#endif
    for (; i < n; ++i) y[i] = ds::to_f32(F16{x[i]});
}

void f32_to_f16(const float* x, int64_t n, uint16_t* y) {
    int64_t i = 0;
#if HWY_TARGET <= HWY_AVX2
    const DH dh;
    for (const int64_t step = lanes(); i + step <= n; i += step)
        hn::StoreU(hn::DemoteTo(dh, hn::LoadU(d, x + i)), dh, reinterpret_cast<hwy::float16_t*>(y) + i);
#endif
    for (; i < n; ++i) y[i] = to_f16(x[i]).bits;
}

}  // namespace

void widen(const void* x, DType type, int64_t n, float* y) {
    if (type == DType::bf16) bf16_to_f32(static_cast<const uint16_t*>(x), n, y);
    else f16_to_f32(static_cast<const uint16_t*>(x), n, y);
}

void narrow(const float* x, int64_t n, DType type, void* y) {
    if (type == DType::bf16) f32_to_bf16(x, n, static_cast<uint16_t*>(y));
    else f32_to_f16(x, n, static_cast<uint16_t*>(y));
}

}  // namespace HWY_NAMESPACE
}  // namespace ds::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <cstring>

namespace ds::cpu {
namespace {
HWY_EXPORT(widen);
HWY_EXPORT(narrow);
}  // namespace

void to_f32(const void* x, DType type, int64_t n, float* y) {
    if (type == DType::f32) std::memmove(y, x, static_cast<size_t>(n) * 4);
    else HWY_DYNAMIC_DISPATCH(widen)(x, type, n, y);
}

void from_f32(const float* x, int64_t n, DType type, void* y) {
    if (type == DType::f32) std::memmove(y, x, static_cast<size_t>(n) * 4);
    else HWY_DYNAMIC_DISPATCH(narrow)(x, n, type, y);
}

}  // namespace ds::cpu
#endif
