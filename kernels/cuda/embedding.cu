// Rows of a table by id, and the table's gradient (+ into). An id outside the table is a row of zeros, and its gradient goes nowhere.
// The gradient adds up a row's tokens in their order, so its bits never change: the first token that names a row looks for all others.
#include "kernels/cuda/device.cuh"
#include "ops/attrs.h"

namespace ds::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void embedding_kernel(Rows table, Span<const int32_t> ids, Rows y) {
    for (int64_t row = blockIdx.x; row < y.rows; row += gridDim.x) {
        const int64_t id = ids.get(row);
        for (int64_t j = threadIdx.x; j < y.columns; j += blockDim.x) y.put(row, j, id >= 0 && id < table.rows ? table.get(id, j) : 0.0f);
    }
}

__global__ void begin_kernel(Rows into, Rows y) {
    const int64_t step = int64_t{gridDim.x} * blockDim.x;
    for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < y.rows * y.columns; i += step) {
        const int64_t row = i / y.columns, j = i % y.columns;
        y.put(row, j, into.present() ? into.get(row, j) : 0.0f);
    }
}

constexpr int kChunk = 1024;  // ids that a block looks through at a time

// Block x: token x; block y: a run of columns.
__global__ void gradient_kernel(Rows dy, Span<const int32_t> ids, Rows y, int64_t padding) {
    DS_SHARED(int, same, kChunk);
    DS_SHARED(float, counts, 32);
    const int64_t token = blockIdx.x;
    const int id = ids.get(token);
    if (id < 0 || id >= y.rows || id == padding) return;
    float before = 0;
    for (int64_t i = threadIdx.x; i < token && before == 0; i += blockDim.x) before = ids.get(i) == id ? 1.0f : 0.0f;
    if (max_of_block(before, counts) > 0) return;  // an earlier token's block does it
    const int64_t j = int64_t{blockIdx.y} * blockDim.x + threadIdx.x;
    float sum = j < y.columns ? y.get(id, j) : 0.0f;
    for (int64_t from = token; from < ids.n; from += kChunk) {
        for (int i = threadIdx.x; i < kChunk; i += blockDim.x) same.put(i, from + i < ids.n && ids.get(from + i) == id ? 1 : 0);
        barrier();
        for (int i = 0; i < kChunk && from + i < ids.n; ++i)
            if (same.get(i) && j < y.columns) sum += dy.get(from + i, j);
        barrier();
    }
    if (j < y.columns) y.put(id, j, sum);
}

void forward(const Call& c, Queue& q) {
    if (c.out[0].count() > 0) launch(q, blocks_for(c.out[0].rows(), 1), 128, 0, embedding_kernel, rows_of(c.in[0]), span<const int32_t>(c.in[1]), rows_of(c.out[0]));
}
void backward(const Call& c, Queue& q) {
    const Tensor &dy = c.in[0], &ids = c.in[1], &into = c.in[2], &y = c.out[0];
    if (y.count() == 0) return;
    if (!into.present || into.data != y.data) launch(q, blocks_for(y.count(), kThreads, 1 << 16), kThreads, 0, begin_kernel, rows_of(into), rows_of(y));
    if (dy.count() > 0) launch(q, dim3(static_cast<unsigned>(ids.count()), blocks_for(y.columns(), kThreads)), kThreads, 0, gradient_kernel, rows_of(dy), span<const int32_t>(ids), rows_of(y), c.attr<ds::Rows>().padding);
}

// i32 tables are indices: they move as they are, and f32 holds what any index is.
const char* declines(const Request& r) { return r.in[1].dtype != DType::i32 ? "ids are not i32" : accepts_floats(r); }

constexpr KernelImpl kEmbedding[] = {{"cuda", declines, simple<queued<forward>>}}, kEmbeddingGrad[] = {{"cuda", declines, simple<queued<backward>>}};

}  // namespace

extern const KernelList embedding{kEmbedding}, embedding_grad{kEmbeddingGrad};

}  // namespace ds::cuda
