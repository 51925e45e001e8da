// Elementwise sweeps of optimizers: one pass over gradient, state, master weight and its low-precision copy. The rules and their constants
// are those of kernels/cpu/optim.cpp.
#include "kernels/cuda/optim.h"

#include <cstring>

#include "kernels/cuda/device.cuh"

namespace ds::cuda {
namespace {

struct Sweep {
    SweepRule rule;
    float k[12];
    Span<float> weight;
    Span<const float> gradient;
    Span<float> state[3];
    Any low;
    bool by_chance;  // low is rounded so
    Rounding rounding;
};

// Scaled, then bounded; a NaN stays one.
DS_DEVICE float gradient_of(const Sweep& s, int64_t i) {
    const float x = s.gradient.get(i) * s.k[0];
    return fabsf(x) > s.k[1] ? copysignf(s.k[1], x) : x;
}

DS_DEVICE float adam(const Sweep& s, int64_t i, float p) {
    const float* k = s.k;
    const float x = fmaf(k[10], p, gradient_of(s, i));
    const float m = fmaf(k[2], s.state[0].get(i), k[3] * x), v = fmaf(k[4], s.state[1].get(i), k[5] * (x * x));
    s.state[0].put(i, m);
    s.state[1].put(i, v);
    return fmaf(-k[8], m / fmaf(sqrtf(v), k[6], k[7]), p * k[9]);
}

DS_DEVICE float sgd(const Sweep& s, int64_t i, float p) {
    const float* k = s.k;
    const float x = fmaf(k[5], p, gradient_of(s, i));
    float move = x;
    if (s.state[0].data) {
        const float b = fmaf(k[3], s.state[0].get(i), k[4] * x);
        s.state[0].put(i, b);
        move = k[6] != 0 ? fmaf(k[3], b, x) : b;
    }
    return fmaf(-k[2], move, p);
}

DS_DEVICE float adagrad(const Sweep& s, int64_t i, float p) {
    const float* k = s.k;
    const float x = fmaf(k[4], p, gradient_of(s, i)), total = fmaf(x, x, s.state[0].get(i));
    s.state[0].put(i, total);
    return fmaf(-k[2], x / (sqrtf(total) + k[3]), p);
}

DS_DEVICE float rmsprop(const Sweep& s, int64_t i, float p) {
    const float* k = s.k;
    const float x = fmaf(k[6], p, gradient_of(s, i));
    float v = fmaf(k[3], s.state[0].get(i), k[4] * (x * x));
    s.state[0].put(i, v);
    if (s.state[2].data) {
        const float before = s.state[2].get(i), mean = fmaf(k[4], x - before, before);
        s.state[2].put(i, mean);
        v = fmaxf(0.0f, fmaf(-mean, mean, v));
    }
    float move = x / (sqrtf(v) + k[5]);
    if (s.state[1].data) {
        move = fmaf(k[7], s.state[1].get(i), move);
        s.state[1].put(i, move);
    }
    return fmaf(-k[2], move, p);
}

DS_DEVICE float lion(const Sweep& s, int64_t i, float p) {
    const float* k = s.k;
    const float x = gradient_of(s, i), m = s.state[0].get(i), c = fmaf(k[2], m, k[3] * x);
    s.state[0].put(i, fmaf(k[4], m, k[5] * x));
    const float move = c != c ? c : c == 0 ? 0.0f : copysignf(k[6], c);  // no move where nothing was ever learnt
    return p * k[7] - move;
}

DS_DEVICE uint32_t bits_of(float x) {
    uint32_t bits = 0;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

DS_DEVICE void put_by_chance(const Sweep& s, int64_t i, float w) {
    const float draw = uniform_draw({s.rounding.seed, s.rounding.step}, s.rounding.salt, static_cast<uint64_t>(s.rounding.first + i));
    Span<uint16_t>{static_cast<uint16_t*>(s.low.data), s.low.n}.put(i, bf16_by_chance(bits_of(w), draw));
}

__global__ void sweep_kernel(Sweep s) {
    const int64_t step = int64_t{gridDim.x} * blockDim.x;
    for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < s.weight.n; i += step) {
        const float p = s.weight.get(i);
        float w = p;
        switch (s.rule) {
        case SweepRule::adam: w = adam(s, i, p); break;
        case SweepRule::sgd: w = sgd(s, i, p); break;
        case SweepRule::adagrad: w = adagrad(s, i, p); break;
        case SweepRule::rmsprop: w = rmsprop(s, i, p); break;
        case SweepRule::lion: w = lion(s, i, p); break;
        case SweepRule::keep: break;
        }
        if (s.rule != SweepRule::keep) s.weight.put(i, w);
        if (s.by_chance) put_by_chance(s, i, w);
        else if (s.low.data) s.low.put(i, w);
    }
}

__global__ void add_kernel(Span<float> to, Span<const float> from) {
    const int64_t step = int64_t{gridDim.x} * blockDim.x;
    for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < to.n; i += step) to.put(i, to.get(i) + from.get(i));
}

__global__ void scale_kernel(Span<float> x, float factor) {
    const int64_t step = int64_t{gridDim.x} * blockDim.x;
    for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < x.n; i += step) x.put(i, x.get(i) * factor);
}

