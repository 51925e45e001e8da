// Products of mixture of experts. Rows of x are sorted by expert, and where each expert's end is known on the device only: a block finds
// the tile of rows that is its own from `ends`. bf16 and f16 go to tensor cores, other types are multiplied in f32.
#include <type_traits>

#include "kernels/cuda/device.cuh"
#include "ops/attrs.h"

namespace ds::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kExperts = 64;  // of a launch: their weights are parameters

struct Range {
    int64_t begin, end;
};

// One side of a product: element (row, depth). deep: neighbours in depth are neighbours in memory, else neighbours in rows are.
struct Matrix {
    Any memory;
    int64_t stride = 0;
    bool deep = false;
    bool wide = false;  // lines begin at multiples of 16 bytes
    DS_DEVICE int64_t at(int64_t row, int64_t depth) const { return deep ? row * stride + depth : depth * stride + row; }
};

Matrix matrix(const Tensor& t, bool deep) {
    return {any(t), t.row_stride, deep, t.row_stride % 8 == 0 && reinterpret_cast<uintptr_t>(t.data) % 16 == 0};
}

// A block's tile of the product a b^T in f32: each thread has 4 x 4 sums. store(row, column, sum) for all of the tile, within the ranges or
// not.
struct Plain {
    static constexpr int kTile = 64, kDepth = 16, kStride = kTile + 1;

    DS_DEVICE static void load(Shared<float> tile, const Matrix& m, Range rows, Range depth) {
        for (int i = threadIdx.x; i < kTile * kDepth; i += kThreads) {
            const int row = m.deep ? i / kDepth : i % kTile, d = m.deep ? i % kDepth : i / kTile;
            tile.put(d * kStride + row, rows.begin + row < rows.end && depth.begin + d < depth.end
                                            ? m.memory.get(m.at(rows.begin + row, depth.begin + d))
                                            : 0.0f);
        }
    }

    template <class F>
    DS_DEVICE static void multiply(const Matrix& a, Range a_rows, const Matrix& b, Range b_rows, Range depth, const F& store) {
        DS_SHARED(float, left, kDepth* kStride);
        DS_SHARED(float, right, kDepth* kStride);
        const int across = threadIdx.x % 16, down = threadIdx.x / 16;
        float sums[4][4];
#pragma unroll
        for (int m = 0; m < 4; ++m)
            for (int n = 0; n < 4; ++n) sums[m][n] = 0;
        for (; depth.begin < depth.end; depth.begin += kDepth) {
            load(left, a, a_rows, depth);
            load(right, b, b_rows, depth);
            barrier();
            for (int d = 0; d < kDepth; ++d) {
                float x[4], y[4];
#pragma unroll
                for (int m = 0; m < 4; ++m) x[m] = left.get(d * kStride + down + 16 * m), y[m] = right.get(d * kStride + across + 16 * m);
#pragma unroll
                for (int m = 0; m < 4; ++m)
#pragma unroll
                    for (int n = 0; n < 4; ++n) sums[m][n] = fmaf(x[m], y[n], sums[m][n]);
            }
            barrier();
        }
#pragma unroll
        for (int m = 0; m < 4; ++m)
#pragma unroll
            for (int n = 0; n < 4; ++n) store(a_rows.begin + down + 16 * m, b_rows.begin + across + 16 * n, sums[m][n]);
    }
};

// The same on tensor cores: a warp has 32 x 64 of the tile. Tiles of the operands lie in shared memory as they lie in global memory.
template <class T, bool kDeepA, bool kDeepB>
struct Tensors {
    static constexpr int kTile = 128, kDepth = 32, kElements = kTile * (kDepth + 8), kSums = 20;
    template <bool kDeep>
    static constexpr int kStride = kDeep ? kDepth + 8 : kTile + 8;

    template <bool kDeep>
    DS_DEVICE static void load(Shared<T> tile, const Matrix& m, Range rows, Range depth) {
        constexpr int kAcross = (kDeep ? kDepth : kTile) / 8;
        const Span<T> memory = m.memory.as<T>();
        for (int i = threadIdx.x; i < kTile * kDepth / 8; i += kThreads) {
            const int line = i / kAcross, at = i % kAcross * 8, to = line * kStride<kDeep> + at;
            const int64_t row = rows.begin + (kDeep ? line : at), d = depth.begin + (kDeep ? at : line),
                          from = kDeep ? row * m.stride + d : d * m.stride + row;
            const int64_t left = row < rows.end && d < depth.end ? (kDeep ? depth.end - d : rows.end - row) : 0;
            if (left >= 8 && m.wide) {
                copy8(tile, to, memory, from);
                continue;
            }
            for (int k = 0; k < 8; ++k) tile.put(to + k, k < left ? memory.get(from + k) : from_f32<T>(0.0f));
        }
    }

