// int8_matmul: each row of a in integers with its own scale, then an integer product with the weight's codes, which lie as
// base/weight_code.h says: four inputs of an output are a word, and sixteen outputs' words lie side by side.
#include "base/weight_code.h"
#include "kernels/cuda/device.cuh"
#include "ops/attrs_coded.h"

namespace ds::cuda {
namespace {

constexpr int kTile = Int8Parts::kPanel, kWords = Int8Parts::kStep / 4;  // rows and outputs of a block's tile, words of a step

#ifdef DS_CUDA_EMULATED
inline int32_t dot4(int32_t a, int32_t b, int32_t sum) {
    for (int i = 0; i < 4; ++i) sum += static_cast<int8_t>(a >> (8 * i)) * static_cast<int8_t>(b >> (8 * i));
    return sum;
}
#else
DS_DEVICE int32_t dot4(int32_t a, int32_t b, int32_t sum) { return __dp4a(a, b, sum); }
#endif

// A block a row. Behind the last input are zeros.
__global__ void round_kernel(Rows a, int64_t words, Span<int32_t> codes, Span<float> scales) {
    DS_SHARED(float, memory, 32);
    const int64_t row = blockIdx.x;
    float most = 0;
    for (int64_t j = threadIdx.x; j < a.columns; j += blockDim.x) most = fmaxf(most, fabsf(a.get(row, j)));
    most = max_of_block(most, memory);
    const float inverse = most > 0 ? 127 / most : 0;
    for (int64_t w = threadIdx.x; w < words; w += blockDim.x) {
        uint32_t word = 0;
        for (int i = 0; i < 4; ++i) {
            const int64_t j = 4 * w + i;
            const int code = j < a.columns ? static_cast<int>(rintf(a.get(row, j) * inverse)) : 0;
            word |= (static_cast<uint32_t>(code) & 255u) << (8 * i);
        }
        codes.put(row * words + w, static_cast<int32_t>(word));
    }
    if (threadIdx.x == 0) scales.put(row, most / 127);
}

__global__ void multiply_kernel(Span<const int32_t> a, Span<const float> row_scales, Span<const int32_t> weight, Span<const float> scales,
                                int64_t steps, Rows bias, Rows into, Rows y) {
    DS_SHARED(int32_t, left, kTile * kWords);
    DS_SHARED(int32_t, right, kTile * kWords);
    const int me = static_cast<int>(threadIdx.x), out = me % kTile, line = me / kTile;
    const int64_t panel = blockIdx.x, column = panel * kTile + out;
    for (int64_t first = int64_t{blockIdx.y} * kTile; first < y.rows; first += int64_t{gridDim.y} * kTile) {
        const int64_t row = first + line;
        int32_t sum = 0;
        for (int64_t step = 0; step < steps; ++step) {
            left.put(me, row < y.rows ? a.get(row * steps * kWords + step * kWords + out) : 0);
            right.put(me, weight.get((panel * steps + step) * kTile * kWords + me));
            barrier();
            for (int w = 0; w < kWords; ++w) sum = dot4(left.get(line * kWords + w), right.get(w * kTile + out), sum);
            barrier();
        }
        if (row >= y.rows || column >= y.columns) continue;
        const float value = static_cast<float>(sum) * (row_scales.get(row) * scales.get(column));
        y.put(row, column, value + (bias.present() ? bias.get(0, column) : 0.0f) + (into.present() ? into.get(row, column) : 0.0f));
    }
}

int64_t codes_bytes(const Tensor& a, const Int8Parts& parts) { return round_up(a.rows() * parts.steps * Int8Parts::kStep, 256); }

void run(const Call& c, Queue& q) {
    const Tensor &a = c.in[0], &y = c.out[0];
    if (y.count() == 0) return;
    const Int8Parts parts(c.attr<Int8Matmul>().outs, a.columns());
    const int64_t rows = a.rows(), words = parts.steps * kWords;
    const Span<int32_t> codes = scratch<int32_t>(c, 0, rows * words);
    const Span<float> scales = scratch<float>(c, codes_bytes(a, parts), rows);
    const auto* weight = c.in[1].as<const uint8_t>();
    launch(q, static_cast<unsigned>(rows), 256, 0, round_kernel, rows_of(a), words, codes, scales);
    launch(q, dim3(static_cast<unsigned>(parts.panels), striding_blocks(rows, kTile, 65535)), kTile * kTile, 0, multiply_kernel,
           Span<const int32_t>{codes.data, codes.n}, Span<const float>{scales.data, rows},
           Span<const int32_t>{reinterpret_cast<const int32_t*>(weight), parts.scales / 4},
           Span<const float>{reinterpret_cast<const float*>(weight + parts.scales), parts.panels * kTile}, parts.steps, rows_of(c.in[2]),
           rows_of(c.in[3]), rows_of(y));
}

Result<Prepared> prepare(const Request& r) {
    const Int8Parts parts(r.attr<Int8Matmul>().outs, r.in[0].columns());
    return Prepared{{queued<run>}, nullptr, codes_bytes(r.in[0], parts) + r.in[0].rows() * 4};
}

const char* declines(const Request& r) {
    if (r.attr<Int8Matmul>().fixed) return "fixed ranges of inputs are not built for devices";
    return is_number(r.in[0].dtype) && is_number(r.out[0].dtype) ? nullptr : "an operand is neither f32, bf16 nor f16";
}

constexpr KernelImpl kInt8[] = {{"cuda", declines, prepare}};

}  // namespace

extern const KernelList int8_matmul{kInt8};

}  // namespace ds::cuda
