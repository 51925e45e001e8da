// cross_entropy: loss = mean over rows with a label of log sum_j exp(logits_j) - logits_label, and its gradient, (softmax - [j = label])
// dloss / rows.
#include "kernels/cuda/losses.cuh"
#include "ops/attrs.h"

namespace ds::cuda {
namespace {

constexpr int kThreads = 256;

// A block a row: lse, and what the row adds to the loss.
__global__ void rows_kernel(Rows logits, Span<const int32_t> labels, int32_t ignore, Span<float> lse, Span<float> losses) {
    DS_SHARED(float, memory, 32);
    for (int64_t row = blockIdx.x; row < logits.rows; row += gridDim.x) {
        float most = -INFINITY, sum = 0;
        for (int64_t j = threadIdx.x; j < logits.columns; j += blockDim.x) most = fmaxf(most, logits.get(row, j));
        most = max_of_block(most, memory);
        for (int64_t j = threadIdx.x; j < logits.columns; j += blockDim.x) sum += expf(logits.get(row, j) - most);
        sum = sum_of_block(sum, memory);
        if (threadIdx.x != 0) continue;
        const float value = most + logf(sum);
        const int32_t label = labels.get(row);
        lse.put(row, value);
        losses.put(row, label == ignore ? 0.0f : value - logits.get(row, label));
    }
}

__global__ void gradient_kernel(Rows logits, Span<const int32_t> labels, Span<const float> lse, int32_t ignore, Span<const float> factor,
                                Rows dlogits) {
    for (int64_t row = blockIdx.x; row < logits.rows; row += gridDim.x) {
        const int32_t label = labels.get(row);
        const float scale = label == ignore ? 0.0f : factor.get(0), normaliser = lse.get(row);
        for (int64_t j = threadIdx.x; j < logits.columns; j += blockDim.x) {
            const float p = scale == 0 ? 0.0f : expf(logits.get(row, j) - normaliser) - (j == label ? 1.0f : 0.0f);
            dlogits.put(row, j, p * scale);
        }
    }
}

void forward(const Call& c, Queue& q) {
    const Tensor &logits = c.in[0], &labels = c.in[1];
    const int64_t n = labels.count();
    const auto ignore = static_cast<int32_t>(c.attr<CrossEntropy>().ignore);
    const Span<float> losses = scratch<float>(c, 0, n);
    if (n > 0)
        launch(q, striding_blocks(n, 1), kThreads, 0, rows_kernel, rows_of(logits), span<const int32_t>(labels), ignore,
               span<float>(c.out[1]), losses);
    mean_of_losses(q, {losses.data, n}, span<const int32_t>(labels), ignore, span<float>(c.out[0]));
}

void backward(const Call& c, Queue& q) {
    const Tensor &logits = c.in[1], &labels = c.in[2];
    const auto ignore = static_cast<int32_t>(c.attr<CrossEntropy>().ignore);
    const Span<float> factor = scratch<float>(c, 0, 1);
    if (labels.count() == 0) return;
    factor_of_gradient(q, span<const float>(c.in[0]), span<const int32_t>(labels), ignore, factor);
    launch(q, striding_blocks(labels.count(), 1), kThreads, 0, gradient_kernel, rows_of(logits), span<const int32_t>(labels),
           span<const float>(c.in[3]), ignore, Span<const float>{factor.data, 1}, rows_of(c.out[0]));
}

Result<Prepared> prepare(const Request& r) { return Prepared{{queued<forward>}, nullptr, r.in[1].count() * 4}; }
Result<Prepared> prepare_grad(const Request&) { return Prepared{{queued<backward>}, nullptr, 64}; }

constexpr KernelImpl kCrossEntropy[] = {{"cuda", accepts_floats, prepare}}, kCrossEntropyGrad[] = {{"cuda", accepts_floats, prepare_grad}};

}  // namespace

extern const KernelList cross_entropy{kCrossEntropy}, cross_entropy_grad{kCrossEntropyGrad};

}  // namespace ds::cuda
