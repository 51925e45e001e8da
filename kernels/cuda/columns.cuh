// Sums over rows, column by column, in two steps of fixed order: each block adds up a run of rows, then the runs' sums are added.
#pragma once

#include "kernels/cuda/device.cuh"

namespace ds::cuda {

inline constexpr int kRunsMost = 64, kColumnThreads = 128;

// Runs that n rows are cut into: by their number alone.
inline int64_t rows_a_run(int64_t rows) { return std::max<int64_t>((rows + kRunsMost - 1) / kRunsMost, 32); }
inline int64_t runs_of(int64_t rows) { return rows == 0 ? 0 : (rows + rows_a_run(rows) - 1) / rows_a_run(rows); }

// y[j] = sum of partial[run][j] (+ into[j])
static __global__ void add_runs_kernel(Span<const float> partial, int64_t runs, int64_t columns, Rows into, Rows y) {
    for (int64_t j = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; j < columns; j += int64_t{gridDim.x} * blockDim.x) {
        float sum = 0;
        for (int64_t run = 0; run < runs; ++run) sum += partial.get(run * columns + j);
        const int64_t row = j / y.columns, column = j % y.columns;
        y.put(row, column, sum + (into.present() ? into.get(row, column) : 0.0f));
    }
}

inline void add_runs(Queue& q, Span<const float> partial, int64_t runs, int64_t columns, const Tensor& into, const Tensor& y) {
    if (columns > 0) launch(q, blocks_for(columns, kColumnThreads), kColumnThreads, 0, add_runs_kernel, partial, runs, columns, rows_of(into), rows_of(y));
}

}  // namespace ds::cuda
