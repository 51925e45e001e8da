// coded_matmul: the weight's values are made in a's type (kernels/coded.h says what codes mean) and cuBLASLt multiplies with them. They are
// made anew each time, as they would take the memory that few bits save.
#include "kernels/coded.h"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/linear.h"
#include "ops/attrs_coded.h"

namespace ds::cuda {
namespace {

constexpr int kThreads = 256;

// What codes mean; device code can't index the host's constants.
struct Values {
    float normal[16], tree[256];
};
Values values() {
    Values v;
    std::copy(std::begin(kNormalFloat), std::end(kNormalFloat), v.normal);
    std::copy(coded::kTree.begin(), coded::kTree.end(), v.tree);
    return v;
}

struct Codes {
    Span<const uint8_t> codes, scale_codes;  // the latter with two levels
    Span<const float> scales, seconds, mean;
    int bits;
};

__global__ void decode_kernel(Codes c, Values v, Any out) {
    const int64_t step = int64_t{gridDim.x} * blockDim.x;
    for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < out.n; i += step) {
        const int64_t block = i / kCodeBlock;
        const float scale = c.scale_codes.data ? fmaf(v.tree[c.scale_codes.get(block)], c.seconds.get(block / kScaleBlock), c.mean.get(0))
                                               : c.scales.get(block);
        if (c.bits == 8) {
            out.put(i, static_cast<float>(static_cast<int8_t>(c.codes.get(i))) * (scale / 127));
        } else {
            const int byte = c.codes.get(i / 2);
            out.put(i, v.normal[i % 2 ? byte & 15 : byte >> 4] * scale);
        }
    }
}

Codes codes_of(const Tensor& t, const CodedMatmul& m) {
    const CodedParts parts(m.rows * m.columns, {m.bits, m.two_levels});
    const auto* at = t.as<const uint8_t>();
    const auto floats = [&](int64_t byte, int64_t n) { return Span<const float>{reinterpret_cast<const float*>(at + byte), n}; };
    Codes c{{at, parts.scales}, {nullptr, 0}, {nullptr, 0}, {nullptr, 0}, {nullptr, 0}, static_cast<int>(m.bits)};
    if (m.two_levels)
        c.scale_codes = {at + parts.scales, parts.blocks}, c.seconds = floats(parts.seconds, (parts.mean - parts.seconds) / 4),
        c.mean = floats(parts.mean, 1);
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
    launch(q, striding_blocks(o.b.count(), kThreads, 1 << 16), kThreads, 0, decode_kernel, codes_of(c.in[1], c.attr<CodedMatmul>()),
           values(), any(o.b));
    q.note(s.product.run(q, o, c.scratch));
}

Result<Prepared> prepare(const Request& r) {
    const auto& m = r.attr<CodedMatmul>();
    auto s = std::make_shared<State>();
    s->weight = Tensor{.dtype = r.in[0].dtype, .rank = 2, .dims = {m.rows, m.columns}, .row_stride = m.columns, .present = true};
    DS_TRY(s->product, Linear::prepare(*static_cast<Queue*>(r.queue), operands(*s, r.in.data(), r.out[0], nullptr),
                                       Matmul{.transpose_b = m.transpose, .out = m.out, .set_out = m.set_out}));
    s->at = round_up(s->product.scratch_bytes(), 256);
    const int64_t bytes = s->at + m.rows * m.columns * size_of(s->weight.dtype);
    return Prepared{{queued<run>}, std::move(s), bytes};
}

const char* declines(const Request& r) {
    if (r.attr<CodedMatmul>().group) return "integers in groups are not built for devices";
    return is_number(r.in[0].dtype) && is_number(r.out[0].dtype) ? nullptr : "an operand is neither f32, bf16 nor f16";
}

constexpr KernelImpl kCoded[] = {{"cublaslt", declines, prepare}};

}  // namespace

extern const KernelList coded_matmul{kCoded};

}  // namespace ds::cuda