    template <class F>
    DS_DEVICE static void multiply(const Matrix& a, Range a_rows, const Matrix& b, Range b_rows, Range depth, const F& store) {
        DS_SHARED_TILE(T, left, kElements);
        DS_SHARED_TILE(T, right, kElements);
        DS_SHARED_TILE(float, out, kThreads / kWarp * 16 * kSums);
        const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, row = warp / 2 * 32, column = warp % 2 * 64;
        SumMatrix sums[2][4];
#pragma unroll
        for (int m = 0; m < 2; ++m)
#pragma unroll
            for (int n = 0; n < 4; ++n) sums[m][n].clear();
        for (; depth.begin < depth.end; depth.begin += kDepth) {
            load<kDeepA>(left, a, a_rows, depth);
            load<kDeepB>(right, b, b_rows, depth);
            barrier();
#pragma unroll
            for (int k = 0; k < kDepth; k += 16) {
                std::conditional_t<kDeepA, LeftMatrix<T>, LeftTransposed<T>> x[2];
#pragma unroll
                for (int m = 0; m < 2; ++m)
                    x[m].load(left, kDeepA ? (row + 16 * m) * kStride<true> + k : k * kStride<false> + row + 16 * m, kStride<kDeepA>);
#pragma unroll
                for (int n = 0; n < 4; ++n) {
                    std::conditional_t<kDeepB, TransposedMatrix<T>, RightMatrix<T>> y;
                    y.load(right, kDeepB ? (column + 16 * n) * kStride<true> + k : k * kStride<false> + column + 16 * n, kStride<kDeepB>);
#pragma unroll
                    for (int m = 0; m < 2; ++m) sums[m][n].add_product(x[m], y);
                }
            }
            barrier();
        }
        const int own = warp * 16 * kSums;
#pragma unroll
        for (int m = 0; m < 2; ++m)
#pragma unroll
            for (int n = 0; n < 4; ++n) {
                sums[m][n].store(out, own, kSums);
                barrier();
                for (int i = lane; i < 256; i += kWarp)
                    store(a_rows.begin + row + 16 * m + i / 16, b_rows.begin + column + 16 * n + i % 16,
                          out.get(own + i / 16 * kSums + i % 16));
                barrier();
            }
    }
};

// Weights, or their gradients, of some experts.
struct Some {
    int64_t first = 0;
    int count = 0;
    bool last = false;  // no experts follow
    Matrix of[kExperts];
};

// The rows of an expert.
DS_DEVICE Range rows_of_expert(const Span<const int32_t>& ends, int64_t expert, int64_t rows) {
    const int64_t begin = ends.get(expert), end = ends.get(expert + 1), least = begin < 0 ? 0 : begin < rows ? begin : rows;
    return {least, end < least ? least : end < rows ? end : rows};
}

// Block x: a tile of rows, counted over the experts and, behind the last, over the rows of none, which get zeros. Block y: a tile of
// columns.
template <class Way>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(Matrix x, Span<const int32_t> ends, Some weights, int64_t rows, int64_t depth, Rows y) {
    int64_t tile = blockIdx.x;
    Range mine{0, 0};
    Matrix weight{};
    bool found = false;
    for (int e = 0; e < weights.count && !found; ++e) {
        mine = rows_of_expert(ends, weights.first + e, rows);
        const int64_t tiles = (mine.end - mine.begin + Way::kTile - 1) / Way::kTile;
        found = tile < tiles;
        if (found) weight = weights.of[e];
        else tile -= tiles;
    }
    if (!found) mine = {weights.last ? mine.end : rows, rows};
    const Range terms{0, found ? depth : 0};
    mine.begin += tile * Way::kTile;
    if (mine.begin >= mine.end) return;
    Way::multiply(x, mine, weight, {int64_t{blockIdx.y} * Way::kTile, y.columns}, terms, [&](int64_t row, int64_t column, float sum) {
        if (row < mine.end && column < y.columns) y.put(row, column, sum);
    });
}

