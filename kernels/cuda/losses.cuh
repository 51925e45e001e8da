// What both losses share: the mean over labelled rows, and the factor of their gradient. One block each, sums in fixed order.
#pragma once

#include "kernels/cuda/device.cuh"

namespace ds::cuda {

static __global__ void mean_kernel(Span<const float> losses, Span<const int32_t> labels, int32_t ignore, Span<float> loss) {
    DS_SHARED(double, memory, 32);
    double sum = 0, count = 0;
    for (int64_t i = threadIdx.x; i < labels.n; i += blockDim.x) {
        sum += losses.get(i);
        count += labels.get(i) != ignore ? 1 : 0;
    }
    sum = sum_of_block(sum, memory);
    count = sum_of_block(count, memory);
    if (threadIdx.x == 0) loss.put(0, count > 0 ? static_cast<float>(sum / count) : 0.0f);
}

// factor = dloss / number of labelled rows
static __global__ void factor_kernel(Span<const float> dloss, Span<const int32_t> labels, int32_t ignore, Span<float> factor) {
    DS_SHARED(float, memory, 32);
    float count = 0;
    for (int64_t i = threadIdx.x; i < labels.n; i += blockDim.x) count += labels.get(i) != ignore ? 1.0f : 0.0f;
    count = sum_of_block(count, memory);
    if (threadIdx.x == 0) factor.put(0, count > 0 ? dloss.get(0) / count : 0.0f);
}

inline void mean_of_losses(Queue& q, Span<const float> losses, Span<const int32_t> labels, int32_t ignore, Span<float> loss) {
    launch(q, 1, 1024, 0, mean_kernel, losses, labels, ignore, loss);
}
inline void factor_of_gradient(Queue& q, Span<const float> dloss, Span<const int32_t> labels, int32_t ignore, Span<float> factor) {
    launch(q, 1, 1024, 0, factor_kernel, dloss, labels, ignore, factor);
}

}  // namespace ds::cuda
