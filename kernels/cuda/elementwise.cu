// add, sub, mul, div with numpy broadcasting; activations and their gradients; exp, log, sqrt, scale, cast. Arithmetic is f32.
#include "kernels/cuda/walk.cuh"
#include "ops/attrs.h"

namespace ds::cuda {
namespace {

constexpr float kRootHalf = 0.70710678f, kRootTwoOverPi = 0.79788456f, kDensityAt0 = 0.39894228f;

DS_DEVICE float logistic(float x) { return 1 / (1 + expf(-x)); }
DS_DEVICE float gelu_inner(float x) { return kRootTwoOverPi * (x + 0.044715f * x * x * x); }

// Each takes the operands and a constant.
struct Add {
    static DS_DEVICE float of(float a, float b, float) { return a + b; }
};
struct Sub {
    static DS_DEVICE float of(float a, float b, float) { return a - b; }
};
struct Mul {
    static DS_DEVICE float of(float a, float b, float) { return a * b; }
};
struct Div {
    static DS_DEVICE float of(float a, float b, float) { return a / b; }
};
struct Relu {
    static DS_DEVICE float of(float x, float, float) { return x < 0 ? 0 : x; }
};
struct ReluGrad {
    static DS_DEVICE float of(float dy, float y, float) { return y > 0 ? dy : dy * 0; }
};
struct Tanh {
    static DS_DEVICE float of(float x, float, float) { return tanhf(x); }
};
struct TanhGrad {
    static DS_DEVICE float of(float dy, float y, float) { return dy * (1 - y * y); }
};
struct Silu {
    static DS_DEVICE float of(float x, float, float) { return x / (1 + expf(-x)); }
};
struct SiluGrad {
    static DS_DEVICE float of(float dy, float x, float) {
        const float s = logistic(x);
        return dy * s * (1 + x * (1 - s));
    }
};
struct GeluErf {
    static DS_DEVICE float of(float x, float, float) { return x * 0.5f * erfcf(-x * kRootHalf); }
};
struct GeluErfGrad {
    static DS_DEVICE float of(float dy, float x, float) {
        return dy * (0.5f * erfcf(-x * kRootHalf) + x * kDensityAt0 * expf(-0.5f * x * x));
    }
};
// (1 + tanh u) / 2 is the logistic function of 2 u, which costs half of tanhf and loses nothing where it is small.
struct GeluTanh {
    static DS_DEVICE float of(float x, float, float) { return x / (1 + expf(-2 * gelu_inner(x))); }
};
struct GeluTanhGrad {
    static DS_DEVICE float of(float dy, float x, float) {
        const float s = logistic(2 * gelu_inner(x));
        return dy * (s + 2 * x * s * (1 - s) * kRootTwoOverPi * (1 + 3 * 0.044715f * x * x));
    }
};
struct Exp {
    static DS_DEVICE float of(float x, float, float) { return expf(x); }
};
struct Log {
    static DS_DEVICE float of(float x, float, float) { return logf(x); }
};
struct Sqrt {
    static DS_DEVICE float of(float x, float, float) { return sqrtf(x); }
};
struct Times {
    static DS_DEVICE float of(float x, float, float factor) { return x * factor; }
};

template <class F, bool kTwo>
__global__ void map_kernel(Walk w, Any y, Any a, Any b, float constant) {
    const int64_t step = int64_t{gridDim.x} * blockDim.x;
    for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < w.count; i += step) {
        const Offsets o = offsets(w, i);
        y.put(o.at[0], F::of(a.get(o.at[1]), kTwo ? b.get(o.at[2]) : 0.0f, constant));
    }
}

template <class F>
void one(const Call& c, Queue& q, float constant = 0) {
    const Walk w = walk(c.out[0], {&c.in[0]});
    if (w.count > 0 && !map_fours<F, false>(q, w, c.out[0], c.in[0], c.in[0], constant))
        launch(q, blocks_of(w), kThreads, 0, map_kernel<F, false>, w, any(c.out[0]), any(c.in[0]), Any{}, constant);
}
template <class F>
void two(const Call& c, Queue& q) {
    const Walk w = walk(c.out[0], {&c.in[0], &c.in[1]});
    if (w.count > 0 && !map_fours<F, true>(q, w, c.out[0], c.in[0], c.in[1], 0))
        launch(q, blocks_of(w), kThreads, 0, map_kernel<F, true>, w, any(c.out[0]), any(c.in[0]), any(c.in[1]), 0.0f);
}
template <class F>
void unary(const Call& c, Queue& q) {
    one<F>(c, q);
}

void gelu_either(const Call& c, Queue& q) { c.attr<Gelu>().tanh ? one<GeluTanh>(c, q) : one<GeluErf>(c, q); }
void gelu_grad_either(const Call& c, Queue& q) { c.attr<Gelu>().tanh ? two<GeluTanhGrad>(c, q) : two<GeluErfGrad>(c, q); }
void casted(const Call& c, Queue& q) { convert(q, walk(c.out[0], {&c.in[0]}), c.out[0], c.in[0]); }
void scaled(const Call& c, Queue& q) { one<Times>(c, q, static_cast<float>(c.attr<Scale>().factor)); }

constexpr KernelImpl kAdd[] = {plain<two<Add>>()}, kSub[] = {plain<two<Sub>>()}, kMul[] = {plain<two<Mul>>()}, kDiv[] = {plain<two<Div>>()};
constexpr KernelImpl kRelu[] = {plain<unary<Relu>>()}, kTanh[] = {plain<unary<Tanh>>()}, kSilu[] = {plain<unary<Silu>>()},
                     kGelu[] = {plain<gelu_either>()};
constexpr KernelImpl kReluGrad[] = {plain<two<ReluGrad>>()}, kTanhGrad[] = {plain<two<TanhGrad>>()}, kSiluGrad[] = {plain<two<SiluGrad>>()},
                     kGeluGrad[] = {plain<gelu_grad_either>()};
constexpr KernelImpl kExp[] = {plain<unary<Exp>>()}, kLog[] = {plain<unary<Log>>()}, kSqrt[] = {plain<unary<Sqrt>>()},
                     kScale[] = {plain<scaled>()}, kCast[] = {{"cuda", has_float8, simple<queued<casted>>}};

}  // namespace

extern const KernelList add{kAdd}, sub{kSub}, mul{kMul}, div{kDiv}, relu{kRelu}, tanh{kTanh}, silu{kSilu}, gelu{kGelu},
    relu_grad{kReluGrad}, tanh_grad{kTanhGrad}, silu_grad{kSiluGrad}, gelu_grad{kGeluGrad}, exp{kExp}, log{kLog}, sqrt{kSqrt},
    scale{kScale}, cast{kCast};

}  // namespace ds::cuda
