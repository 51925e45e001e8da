// layernorm (Ba, Kiros, Hinton 2016, arXiv 1607.06450):  y = (x - mean) rstd weight + bias,  rstd = 1 / sqrt(var + eps)
// rmsnorm (Zhang, Sennrich 2019, arXiv 1910.07467):      y = x rstd weight,                  rstd = 1 / sqrt(mean of x^2 + eps)
// Gradients, with z the normalised x and g = dy weight:  dx = rstd (g - mean g - z mean(g z))  (rmsnorm lacks mean g),
// dweight = sum over rows of dy z, dbias = sum of dy. Those sums go through partial sums of row blocks whose number depends on the shape
// alone.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/norm.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/vec-inl.h"

#include "kernels/cpu/map.h"
#include "ops/attrs.h"

HWY_BEFORE_NAMESPACE();
namespace ds::cpu {
namespace HWY_NAMESPACE {
namespace {

// Two passes for the variance: it is exact to rounding even where the mean is large.
void layernorm_row(const float* x, const float* weight, const float* bias, int64_t n, float eps, float* y, float* mean_out,
                   float* rstd_out) {
    const float mean = sum_each(n, [=](auto at) HWY_ATTR { return at.load(x); }) / static_cast<float>(n);
    const V m = hn::Set(d, mean);
    const float squares = sum_each(n, [=](auto at) HWY_ATTR {
        const V c = at.fill(hn::Sub(at.load(x), m), hn::Zero(d));
        return hn::Mul(c, c);
    });
    const float rstd = static_cast<float>(1 / std::sqrt(static_cast<double>(squares) / static_cast<double>(n) + static_cast<double>(eps)));
    const V r = hn::Set(d, rstd);
    each(n, [=](auto at) HWY_ATTR {
        const V z = hn::Mul(hn::Sub(at.load(x), m), r);
        at.store(hn::MulAdd(z, at.load(weight), at.load(bias)), y);
    });
    *mean_out = mean;
    *rstd_out = rstd;
}

void rmsnorm_row(const float* x, const float* weight, const float*, int64_t n, float eps, float* y, float*, float* rstd_out) {
    const float squares = sum_each(n, [=](auto at) HWY_ATTR { return hn::Mul(at.load(x), at.load(x)); });
    const float rstd = static_cast<float>(1 / std::sqrt(static_cast<double>(squares) / static_cast<double>(n) + static_cast<double>(eps)));
    const V r = hn::Set(d, rstd);
    each(n, [=](auto at) HWY_ATTR { at.store(hn::Mul(hn::Mul(at.load(x), r), at.load(weight)), y); });
    *rstd_out = rstd;
}

template <bool kCentred>
HWY_INLINE void grad_row(const float* dy, const float* x, const float* weight, int64_t n, float mean, float rstd, const float* into,
                         float* dx, float* dweight, float* dbias) {
    const V m = hn::Set(d, mean), r = hn::Set(d, rstd);
    V sum_g = hn::Zero(d), sum_gz = sum_g;
    const auto normal = [=](auto at) HWY_ATTR { return kCentred ? hn::Mul(hn::Sub(at.load(x), m), r) : hn::Mul(at.load(x), r); };
    each(n, [&](auto at) HWY_ATTR {
        const V up = at.load(dy), z = normal(at), g = hn::Mul(up, at.load(weight));
        at.store(hn::MulAdd(up, z, at.load(dweight)), dweight);
        if (kCentred) {
            at.store(hn::Add(up, at.load(dbias)), dbias);
            sum_g = hn::Add(sum_g, g);
        }
        sum_gz = hn::MulAdd(g, z, sum_gz);
    });
    const V over_n = hn::Set(d, 1.0f / static_cast<float>(n));
    const V mean_g = hn::Mul(hn::SumOfLanes(d, sum_g), over_n), mean_gz = hn::Mul(hn::SumOfLanes(d, sum_gz), over_n);
    each(n, [=](auto at) HWY_ATTR {
        V g = hn::Mul(at.load(dy), at.load(weight));
        if (kCentred) g = hn::Sub(g, mean_g);
        const V result = hn::Mul(r, hn::NegMulAdd(normal(at), mean_gz, g));
        at.store(into ? hn::Add(result, at.load(into)) : result, dx);
    });
}

void layernorm_grad_row(const float* dy, const float* x, const float* weight, int64_t n, float mean, float rstd, const float* into,
                        float* dx, float* dweight, float* dbias) {
    grad_row<true>(dy, x, weight, n, mean, rstd, into, dx, dweight, dbias);
}
void rmsnorm_grad_row(const float* dy, const float* x, const float* weight, int64_t n, float, float rstd, const float* into, float* dx,
                      float* dweight, float*) {
    grad_row<false>(dy, x, weight, n, 0, rstd, into, dx, dweight, nullptr);
}

// y = sum of `count` rows that lie `stride` apart (+ into).
void column_sums(const float* x, int64_t count, int64_t stride, int64_t n, const float* into, float* y) {
    each(n, [=](auto at) HWY_ATTR {
        V sum = at.load(x);
        for (int64_t i = 1; i < count; ++i) sum = hn::Add(sum, at.load(x + i * stride));
        at.store(into ? hn::Add(sum, at.load(into)) : sum, y);
    });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace ds::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <cmath>
#include <cstring>

namespace ds::cpu {
namespace {
HWY_EXPORT(layernorm_row);
HWY_EXPORT(rmsnorm_row);
HWY_EXPORT(layernorm_grad_row);
HWY_EXPORT(rmsnorm_grad_row);
HWY_EXPORT(column_sums);

// rmsnorm lacks the operands of the mean and the bias.
template <bool kCentred>
void forward(const Call& call, Team team) {
    constexpr int kArrays = 4;
    const Tensor &x = call.in[0], &y = call.out[0];
    const int64_t n = y.columns();
    const auto array = [&](int which) { return own_array(call, team, kArrays, n, which); };
    const float* weight = read(call.in[1], 0, 0, n, array(2));
    const float* bias = kCentred ? read(call.in[2], 0, 0, n, array(3)) : nullptr;
    float* mean = kCentred ? call.out[1].as<float>() : nullptr;
    float* rstd = call.out[kCentred ? 2 : 1].as<float>();
    const float eps = static_cast<float>(call.attr<Norm>().eps);
    const auto row_function = kCentred ? HWY_DYNAMIC_DISPATCH(layernorm_row) : HWY_DYNAMIC_DISPATCH(rmsnorm_row);
    const auto [begin, end] = team.part(y.rows());
    for (int64_t row = begin; row < end; ++row) {
        const Out out(y, row, 0, array(1));
        row_function(read(x, row, 0, n, array(0)), weight, bias, n, eps, out.data(), kCentred ? mean + row : nullptr, rstd + row);
        out.done(n);
    }
}

template <bool kCentred>
Result<Prepared> prepare_forward(const Request& request) {
    level();
    return Prepared{{forward<kCentred>}, nullptr, request.threads * 4 * padded(request.out[0].columns()) * 4};
}

constexpr int kGradArrays = 5;

// At most 64 blocks of at least 16 rows.
int64_t block_rows(int64_t rows) { return std::max<int64_t>(16, (rows + 63) / 64); }
int64_t block_count(int64_t rows) { return (rows + block_rows(rows) - 1) / block_rows(rows); }

struct GradOperands {
    const Tensor &dy, &x, &weight;
    const float *mean, *rstd;
    const Tensor &dx_into, &dweight_into, *dbias_into;
};
template <bool kCentred>
GradOperands grad_operands(const Call& c) {
    const Tensor* in = c.in;
    if constexpr (kCentred) return {in[0], in[1], in[2], in[3].as<float>(), in[4].as<float>(), in[5], in[6], &in[7]};
    else return {in[0], in[1], in[2], nullptr, in[3].as<float>(), in[4], in[5], nullptr};
}

// The partial sums of dweight, then of dbias, behind the arrays of all threads. `threads` is what prepare was told.
float* partial_sums(const Call& call, int64_t n) {
    const int threads = *static_cast<const int*>(call.state);
    return reinterpret_cast<float*>(call.scratch) + threads * kGradArrays * padded(n);
}

template <bool kCentred>
void backward_rows(const Call& call, Team team) {
    const GradOperands o = grad_operands<kCentred>(call);
    const Tensor& dx = call.out[0];
    const int64_t rows = dx.rows(), n = dx.columns(), step = block_rows(rows), blocks = block_count(rows);
    const auto array = [&](int which) { return own_array(call, team, kGradArrays, n, which); };
    const float* weight = read(o.weight, 0, 0, n, array(4));
    float* partial = partial_sums(call, n);
    const auto row_function = kCentred ? HWY_DYNAMIC_DISPATCH(layernorm_grad_row) : HWY_DYNAMIC_DISPATCH(rmsnorm_grad_row);
    const auto [begin, end] = team.part(blocks);
    for (int64_t block = begin; block < end; ++block) {
        float *dweight = partial + block * padded(n), *dbias = kCentred ? partial + (blocks + block) * padded(n) : nullptr;
        std::memset(dweight, 0, static_cast<size_t>(n) * 4);
        if (kCentred) std::memset(dbias, 0, static_cast<size_t>(n) * 4);
        for (int64_t row = block * step; row < std::min(rows, (block + 1) * step); ++row) {
            const float* into = o.dx_into.present ? read(o.dx_into, row, 0, n, array(2)) : nullptr;
            const Out out(dx, row, 0, array(3));
            row_function(read(o.dy, row, 0, n, array(0)), read(o.x, row, 0, n, array(1)), weight, n, kCentred ? o.mean[row] : 0,
                         o.rstd[row], into, out.data(), dweight, dbias);
            out.done(n);
        }
    }
}

template <bool kCentred>
void backward_columns(const Call& call, Team team) {
    const GradOperands o = grad_operands<kCentred>(call);
    const int64_t n = call.out[0].columns(), blocks = block_count(call.out[0].rows());
    const float* partial = partial_sums(call, n);
    const auto [begin, end] = team.part(n, 16);
    const auto add_up = [&](const float* from, const Tensor& into, const Tensor& to) {
        if (blocks == 0) {  // no rows: zero, or into
            for (int64_t i = begin; i < end; ++i) to.as<float>()[i] = into.present ? into.as<float>()[i] : 0;
            return;
        }
        const float* added = into.present ? into.as<float>() + begin : nullptr;
        HWY_DYNAMIC_DISPATCH(column_sums)(from + begin, blocks, padded(n), end - begin, added, to.as<float>() + begin);
    };
    add_up(partial, o.dweight_into, call.out[1]);
    if (kCentred) add_up(partial + blocks * padded(n), *o.dbias_into, call.out[2]);
}

template <bool kCentred>
Result<Prepared> prepare_backward(const Request& request) {
    level();
    const int64_t n = padded(request.out[0].columns()), blocks = block_count(request.out[0].rows());
    return Prepared{{backward_rows<kCentred>, backward_columns<kCentred>},
                    std::make_shared<int>(request.threads),
                    (request.threads * kGradArrays + blocks * (kCentred ? 2 : 1)) * n * 4};
}

constexpr KernelImpl kLayernorm[] = {{"simd", floats_only, prepare_forward<true>}};
constexpr KernelImpl kRmsnorm[] = {{"simd", floats_only, prepare_forward<false>}};
constexpr KernelImpl kLayernormGrad[] = {{"simd", floats_only, prepare_backward<true>}};
constexpr KernelImpl kRmsnormGrad[] = {{"simd", floats_only, prepare_backward<false>}};

}  // namespace

const KernelList layernorm{kLayernorm}, rmsnorm{kRmsnorm}, layernorm_grad{kLayernormGrad}, rmsnorm_grad{kRmsnormGrad};

}  // namespace ds::cpu
#endif
