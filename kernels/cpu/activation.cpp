// Activations and their gradients.
//   gelu (Hendrycks, Gimpel 2016, arXiv 1606.08415):  x P(Z <= x), or with `tanh` x logistic(2 u), u = sqrt(2/pi) (x + 0.044715 x^3),
//   which equals x (1 + tanh u) / 2 without its cancellation.   silu: x logistic(x).
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/activation.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/vec-inl.h"

#include "kernels/cpu/map.h"
#include "ops/attrs.h"

HWY_BEFORE_NAMESPACE();
namespace ds::cpu {
namespace HWY_NAMESPACE {
namespace {

#define DS_MAP1(name, expression)                              \
    void name(const float* from, float* y, int64_t n, float) { \
        each(n, [=](auto at) HWY_ATTR {                        \
            const V x = at.load(from);                         \
            at.store(expression, y);                           \
        });                                                    \
    }
// dy and either x or the op's output, both under the name x
#define DS_MAP2(name, expression)                                         \
    void name(const float* dy, const float* from, float* dx, int64_t n) { \
        each(n, [=](auto at) HWY_ATTR {                                   \
            const V x = at.load(from);                                    \
            at.store(hn::Mul(at.load(dy), expression), dx);               \
        });                                                               \
    }

HWY_INLINE V silu_slope(V x) {  // s (1 + x (1 - s))
    const V s = logistic(x), one = hn::Set(d, 1.0f);
    return hn::Mul(s, hn::MulAdd(x, hn::Sub(one, s), one));
}
HWY_INLINE V gelu_of(V x) {
    V bell;
    return hn::Mul(x, normal_below(x, bell));
}
HWY_INLINE V gelu_slope(V x) {
    V bell;
    const V below = normal_below(x, bell);
    return hn::MulAdd(hn::Mul(x, bell), hn::Set(d, 0.398942280f), below);
}
constexpr float kTwoU = 1.59576912f;  // 2 sqrt(2 / pi)
HWY_INLINE V two_u(V x) {
    const V xx = hn::Mul(x, x);
    return hn::Mul(hn::Mul(x, hn::Set(d, kTwoU)), hn::MulAdd(xx, hn::Set(d, 0.044715f), hn::Set(d, 1.0f)));
}
HWY_INLINE V gelu_tanh_slope(V x) {  // s + x s (1 - s) (2 u)'
    const V s = logistic(two_u(x));
    const V slope = hn::Mul(hn::Set(d, kTwoU), hn::MulAdd(hn::Mul(x, x), hn::Set(d, 3 * 0.044715f), hn::Set(d, 1.0f)));
    return hn::MulAdd(hn::Mul(hn::Mul(x, slope), s), hn::Sub(hn::Set(d, 1.0f), s), s);
}

DS_MAP1(relu_f32, hn::IfThenZeroElse(hn::Lt(x, hn::Zero(d)), x))
DS_MAP1(tanh_f32, tanh_any(x))
DS_MAP1(silu_f32, hn::Mul(x, logistic(x)))
DS_MAP1(gelu_f32, gelu_of(x))
DS_MAP1(gelu_tanh_f32, hn::Mul(x, logistic(two_u(x))))
DS_MAP2(tanh_grad_f32, hn::NegMulAdd(x, x, hn::Set(d, 1.0f)))
DS_MAP2(silu_grad_f32, silu_slope(x))
DS_MAP2(gelu_grad_f32, gelu_slope(x))
DS_MAP2(gelu_tanh_grad_f32, gelu_tanh_slope(x))
void relu_grad_f32(const float* dy, const float* y, float* dx, int64_t n) {
    each(n, [=](auto at) HWY_ATTR { at.store(hn::IfThenElseZero(hn::Gt(at.load(y), hn::Zero(d)), at.load(dy)), dx); });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace ds::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ds::cpu {
namespace {

#define DS_PHASE1(name)     \
    HWY_EXPORT(name##_f32); \
    void name##_phase(const Call& call, Team team) { map1(call, team, HWY_DYNAMIC_DISPATCH(name##_f32)); }
#define DS_PHASE2(name)     \
    HWY_EXPORT(name##_f32); \
    void name##_phase(const Call& call, Team team) { map2(call, team, HWY_DYNAMIC_DISPATCH(name##_f32)); }
DS_PHASE1(relu)
DS_PHASE1(tanh)
DS_PHASE1(silu)
DS_PHASE1(gelu)
DS_PHASE1(gelu_tanh)
DS_PHASE2(relu_grad)
DS_PHASE2(tanh_grad)
DS_PHASE2(silu_grad)
DS_PHASE2(gelu_grad)
DS_PHASE2(gelu_tanh_grad)

const char* tanh_form(const Request& r) { return r.attr<Gelu>().tanh ? floats_only(r) : "the exact form is asked for"; }

constexpr KernelImpl kRelu[] = {{"simd", floats_only, simd<relu_phase>}};
constexpr KernelImpl kReluGrad[] = {{"simd", floats_only, simd<relu_grad_phase>}};
constexpr KernelImpl kTanh[] = {{"simd", floats_only, simd<tanh_phase>}};
constexpr KernelImpl kTanhGrad[] = {{"simd", floats_only, simd<tanh_grad_phase>}};
constexpr KernelImpl kSilu[] = {{"simd", floats_only, simd<silu_phase>}};
constexpr KernelImpl kSiluGrad[] = {{"simd", floats_only, simd<silu_grad_phase>}};
constexpr KernelImpl kGelu[] = {{"simd_tanh", tanh_form, simd<gelu_tanh_phase>}, {"simd", floats_only, simd<gelu_phase>}};
constexpr KernelImpl kGeluGrad[] = {{"simd_tanh", tanh_form, simd<gelu_tanh_grad_phase>}, {"simd", floats_only, simd<gelu_grad_phase>}};

}  // namespace

const KernelList relu{kRelu}, relu_grad{kReluGrad}, tanh{kTanh}, tanh_grad{kTanhGrad}, silu{kSilu}, silu_grad{kSiluGrad}, gelu{kGelu},
    gelu_grad{kGeluGrad};

}  // namespace ds::cpu
#endif
