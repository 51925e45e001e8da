// Sums over ranks, in their order and in f32 (f64 for f64), as lib/comm/sum.h has them: the same bits on every backend.
#include "kernels/cuda/group.h"
#include "kernels/cuda/walk.cuh"

namespace ds::cuda {
namespace {

template <class Memory, class Sum>
__global__ void sum_ranks_kernel(Memory out, Memory own, Memory others, int64_t stride, int rank, int ranks, int64_t n) {
    const int64_t step = int64_t{gridDim.x} * blockDim.x;
    for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += step) {
        Sum sum = rank == 0 ? own.get(i) : others.get(i);
        for (int r = 1; r < ranks; ++r) sum += r == rank ? own.get(i) : others.get(r * stride + i);
        out.put(i, sum);
    }
}

template <class Memory, class Sum>
void run(Queue& q, void* out, const void* own, const std::byte* others, int64_t stride, int rank, int ranks, DType dtype, int64_t n) {
    const auto memory = [&](const void* at, int64_t count) { return Memory{const_cast<void*>(at), count, dtype}; };
    launch(q, striding_blocks(n, kThreads, 1 << 16), kThreads, 0, sum_ranks_kernel<Memory, Sum>, memory(out, n), memory(own, n),
           memory(others, (ranks - 1) * stride + n), stride, rank, ranks, n);
}

}  // namespace

Status sum_ranks(Queue& q, void* out, const void* own, const std::byte* others, int64_t stride_bytes, int rank, int ranks, DType dtype,
                 int64_t n) {
    if (n <= 0) return q.why();
    const int64_t stride = stride_bytes / size_of(dtype);
    if (dtype == DType::f64) run<Exact, double>(q, out, own, others, stride, rank, ranks, dtype, n);
    else run<Any, float>(q, out, own, others, stride, rank, ranks, dtype, n);
    return q.why();
}

}  // namespace ds::cuda
