// fp8_matmul (ops/fp8_matmul.cpp): the operands' largest magnitudes, their scales, both operands in 8 bits along the dimension that the
// product contracts, as cuBLASLt's products on Hopper and Ada want them, and the product. Scales stay on the device.
#ifdef DS_CUDA_EMULATED
#include "base/float8.h"
#else
#include <cuda_fp8.h>
#endif

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/products.h"
#include "kernels/cuda/walk.cuh"
#include "ops/attrs_fp8.h"

namespace ds::cuda {
namespace {

constexpr int kTile = 32, kMostBlocks = 256, kOldest = 89;
constexpr int64_t kMultiple = 16;  // of what is contracted
constexpr int kApart = 4;          // scales that cuBLASLt reads lie at multiples of 16 bytes

#ifdef DS_CUDA_EMULATED
inline uint32_t to_8_bits(float x, bool wide) { return to_f8(x, wide); }
#else
DS_DEVICE uint32_t to_8_bits(float x, bool wide) { return __nv_cvt_float_to_fp8(x, __NV_SATFINITE, wide ? __NV_E5M2 : __NV_E4M3); }
#endif

// The largest magnitude of each block's elements. A NaN counts for nothing: it stays one when it is rounded.
__global__ void most_kernel(Rows x, Span<float> most) {
    DS_SHARED(float, memory, 32);
    float mine = 0;
    for (int64_t row = blockIdx.x; row < x.rows; row += gridDim.x)
        for (int64_t j = threadIdx.x; j < x.columns; j += blockDim.x) mine = fmaxf(mine, fabsf(x.get(row, j)));
    mine = max_of_block(mine, memory);
    if (threadIdx.x == 0) most.put(blockIdx.x, mine);
}

// scales: what a and b are multiplied with, so that the largest comes to lie at `a` and `b`. inverses: what their product is multiplied
// with.
__global__ void scale_kernel(Span<const float> most_a, Span<const float> most_b, float a, float b, Span<float> scales,
                             Span<float> inverses) {
    DS_SHARED(float, memory, 32);
    for (int i = 0; i < 2; ++i) {
        const Span<const float> most = i == 0 ? most_a : most_b;
        float found = 0;
        for (int64_t j = threadIdx.x; j < most.n; j += blockDim.x) found = fmaxf(found, most.get(j));
        found = max_of_block(found, memory);
        const float scale = (i == 0 ? a : b) / found;
        const bool usable = found > 0 && found <= 3.4028234e38f && scale <= 3.4028234e38f;
        if (threadIdx.x != 0) continue;
        scales.put(i, usable ? scale : 1.0f);
        inverses.put(i * kApart, usable ? 1 / scale : 1.0f);
    }
}

// Rows of x in words of four; transposed: its columns. What lies behind the last is zero.
__global__ void round_kernel(Rows x, Span<const float> scale, bool wide, bool transposed, int64_t lines, int64_t words,
                             Span<uint32_t> out) {
    DS_SHARED(float, tile, kTile*(kTile + 1));
    const float by = scale.get(0);
    const int me = static_cast<int>(threadIdx.x);
    const int64_t first_column = int64_t{blockIdx.x} * kTile;
    for (int64_t first_row = int64_t{blockIdx.y} * kTile; first_row < (transposed ? words * 4 : lines);
         first_row += int64_t{gridDim.y} * kTile) {
        for (int i = me; i < kTile * kTile; i += static_cast<int>(blockDim.x)) {
            const int64_t row = first_row + i / kTile, column = first_column + i % kTile;
            tile.put(i / kTile * (kTile + 1) + i % kTile, row < x.rows && column < x.columns ? x.get(row, column) * by : 0.0f);
        }
        barrier();
        const int line = me / (kTile / 4), word = me % (kTile / 4);
        uint32_t four = 0;
        for (int i = 0; i < 4; ++i) {
            const int at = word * 4 + i;
            four |= to_8_bits(tile.get(transposed ? at * (kTile + 1) + line : line * (kTile + 1) + at), wide) << (8 * i);
        }
        const int64_t to_line = (transposed ? first_column : first_row) + line,
                      to_word = (transposed ? first_row : first_column) / 4 + word;
        if (to_line < lines && to_word < words) out.put(to_line * words + to_word, four);
        barrier();
    }
}

__global__ void bias_kernel(Rows from, Span<bf16> to) {
    const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
    if (i < to.n) to.put(i, from_f32<bf16>(from.get(0, i)));
}

struct State {
    std::shared_ptr<Products::Product> product;
    int64_t m = 0, n = 0, k = 0, padded = 0;
    int64_t a = 0, b = 0, bias = 0, most = 0;  // where in scratch; scales first
};

float most_of_format(bool wide) { return wide ? 57344.0f : 448.0f; }

unsigned blocks_of_most(const Tensor& t) { return striding_blocks(t.rows(), 1, kMostBlocks); }

void round(Queue& q, const Tensor& x, Span<const float> scale, bool wide, bool transposed, int64_t lines, const State& s, std::byte* to) {
    const int64_t words = s.padded / 4;
    const dim3 grid(blocks_for(transposed ? lines : s.padded, kTile), striding_blocks(transposed ? s.padded : lines, kTile, 65535));
    launch(q, grid, 256, 0, round_kernel, rows_of(x), scale, wide, transposed, lines, words,
           Span<uint32_t>{reinterpret_cast<uint32_t*>(to), lines * words});
}

void run(const Call& c, Queue& q) {
    const auto& s = *static_cast<const State*>(c.state);
    const auto& m = c.attr<Fp8Matmul>();
    const Tensor &a = c.in[0], &b = c.in[1], &bias = c.in[2], &into = c.in[3], &y = c.out[0];
    if (y.count() == 0) return;
    const Span<float> scales = scratch<float>(c, 0, 2), inverses = scratch<float>(c, 16, 2 * kApart);
    const Span<float> most_a = scratch<float>(c, s.most, blocks_of_most(a)),
                      most_b = scratch<float>(c, s.most + kMostBlocks * 4, blocks_of_most(b));
    launch(q, blocks_of_most(a), 256, 0, most_kernel, rows_of(a), most_a);
    launch(q, blocks_of_most(b), 256, 0, most_kernel, rows_of(b), most_b);
    launch(q, 1, 256, 0, scale_kernel, Span<const float>{most_a.data, most_a.n}, Span<const float>{most_b.data, most_b.n},
           most_of_format(m.wide_a), most_of_format(m.wide_b), scales, inverses);
    round(q, a, {scales.data, 1}, m.wide_a, m.transpose_a, s.m, s, c.scratch + s.a);
    round(q, b, {scales.data + 1, 1}, m.wide_b, !m.transpose_b, s.n, s, c.scratch + s.b);
    if (bias.present) launch(q, blocks_for(s.n, 256), 256, 0, bias_kernel, rows_of(bias), scratch<bf16>(c, s.bias, s.n));
    q.note(s.product->run(q, c.scratch + s.a, c.scratch + s.b, into.present ? 1.0f : 0.0f, into.present ? into.data : y.data, y.data,
                          bias.present ? c.scratch + s.bias : nullptr, nullptr, inverses.data, inverses.data + kApart));
}

Result<Prepared> prepare(const Request& r) {
    const auto& m = r.attr<Fp8Matmul>();
    const Tensor &a = r.in[0], &into = r.in[3], &y = r.out[0];
    auto s = std::make_shared<State>();
    s->m = m.transpose_a ? a.columns() : a.rows();
    s->n = y.columns();
    s->k = m.transpose_a ? a.rows() : a.columns();
    s->padded = round_up(s->k, kMultiple);
    const auto place = [at = int64_t{256}](int64_t bytes) mutable { return std::exchange(at, at + round_up(bytes, 256)); };
    auto next = place;
    s->most = next(2 * kMostBlocks * 4);
    s->a = next(s->m * s->padded);
    s->b = next(s->n * s->padded);
    s->bias = next(r.in[2].present ? s->n * 2 : 0);
    const int64_t bytes = next(0);
    if (y.count() > 0) {
        ProductShape shape{{m.wide_a ? DType::f8e5m2 : DType::f8e4m3, s->m, s->padded, s->padded},
                           {m.wide_b ? DType::f8e5m2 : DType::f8e4m3, s->n, s->padded, s->padded},
                           {},
                           {y.dtype, s->m, s->n, y.row_stride}};
        shape.c = shape.d;
        if (into.present) shape.c.stride = into.row_stride;
        shape.transpose_b = true, shape.bias = r.in[2].present, shape.fast_sums = !m.wide_a && !m.wide_b;
        DS_TRY(s->product, static_cast<Queue*>(r.queue)->products->prepare(shape));
    }
    return Prepared{{queued<run>}, std::move(s), bytes};
}

const char* declines(const Request& r) {
    const auto& m = r.attr<Fp8Matmul>();
    if (static_cast<const Queue*>(r.queue)->architecture < kOldest)
        return "the device has no 8-bit floats: those of compute capability 8.9 and above have";
    for (const Tensor* t : {&r.in[0], &r.in[1], &r.out[0]})
        if (!is_number(t->dtype)) return "an operand is neither f32, bf16 nor f16";
    if (m.wide_a && m.wide_b) return "both operands are E5M2";
    if (m.transpose_a && r.in[0].rank != 2) return "a transposed operand in batches";
    if (r.out[0].dtype == DType::f16) return "the result is f16";  // a bias of such a product would be f16, too
    if (r.in[3].present && r.in[3].dtype != r.out[0].dtype) return "what is added has another type than the result";
    if (r.out[0].columns() % kMultiple != 0) return "the result's columns are no multiple of 16";
    return (m.transpose_a ? r.in[0].rows() : r.in[0].columns()) == 0 ? "nothing to add up" : nullptr;
}

constexpr KernelImpl kFp8[] = {{"cublaslt", declines, prepare}};

}  // namespace

extern const KernelList fp8_matmul{kFp8};

}  // namespace ds::cuda
