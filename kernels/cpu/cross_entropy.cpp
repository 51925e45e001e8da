// cross_entropy: loss = mean over labelled rows of lse - logits_label, lse = log sum exp of the row; its gradient is
// (exp(logits - lse) - [column = label]) dloss / labelled rows. Rows are independent; the mean is one thread's sum in row order.
#include <algorithm>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/level.h"
#include "kernels/cpu/logits.h"

namespace ds::cpu {
namespace {

void rows_forward(const Call& call, Team team) {
    const Tensor& logits = call.in[0];
    const Labels labels(call.in[1], call.attrs);
    auto* losses = reinterpret_cast<float*>(call.scratch);
    auto* lse = call.out[1].as<float>();
    const int64_t columns = logits.columns();
    const auto [begin, end] = team.part(labels.count);
    for (int64_t row = begin; row < end; ++row) {
        float buffer[kBlock];
        Running running;
        for (int64_t i = 0; i < columns; i += kBlock) {
            const int64_t n = std::min(kBlock, columns - i);
            running.see(read(logits, row, i, n, buffer), n);
        }
        lse[row] = running.log();
        losses[row] = 0;
        if (const int64_t label = labels.data[row]; !labels.ignored(row)) losses[row] = running.loss(*read(logits, row, label, 1, buffer));
    }
}

void mean(const Call& call, Team team) {
    if (team.rank == 0) *call.out[0].as<float>() = Labels(call.in[1], call.attrs).mean(reinterpret_cast<const float*>(call.scratch));
}

void backward(const Call& call, Team team) {
    const Tensor &logits = call.in[1], &y = call.out[0];
    const Labels labels(call.in[2], call.attrs);
    const auto* lse = call.in[3].as<float>();
    const int64_t n = labels.labelled(), columns = logits.columns();
    const float factor = n ? *call.in[0].as<float>() / static_cast<float>(n) : 0;
    const auto [begin, end] = team.part(labels.count);
    for (int64_t row = begin; row < end; ++row)
        for (int64_t i = 0; i < columns; i += kBlock) {
            const int64_t m = std::min(kBlock, columns - i), label = labels.data[row] - i;
            float from[kBlock], to[kBlock];
            const Out out(y, row, i, to);
            if (labels.ignored(row)) std::fill_n(out.data(), m, 0.0f);
            else softmax_of(read(logits, row, i, m, from), m, lse[row], factor, out.data());
            if (!labels.ignored(row) && label >= 0 && label < m) out.data()[label] -= factor;
            out.done(m);
        }
}

const char* declines(const Request& request) {
    const Tensor& logits = request.in[request.in[0].dtype == DType::f32 && request.in[0].rank == 0 ? 1 : 0];
    return is_simd_float(logits.dtype) && is_simd_float(request.out[0].dtype) ? nullptr : "logits are not f32, bf16 or f16";
}

Result<Prepared> prepare(const Request& request) {
    level();
    return Prepared{{rows_forward, mean}, nullptr, request.in[1].count() * 4 + 64};
}

Result<Prepared> prepare_grad(const Request&) {
    level();
    return Prepared{{backward}, nullptr, 0};
}

constexpr KernelImpl kCrossEntropy[] = {{"simd", declines, prepare}};
constexpr KernelImpl kCrossEntropyGrad[] = {{"simd", declines, prepare_grad}};

}  // namespace

const KernelList cross_entropy{kCrossEntropy};
const KernelList cross_entropy_grad{kCrossEntropyGrad};

}  // namespace ds::cpu
