// Sums over rows, column by column, in two steps of fixed order: each block adds up a run of rows, then the runs' sums are added.
#pragma once

#include "kernels/cuda/device.cuh"

namespace ds::cuda {

inline constexpr int kRunsMost = 64, kColumnThreads = 128;

// Runs that n rows are cut into: by their number alone.
inline int64_t rows_a_run(int64_t rows) { return std::max<int64_t>((rows + kRunsMost - 1) / kRunsMost, 32); }
inline int64_t runs_of(int64_t rows) { return rows == 0 ? 0 : (rows + rows_a_run(rows) - 1) / rows_a_run(rows); }

inline constexpr int kAddThreads = 512;

// Where sums of columns go: y (+ into).
struct Summed {
    Rows into, y;
    DS_DEVICE void put(int64_t j, float sum) const {
        const int64_t row = j / y.columns, column = j % y.columns;
        y.put(row, column, sum + (into.present() ? into.get(row, column) : 0.0f));
    }
};

// The first columns of partial[run][column], summed over runs, are a's, the rest b's. `parts` threads share a column's runs.
static __global__ void __launch_bounds__(kAddThreads)
    add_runs_kernel(Span<const float> partial, int64_t runs, int64_t columns, int parts, Summed a, int64_t firsts, Summed b) {
    DS_SHARED(float, sums, kAddThreads);
    const int width = kAddThreads / parts, part = static_cast<int>(threadIdx.x) / width, place = static_cast<int>(threadIdx.x) % width;
    const int64_t j = int64_t{blockIdx.x} * width + place;
    float sum = 0;
    if (j < columns) {
#pragma unroll 8
        for (int64_t run = part; run < runs; run += parts) sum += partial.get(run * columns + j);
    }
    if (parts > 1) {
        sums.put(threadIdx.x, sum);
        barrier();
    }
    if (part > 0 || j >= columns) return;
    for (int other = 1; other < parts; ++other) sum += sums.get(other * width + place);
    if (j < firsts) a.put(j, sum);
    else b.put(j - firsts, sum);
}

// The sums of `a` lie in front of those of `b` in each run.
inline void add_runs(Queue& q, Span<const float> partial, int64_t runs, int64_t columns, const Summed& a, int64_t firsts, const Summed& b) {
    const int parts = runs >= 64 ? 16 : runs >= 8 ? 4 : 1;
    if (columns > 0)
        launch(q, blocks_for(columns, kAddThreads / parts), kAddThreads, 0, add_runs_kernel, partial, runs, columns, parts, a, firsts, b);
}
inline void add_runs(Queue& q, Span<const float> partial, int64_t runs, int64_t columns, const Tensor& into, const Tensor& y) {
    const Summed all{rows_of(into), rows_of(y)};
    add_runs(q, partial, runs, columns, all, columns, all);
}

}  // namespace ds::cuda