__global__ void convert_kernel(Any from, Any to) {
    const int64_t step = int64_t{gridDim.x} * blockDim.x;
    for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < to.n; i += step) to.put(i, from.get(i));
}

constexpr int64_t kSquaresBlock = 16384;

// The sum of the squares of each block of elements, in f64: an overflow means that an element is not finite.
__global__ void squares_kernel(Span<const float> x, Span<double> partial) {
    DS_SHARED(double, sums, 32);
    const int64_t begin = int64_t{blockIdx.x} * kSquaresBlock, end = begin + kSquaresBlock < x.n ? begin + kSquaresBlock : x.n;
    double sum = 0;
    for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
        const double v = x.get(i);
        sum += v * v;
    }
    sum = sum_of_block(sum, sums);
    if (threadIdx.x == 0) partial.put(blockIdx.x, sum);
}

__global__ void draws_kernel(Span<uint64_t> draws, uint64_t seed, uint64_t step) {
    if (threadIdx.x == 0) draws.put(0, seed);
    if (threadIdx.x == 1) draws.put(1, step);
}

}  // namespace

Status set_draws(Queue& q, uint64_t seed, uint64_t step) {
    launch(q, 1, kWarp, 0, draws_kernel, Span<uint64_t>{&q.draws->seed, 2}, seed, step);
    return q.failure;
}

Status convert_elements(Queue& q, void* to, DType to_type, const void* from, DType from_type, int64_t count) {
    if (count > 0)
        launch(q, striding_blocks(count, 256, 1 << 16), 256, 0, convert_kernel, Any{const_cast<void*>(from), count, from_type},
               Any{to, count, to_type});
    return q.failure;
}

Status add_elements(Queue& q, float* to, const float* from, int64_t count) {
    if (count > 0)
        launch(q, striding_blocks(count, 256, 1 << 16), 256, 0, add_kernel, Span<float>{to, count}, Span<const float>{from, count});
    return q.failure;
}

Status scale_elements(Queue& q, float* x, int64_t count, float factor) {
    if (count > 0) launch(q, striding_blocks(count, 256, 1 << 16), 256, 0, scale_kernel, Span<float>{x, count}, factor);
    return q.failure;
}

Status sum_squares(Queue& q, Staging& staging, Partials& partials, const float* x, int64_t count, double& sum) {
    sum = 0;
    if (count <= 0) return ok();
    const int64_t blocks = (count + kSquaresBlock - 1) / kSquaresBlock;
    DS_CHECK(partials.reserve(blocks));
    launch(q, blocks_for(blocks, 1), 256, 0, squares_kernel, Span<const float>{x, count}, Span<double>{partials.data, blocks});
    DS_CHECK(staging.download(q, partials.host.data(), partials.data, static_cast<size_t>(blocks) * sizeof(double)));
    for (const double partial : partials.host) sum += partial;
    return q.failure;
}

Status sweep_elements(Queue& q, const BackendSweep& given) {
    if (given.count <= 0) return ok();
    Sweep s{};
    s.rule = given.rule;
    std::copy_n(given.constants, std::min<int32_t>(given.constant_count, 12), s.k);
    s.weight = {given.weight, given.count};
    s.gradient = {given.gradient, given.count};
    for (int i = 0; i < std::min(given.states, 3); ++i) s.state[i] = {given.state[i], given.count};
    s.low = {given.low, given.count, static_cast<DType>(given.low_dtype)};
    s.by_chance = given.low && given.rounding && s.low.type == DType::bf16;
    if (s.by_chance) s.rounding = *given.rounding;
    launch(q, striding_blocks(given.count, 256, 1 << 16), 256, 0, sweep_kernel, s);
    return q.failure;
}

}  // namespace ds::cuda
