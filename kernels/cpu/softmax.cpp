// softmax over the last dimension, y = exp(x - max x) / sum, and its gradient dx = y (dy - sum(dy y)).
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/softmax.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/vec-inl.h"

#include "kernels/cpu/map.h"

HWY_BEFORE_NAMESPACE();
namespace ds::cpu {
namespace HWY_NAMESPACE {
namespace {

void softmax_row(const float* x, float* y, int64_t n) {
    const V lowest = hn::Neg(hn::Inf(d));
    V most = lowest;
    each(n, [&](auto at) HWY_ATTR { most = hn::Max(most, at.fill(at.load(x), lowest)); });
    const V top = hn::MaxOfLanes(d, most);
    const float sum = sum_each(n, [=](auto at) HWY_ATTR {
        const V e = exp_below_88(hn::Sub(at.load(x), top));
        at.store(e, y);
        return at.fill(e, hn::Zero(d));
    });
    const V scale = hn::Set(d, 1.0f / sum);
    each(n, [=](auto at) HWY_ATTR { at.store(hn::Mul(at.load(y), scale), y); });
}

void softmax_grad_row(const float* dy, const float* y, float* dx, int64_t n) {
    const V dot = hn::Set(d, sum_each(n, [=](auto at) HWY_ATTR { return hn::Mul(at.load(dy), at.load(y)); }));
    each(n, [=](auto at) HWY_ATTR { at.store(hn::Mul(at.load(y), hn::Sub(at.load(dy), dot)), dx); });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace ds::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ds::cpu {
namespace {
HWY_EXPORT(softmax_row);
HWY_EXPORT(softmax_grad_row);

constexpr int kArrays = 3;  // of staged rows a thread

void softmax_phase(const Call& call, Team team) {
    const Tensor &x = call.in[0], &y = call.out[0];
    const int64_t n = y.columns();
    const auto row_function = HWY_DYNAMIC_DISPATCH(softmax_row);
    const auto [begin, end] = team.part(y.rows());
    for (int64_t row = begin; row < end; ++row) {
        const Out out(y, row, 0, own_array(call, team, kArrays, n, 1));
        row_function(read(x, row, 0, n, own_array(call, team, kArrays, n, 0)), out.data(), n);
        out.done(n);
    }
}

void softmax_grad_phase(const Call& call, Team team) {
    const Tensor &dy = call.in[0], &y = call.in[1], &dx = call.out[0];
    const int64_t n = y.columns();
    const auto row_function = HWY_DYNAMIC_DISPATCH(softmax_grad_row);
    const auto [begin, end] = team.part(y.rows());
    for (int64_t row = begin; row < end; ++row) {
        const Out out(dx, row, 0, own_array(call, team, kArrays, n, 2));
        row_function(read(dy, row, 0, n, own_array(call, team, kArrays, n, 0)), read(y, row, 0, n, own_array(call, team, kArrays, n, 1)),
                     out.data(), n);
        out.done(n);
    }
}

template <Phase phase>
Result<Prepared> rowwise(const Request& request) {
    level();
    return Prepared{{phase}, nullptr, request.threads * kArrays * padded(request.out[0].columns()) * 4};
}

constexpr KernelImpl kSoftmax[] = {{"simd", floats_only, rowwise<softmax_phase>}};
constexpr KernelImpl kSoftmaxGrad[] = {{"simd", floats_only, rowwise<softmax_grad_phase>}};

}  // namespace

const KernelList softmax{kSoftmax}, softmax_grad{kSoftmaxGrad};

}  // namespace ds::cpu
#endif
