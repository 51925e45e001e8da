// softmax over the last dimension and its gradient, dx = y (dy - sum(dy y)). A block a row.
#include "kernels/cuda/device.cuh"

namespace ds::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void softmax_kernel(Rows x, Rows y) {
    DS_SHARED(float, memory, 32);
    for (int64_t row = blockIdx.x; row < x.rows; row += gridDim.x) {
        float most = -INFINITY, sum = 0;
        for (int64_t j = threadIdx.x; j < x.columns; j += blockDim.x) most = fmaxf(most, x.get(row, j));
        most = max_of_block(most, memory);
        for (int64_t j = threadIdx.x; j < x.columns; j += blockDim.x) sum += expf(x.get(row, j) - most);
        sum = sum_of_block(sum, memory);
        for (int64_t j = threadIdx.x; j < x.columns; j += blockDim.x) y.put(row, j, expf(x.get(row, j) - most) / sum);
    }
}

__global__ void softmax_grad_kernel(Rows dy, Rows y, Rows dx) {
    DS_SHARED(float, memory, 32);
    for (int64_t row = blockIdx.x; row < y.rows; row += gridDim.x) {
        float dot = 0;
        for (int64_t j = threadIdx.x; j < y.columns; j += blockDim.x) dot += dy.get(row, j) * y.get(row, j);
        dot = sum_of_block(dot, memory);
        for (int64_t j = threadIdx.x; j < y.columns; j += blockDim.x) dx.put(row, j, y.get(row, j) * (dy.get(row, j) - dot));
    }
}

void forward(const Call& c, Queue& q) {
    if (c.out[0].count() > 0)
        launch(q, striding_blocks(c.in[0].rows(), 1), kThreads, 0, softmax_kernel, rows_of(c.in[0]), rows_of(c.out[0]));
}
void backward(const Call& c, Queue& q) {
    if (c.out[0].count() > 0)
        launch(q, striding_blocks(c.in[1].rows(), 1), kThreads, 0, softmax_grad_kernel, rows_of(c.in[0]), rows_of(c.in[1]),
               rows_of(c.out[0]));
}

constexpr KernelImpl kSoftmax[] = {plain<forward>()}, kSoftmaxGrad[] = {plain<backward>()};

}  // namespace

extern const KernelList softmax{kSoftmax}, softmax_grad{kSoftmaxGrad};

}  // namespace ds::cuda
