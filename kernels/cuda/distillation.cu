// distillation_loss and its gradient (ops/distillation.cpp). A block a row; the temperature's square is in the rows' losses already when
// their mean is taken.
#include "kernels/cuda/losses.cuh"
#include "ops/attrs_compress.h"

namespace ds::cuda {
namespace {

constexpr int kThreads = 256;

DS_DEVICE float log_sum_exp(const Rows& x, int64_t row, float inverse, Shared<float> memory) {
    float most = -INFINITY, sum = 0;
    for (int64_t j = threadIdx.x; j < x.columns; j += blockDim.x) most = fmaxf(most, x.get(row, j) * inverse);
    most = max_of_block(most, memory);
    for (int64_t j = threadIdx.x; j < x.columns; j += blockDim.x) sum += expf(x.get(row, j) * inverse - most);
    return most + logf(sum_of_block(sum, memory));
}

__global__ void rows_kernel(Rows logits, Rows teacher, Span<const int32_t> labels, int32_t ignore, float temperature, Span<float> lse,
                            Span<float> taught, Span<float> losses) {
    DS_SHARED(float, memory, 32);
    const float inverse = 1 / temperature;
    for (int64_t row = blockIdx.x; row < logits.rows; row += gridDim.x) {
        const float own = log_sum_exp(logits, row, inverse, memory), other = log_sum_exp(teacher, row, inverse, memory);
        float sum = 0;
        for (int64_t j = threadIdx.x; j < logits.columns; j += blockDim.x) {
            const float log_p = teacher.get(row, j) * inverse - other, log_q = logits.get(row, j) * inverse - own;
            sum += expf(log_p) * (log_p - log_q);
        }
        sum = sum_of_block(sum, memory);
        if (threadIdx.x != 0) continue;
        lse.put(row, own);
        taught.put(row, other);
        losses.put(row, labels.get(row) == ignore ? 0.0f : temperature * temperature * sum);
    }
}

__global__ void gradient_kernel(Rows logits, Rows teacher, Span<const int32_t> labels, Span<const float> lse, Span<const float> taught,
                                int32_t ignore, float temperature, Span<const float> factor, Rows dlogits) {
    const float inverse = 1 / temperature;
    for (int64_t row = blockIdx.x; row < logits.rows; row += gridDim.x) {
        const float by = labels.get(row) == ignore ? 0.0f : temperature * factor.get(0), own = lse.get(row), other = taught.get(row);
        for (int64_t j = threadIdx.x; j < logits.columns; j += blockDim.x)
            dlogits.put(row, j,
                        by == 0 ? 0.0f : by * (expf(logits.get(row, j) * inverse - own) - expf(teacher.get(row, j) * inverse - other)));
    }
}

void forward(const Call& c, Queue& q) {
    const auto& a = c.attr<Distillation>();
    const Span<const int32_t> labels = span<const int32_t>(c.in[2]);
    const auto ignore = static_cast<int32_t>(a.ignore);
    const Span<float> losses = scratch<float>(c, 0, labels.n);
    if (labels.n > 0)
        launch(q, striding_blocks(labels.n, 1), kThreads, 0, rows_kernel, rows_of(c.in[0]), rows_of(c.in[1]), labels, ignore,
               static_cast<float>(a.temperature), span<float>(c.out[1]), span<float>(c.out[2]), losses);
    mean_of_losses(q, {losses.data, labels.n}, labels, ignore, span<float>(c.out[0]));
}

void backward(const Call& c, Queue& q) {
    const auto& a = c.attr<Distillation>();
    const Span<const int32_t> labels = span<const int32_t>(c.in[3]);
    const auto ignore = static_cast<int32_t>(a.ignore);
    const Span<float> factor = scratch<float>(c, 0, 1);
    if (labels.n == 0) return;
    factor_of_gradient(q, span<const float>(c.in[0]), labels, ignore, factor);
    launch(q, striding_blocks(labels.n, 1), kThreads, 0, gradient_kernel, rows_of(c.in[1]), rows_of(c.in[2]), labels,
           span<const float>(c.in[4]), span<const float>(c.in[5]), ignore, static_cast<float>(a.temperature),
           Span<const float>{factor.data, 1}, rows_of(c.out[0]));
}

Result<Prepared> prepare(const Request& r) { return Prepared{{queued<forward>}, nullptr, r.in[2].count() * 4}; }
Result<Prepared> prepare_grad(const Request&) { return Prepared{{queued<backward>}, nullptr, 64}; }

constexpr KernelImpl kLoss[] = {{"cuda", accepts_floats, prepare}}, kGradient[] = {{"cuda", accepts_floats, prepare_grad}};

}  // namespace

extern const KernelList distillation_loss{kLoss}, distillation_loss_grad{kGradient};

}  // namespace ds::cuda
