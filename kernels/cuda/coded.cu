// coded_matmul: the weight's values are made in a's type (kernels/coded.h says what codes mean) and cuBLASLt multiplies with them. They are made anew each time, as
// they would take the memory that few bits save.
#include "base/weight_code.h"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/linear.h"
#include "ops/attrs_coded.h"

namespace ds::cuda {
namespace {

constexpr int kThreads = 256;

// As kNormalFloat.
DS_DEVICE float normal_float(int code) {
    switch (code) {
    case 0: return -1.0f;
    case 1: return -0.6961928009986877f;
    case 2: return -0.5250730514526367f;
    case 3: return -0.39491748809814453f;
    case 4: return -0.28444138169288635f;
    case 5: return -0.18477343022823334f;
    case 6: return -0.09105003625154495f;
    case 7: return 0.0f;
    case 8: return 0.07958029955625534f;
    case 9: return 0.16093020141124725f;
    case 10: return 0.24611230194568634f;
    case 11: return 0.33791524171829224f;
    case 12: return 0.44070982933044434f;
    case 13: return 0.5626170039176941f;
    case 14: return 0.7229568362236023f;
    default: return 1.0f;
    }
}

// As coded::kTree: 0 in the middle; on both sides 1, 2, 4, .. 64 values between a tenth of a power of ten and that power.
DS_DEVICE float value_in_tree(int byte) {
    if (byte == 127) return 0;
    if (byte == 255) return 1;
    const int at = byte > 127 ? byte - 128 : 126 - byte;
    int e = 0, n = 1;
    float power = 1e-6f;
    for (; at + 1 >= 2 * n; n *= 2) ++e;
    switch (e) {
    case 0: power = 1e-6f; break;
    case 1: power = 1e-5f; break;
    case 2: power = 1e-4f; break;
    case 3: power = 1e-3f; break;
    case 4: power = 1e-2f; break;
    case 5: power = 1e-1f; break;
    default: power = 1.0f; break;
    }
    const int k = at + 1 - n;
    const double low = 0.1 + 0.9 * k / n, high = 0.1 + 0.9 * (k + 1) / n;
    const float value = power * static_cast<float>((low + high) / 2);
    return byte > 127 ? value : -value;
}

struct Codes {
    Span<const uint8_t> codes, scale_codes;  // the latter with two levels
    Span<const float> scales, seconds, mean;
    int bits;
};

__global__ void decode_kernel(Codes c, Any out) {
    const int64_t step = int64_t{gridDim.x} * blockDim.x;
    for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < out.n; i += step) {
        const int64_t block = i / kCodeBlock;
        const float scale = c.scale_codes.data ? fmaf(value_in_tree(c.scale_codes.get(block)), c.seconds.get(block / kScaleBlock), c.mean.get(0)) : c.scales.get(block);
        if (c.bits == 8) {
            out.put(i, static_cast<float>(static_cast<int8_t>(c.codes.get(i))) * (scale / 127));
        } else {
            const int byte = c.codes.get(i / 2);
            out.put(i, normal_float(i % 2 ? byte & 15 : byte >> 4) * scale);
        }
    }
}

Codes codes_of(const Tensor& t, const CodedMatmul& m) {
    const CodedParts parts(m.rows * m.columns, {m.bits, m.two_levels});
    const auto* at = t.as<const uint8_t>();
    const auto floats = [&](int64_t byte, int64_t n) { return Span<const float>{reinterpret_cast<const float*>(at + byte), n}; };
    Codes c{{at, parts.scales}, {nullptr, 0}, {nullptr, 0}, {nullptr, 0}, {nullptr, 0}, static_cast<int>(m.bits)};
    if (m.two_levels) c.scale_codes = {at + parts.scales, parts.blocks}, c.seconds = floats(parts.seconds, (parts.mean - parts.seconds) / 4), c.mean = floats(parts.mean, 1);
    else c.scales = floats(parts.scales, parts.blocks);
    return c;
}

struct State {
    Linear product;
    Tensor weight;  // as it lies in scratch once it is decoded
    int64_t at = 0;
};

LinearOperands operands(const State& s, const Tensor* in, const Tensor& y, std::byte* scratch) {
    Tensor weight = s.weight;
    weight.data = scratch + s.at;
    return {in[0], weight, in[2], in[3], y, {}};
}

void run(const Call& c, Queue& q) {
    const auto& s = *static_cast<const State*>(c.state);
    const LinearOperands o = operands(s, c.in, c.out[0], c.scratch);
    launch(q, blocks_for(o.b.count(), kThreads, 1 << 16), kThreads, 0, decode_kernel, codes_of(c.in[1], c.attr<CodedMatmul>()), any(o.b));
    q.note(s.product.run(q, o, c.scratch));
}

Result<Prepared> prepare(const Request& r) {
    const auto& m = r.attr<CodedMatmul>();
    auto s = std::make_shared<State>();
    s->weight = Tensor{.dtype = r.in[0].dtype, .rank = 2, .dims = {m.rows, m.columns}, .row_stride = m.columns, .present = true};
    DS_TRY(s->product, Linear::prepare(*static_cast<Queue*>(r.queue), operands(*s, r.in.data(), r.out[0], nullptr), Matmul{.transpose_b = m.transpose, .out = m.out, .set_out = m.set_out}));
    s->at = (s->product.scratch_bytes() + 255) / 256 * 256;
    const int64_t bytes = s->at + m.rows * m.columns * size_of(s->weight.dtype);
    return Prepared{{queued<run>}, std::move(s), bytes};
}

const char* declines(const Request& r) { return is_number(r.in[0].dtype) && is_number(r.out[0].dtype) ? nullptr : "an operand is neither f32, bf16 nor f16"; }

constexpr KernelImpl kCoded[] = {{"cublaslt", declines, prepare}};

}  // namespace

extern const KernelList coded_matmul{kCoded};

}  // namespace ds::cuda
