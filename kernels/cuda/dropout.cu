// dropout: y = x / (1 - p) where the draw of (token, column) is at least p, else 0: the numbers that every other device draws.
#include "kernels/cuda/device.cuh"
#include "ops/attrs.h"

namespace ds::cuda {
namespace {

DS_DEVICE Draws draws_of(Span<const uint64_t> memory) { return {memory.get(0), memory.get(1)}; }

__global__ void dropout_kernel(Rows x, Span<const int32_t> tokens, Rows y, float p, float factor, uint64_t salt,
                               Span<const uint64_t> draws) {
    const Draws d = draws_of(draws);
    const int64_t step = int64_t{gridDim.x} * blockDim.x;
    for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < y.rows * y.columns; i += step) {
        const int64_t row = i / y.columns, j = i % y.columns, token = tokens.data ? tokens.get(row) : row;
        const float draw =
            uniform_draw(d, salt, static_cast<uint64_t>(token) * static_cast<uint64_t>(y.columns) + static_cast<uint64_t>(j));
        y.put(row, j, draw >= p ? x.get(row, j) * factor : 0.0f);
    }
}

// Rows of whole fours: a thread has four columns, whose numbers are one block of draws.
__global__ void dropout_fours_kernel(Rows x, Span<const int32_t> tokens, Rows y, float p, float factor, uint64_t salt,
                                     Span<const uint64_t> draws) {
    const Draws d = draws_of(draws);
    const int64_t step = int64_t{gridDim.x} * blockDim.x, a_row = y.columns / 4;
    for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < y.rows * a_row; i += step) {
        const int64_t row = i / a_row, four = i % a_row, token = tokens.data ? tokens.get(row) : row;
        Four v = load4(x.memory, row * x.stride + 4 * four);
        const Four drawn =
            uniform_block(d, salt, static_cast<uint64_t>(token) * static_cast<uint64_t>(a_row) + static_cast<uint64_t>(four));
        for (int k = 0; k < 4; ++k) v.x[k] = drawn.x[k] >= p ? v.x[k] * factor : 0.0f;
        store4(y.memory, row * y.stride + 4 * four, v);
    }
}

void run(const Call& c, Queue& q) {
    const Dropout& a = c.attr<Dropout>();
    const bool wide = wide_rows(c.in[0]) && wide_rows(c.out[0]);
    const int64_t n = c.out[0].count() / (wide ? 4 : 1);
    if (n > 0)
        launch(q, striding_blocks(n, 256, 1 << 16), 256, 0, wide ? dropout_fours_kernel : dropout_kernel, rows_of(c.in[0]),
               span<const int32_t>(c.in[1]), rows_of(c.out[0]), static_cast<float>(a.p), static_cast<float>(1 / (1 - a.p)),
               static_cast<uint64_t>(a.salt), Span<const uint64_t>{&q.draws->seed, 2});
}

constexpr KernelImpl kDropout[] = {plain<run>()};

}  // namespace

extern const KernelList dropout{kDropout};

}  // namespace ds::cuda