// Blocks x and y: a tile of the gradient; block z: an expert.
template <class Way>
__global__ void __launch_bounds__(kThreads)
    gradient_kernel(Matrix a, Matrix b, Span<const int32_t> ends, Some gradients, int64_t rows, int64_t a_columns, int64_t b_columns) {
    const Matrix to = gradients.of[blockIdx.z];
    Way::multiply(a, {int64_t{blockIdx.x} * Way::kTile, a_columns}, b, {int64_t{blockIdx.y} * Way::kTile, b_columns},
                  rows_of_expert(ends, gradients.first + blockIdx.z, rows), [&](int64_t row, int64_t column, float sum) {
                      if (row < a_columns && column < b_columns) to.memory.put(row * to.stride + column, sum);
                  });
}

// f(experts) in portions that fit the parameters of a launch.
template <class F>
void each_portion(const Tensor* weights, int64_t experts, bool deep, F&& f) {
    for (int64_t first = 0; first < experts; first += kExperts) {
        Some some;
        some.first = first;
        some.count = static_cast<int>(std::min<int64_t>(kExperts, experts - first));
        some.last = first + some.count == experts;
        for (int e = 0; e < some.count; ++e) some.of[e] = matrix(weights[first + e], deep);
        f(some);
    }
}

// Calls f with the way for operands of these types.
template <bool kDeepA, bool kDeepB, class F>
void with_way(DType a, DType b, F&& f) {
    if (a == DType::bf16 && b == a) f(Tensors<bf16, kDeepA, kDeepB>());
    else if (a == DType::f16 && b == a) f(Tensors<f16, kDeepA, kDeepB>());
    else f(Plain());
}

void forward(const Call& c, Queue& q) {
    const Tensor &x = c.in[0], &ends = c.in[1], &y = c.out[0];
    if (y.count() == 0) return;
    const bool deep = c.attr<Matmul>().transpose_b;
    each_portion(c.in + 2, ends.count() - 1, deep, [&](const Some& weights) {
        const auto run = [&](auto way) {
            using Way = decltype(way);
            launch(q,
                   dim3(static_cast<unsigned>((x.rows() + Way::kTile - 1) / Way::kTile + weights.count + 1),
                        blocks_for(y.columns(), Way::kTile)),
                   kThreads, 0, forward_kernel<Way>, matrix(x, true), span<const int32_t>(ends), weights, x.rows(), x.columns(),
                   rows_of(y));
        };
        deep ? with_way<true, true>(x.dtype, c.in[2].dtype, run) : with_way<true, false>(x.dtype, c.in[2].dtype, run);
    });
}

// dw = x^T dy of the expert's rows, or its transpose.
void backward(const Call& c, Queue& q) {
    const bool transposed = c.attr<Matmul>().transpose_b;
    const Tensor &ends = c.in[2], &a = c.in[transposed ? 0 : 1], &b = c.in[transposed ? 1 : 0];
    if (c.out[0].count() == 0) return;
    each_portion(c.out, ends.count() - 1, true, [&](const Some& gradients) {
        with_way<false, false>(a.dtype, b.dtype, [&](auto way) {
            using Way = decltype(way);
            launch(q,
                   dim3(blocks_for(a.columns(), Way::kTile), blocks_for(b.columns(), Way::kTile), static_cast<unsigned>(gradients.count)),
                   kThreads, 0, gradient_kernel<Way>, matrix(a, false), matrix(b, false), span<const int32_t>(ends), gradients, a.rows(),
                   a.columns(), b.columns());
        });
    });
}

const char* declines(const Request& r) {
    for (size_t i = 3; i < r.in.size(); ++i)
        if (r.in[i].dtype != r.in[2].dtype) return "weights differ in type";
    return accepts_floats(r);
}

constexpr KernelImpl kGrouped[] = {{"tiles", declines, simple<queued<forward>>}},
                     kGroupedGrad[] = {{"tiles", declines, simple<queued<backward>>}};

}  // namespace

extern const KernelList grouped_matmul{kGrouped}, grouped_matmul_grad{kGroupedGrad};

}  // namespace ds::cuda
