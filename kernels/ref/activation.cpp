// relu, tanh, silu = x logistic(x), gelu = x P(Z <= x) (or its tanh approximation), and their gradients.
#include "kernels/ref/ref.h"
#include "ops/attrs.h"

namespace ds::ref {
namespace {

constexpr double kRootHalf = 0.70710678118654752, kRootTwoOverPi = 0.79788456080286536, kDensityAt0 = 0.39894228040143268;

template <double (*f)(double)>
void unary(const Call& c) {
    for (int64_t i = 0; i < c.out[0].count(); ++i) set(c.out[0], i, f(get(c.in[0], i)));
}

// dx = dy * slope(x or y)
template <double (*slope)(double)>
void gradient(const Call& c) {
    for (int64_t i = 0; i < c.out[0].count(); ++i) set(c.out[0], i, get(c.in[0], i) * slope(get(c.in[1], i)));
}

double logistic(double x) { return 1 / (1 + std::exp(-x)); }
double relu_of(double x) { return x < 0 ? 0 : x; }
double relu_slope(double y) { return y > 0 ? 1 : 0; }
double tanh_slope(double y) { return 1 - y * y; }
double silu_of(double x) { return x * logistic(x); }
double silu_slope(double x) { return logistic(x) * (1 + x * (1 - logistic(x))); }
double gelu_erf(double x) { return x * 0.5 * std::erfc(-x * kRootHalf); }
double gelu_erf_slope(double x) { return 0.5 * std::erfc(-x * kRootHalf) + x * kDensityAt0 * std::exp(-0.5 * x * x); }
double inner(double x) { return kRootTwoOverPi * (x + 0.044715 * x * x * x); }
double gelu_tanh(double x) { return 0.5 * x * (1 + std::tanh(inner(x))); }
double gelu_tanh_slope(double x) {
    const double t = std::tanh(inner(x));
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * kRootTwoOverPi * (1 + 3 * 0.044715 * x * x);
}

void gelu_either(const Call& c) { c.attr<Gelu>().tanh ? unary<gelu_tanh>(c) : unary<gelu_erf>(c); }
void gelu_grad_either(const Call& c) { c.attr<Gelu>().tanh ? gradient<gelu_tanh_slope>(c) : gradient<gelu_erf_slope>(c); }

constexpr KernelImpl kRelu[] = {plain<unary<relu_of>>()}, kReluGrad[] = {plain<gradient<relu_slope>>()};
constexpr KernelImpl kTanh[] = {plain<unary<std::tanh>>()}, kTanhGrad[] = {plain<gradient<tanh_slope>>()};
constexpr KernelImpl kSilu[] = {plain<unary<silu_of>>()}, kSiluGrad[] = {plain<gradient<silu_slope>>()};
constexpr KernelImpl kGelu[] = {plain<gelu_either>()}, kGeluGrad[] = {plain<gelu_grad_either>()};

}  // namespace

const KernelList relu{kRelu}, relu_grad{kReluGrad}, tanh{kTanh}, tanh_grad{kTanhGrad}, silu{kSilu}, silu_grad{kSiluGrad}, gelu{kGelu},
    gelu_grad{kGeluGrad};

}  // namespace ds::ref
