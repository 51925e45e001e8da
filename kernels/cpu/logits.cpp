#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/logits.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/vec-inl.h"

#include "kernels/cpu/logits.h"

HWY_BEFORE_NAMESPACE();
namespace ds::cpu {
namespace HWY_NAMESPACE {
namespace {

float largest(const float* x, int64_t n) {
    const V low = hn::Set(d, -__builtin_inff());
    const int64_t step = lanes();
    V a = low, b = low;
    int64_t i = 0;
    for (; i + 2 * step <= n; i += 2 * step) {
        a = hn::Max(a, hn::LoadU(d, x + i));
        b = hn::Max(b, hn::LoadU(d, x + i + step));
    }
    for (; i + step <= n; i += step) a = hn::Max(a, hn::LoadU(d, x + i));
    float most = hn::GetLane(hn::MaxOfLanes(d, hn::Max(a, b)));
    for (; i < n; ++i) most = x[i] > most ? x[i] : most;
    return most;
}

int64_t first_largest(const float* x, int64_t n) {
    const float most = largest(x, n);
    const V m = hn::Set(d, most);
    const int64_t step = lanes();
    int64_t i = 0;
    for (; i + step <= n; i += step)
        if (!hn::AllFalse(d, hn::Eq(hn::LoadU(d, x + i), m))) break;
    for (; i < n; ++i)
        if (x[i] == most) return i;
    return 0;
}

// e^(x - m). The difference comes first: it is exact where it matters, near the largest.
HWY_INLINE V exp_of_difference(V x, V m) { return exp2_below_127(hn::Mul(hn::Sub(x, m), hn::Set(d, 1.44269504f))); }

float sum_of_exp(const float* x, int64_t n, float most) {
    const V m = hn::Set(d, most);
    return sum_each(n, [=](auto at) HWY_ATTR { return at.fill(exp_of_difference(at.load(x), m), hn::Zero(d)); });
}

void softmax_row(const float* x, int64_t n, float lse, float factor, float* y) {
    const V l = hn::Set(d, lse), s = hn::Set(d, factor);
    each(n, [=](auto at) HWY_ATTR { at.store(hn::Mul(exp_of_difference(at.load(x), l), s), y); });
}

void add_row(const float* x, int64_t n, float* y) {
    each(n, [=](auto at) HWY_ATTR { at.store(hn::Add(at.load(x), at.load(y)), y); });
}

void subtract(float* x, int64_t n, double what) {
    const hn::Rebind<float, hn::ScalableTag<double>> half;
    const hn::ScalableTag<double> dd;
    const int64_t step = static_cast<int64_t>(hn::Lanes(dd));
    int64_t i = 0;
    for (; i + step <= n; i += step)
        hn::StoreU(hn::DemoteTo(half, hn::Sub(hn::PromoteTo(dd, hn::LoadU(half, x + i)), hn::Set(dd, what))), half, x + i);
    for (; i < n; ++i) x[i] = static_cast<float>(static_cast<double>(x[i]) - what);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace ds::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <cmath>

namespace ds::cpu {
namespace {
HWY_EXPORT(largest);
HWY_EXPORT(first_largest);
HWY_EXPORT(sum_of_exp);
HWY_EXPORT(softmax_row);
HWY_EXPORT(add_row);
HWY_EXPORT(subtract);
}  // namespace

void Running::see(const float* x, int64_t n) {
    const float m = HWY_DYNAMIC_DISPATCH(largest)(x, n);
    if (m == -INFINITY) return;
    see(Running{m, HWY_DYNAMIC_DISPATCH(sum_of_exp)(x, n, m)});
}

void Running::see(const Running& other) {
    if (other.most == -INFINITY && other.total == 0) return;
    if (most == -INFINITY && total == 0) {
        *this = other;
        return;
    }
    const float m = most > other.most ? most : other.most;
    total = total * std::exp(most - m) + other.total * std::exp(other.most - m);
    most = m;
}

float Running::log() const { return most + std::log(total); }
float Running::loss(float label) const { return (most - label) + std::log(total); }

void softmax_of(const float* x, int64_t n, float lse, float factor, float* y) { HWY_DYNAMIC_DISPATCH(softmax_row)(x, n, lse, factor, y); }
float largest_of(const float* x, int64_t n) { return HWY_DYNAMIC_DISPATCH(largest)(x, n); }
int64_t place_of_largest(const float* x, int64_t n) { return HWY_DYNAMIC_DISPATCH(first_largest)(x, n); }
void take_off(float* x, int64_t n, double lse) { HWY_DYNAMIC_DISPATCH(subtract)(x, n, lse); }
void add_to(const float* x, int64_t n, float* y) { HWY_DYNAMIC_DISPATCH(add_row)(x, n, y); }

}  // namespace ds::cpu
#endif
