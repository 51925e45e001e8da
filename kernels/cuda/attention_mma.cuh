// Attention on tensor cores, for bf16 and f16: tiles of 64 rows on either side, a warp for 16 of them. Scores and probabilities pass through shared
// memory, two threads a row.
#pragma once

#include "kernels/cuda/attention.cuh"

namespace ds::cuda::mma {

inline constexpr int kTile = 64, kWarps = 4, kThreads = kWarps * kWarp, kRows = kTile / kWarps;
inline constexpr int kScoreStride = kTile + 4, kWeightStride = kTile + 8;  // floats; elements

template <int kD> inline constexpr int kStride = kD + 8;                    // elements between rows of a tile
template <int kD> inline constexpr int kTileBytes = kTile * kStride<kD> * 2;
inline constexpr int kScoreBytes = kTile * kScoreStride * 4, kWeightBytes = kTile * kWeightStride * 2;

// Rows of tokens of one type, of which heads are parts. wide: every head's row begins at a multiple of 16 bytes.
template <class T>
struct Part {
    Span<T> memory;
    int64_t token_stride, head_stride;
    bool wide;
    DS_DEVICE int64_t at(int64_t row, int64_t head) const { return row * token_stride + head * head_stride; }
};

template <class T>
Part<T> part_of(const Tensor& t, int64_t heads) {
    const Heads h = heads_of(t, heads);
    return {span<T>(t), h.token_stride, h.head_stride, h.token_stride % 8 == 0 && h.head_stride % 8 == 0 && reinterpret_cast<uintptr_t>(t.data) % 16 == 0};
}

// Rows [first, first + kTile) of a head, zero outside.
template <int kD, class T>
DS_DEVICE void load_tile(Shared<T> tile, const Part<T>& from, int64_t first, int64_t rows, int64_t head, int size) {
    for (int i = threadIdx.x; i < kTile * (kD / 8); i += kThreads) {
        const int r = i / (kD / 8), c = i % (kD / 8) * 8;
        const int to = r * kStride<kD> + c;
        if (first + r < rows && c + 8 <= size && from.wide) {
            copy8(tile, to, from.memory, from.at(first + r, head) + c);
            continue;
        }
        for (int k = 0; k < 8; ++k) tile.put(to + k, first + r < rows && c + k < size ? from.memory.get(from.at(first + r, head) + c + k) : from_f32<T>(0.0f));
    }
}

// scores [16 of this warp's rows x 64] = its rows of a times the rows of b
template <int kD, class T>
DS_DEVICE void score_rows(Shared<T> a, Shared<T> b, Shared<float> scores) {
    const int row = threadIdx.x / kWarp * kRows;
#pragma unroll
    for (int n = 0; n < kTile / 16; ++n) {
        SumMatrix sum;
        sum.clear();
#pragma unroll
        for (int k = 0; k < kD / 16; ++k) {
            LeftMatrix<T> left;
            TransposedMatrix<T> right;
            left.load(a, row * kStride<kD> + k * 16, kStride<kD>);
            right.load(b, n * 16 * kStride<kD> + k * 16, kStride<kD>);
            sum.add_product(left, right);
        }
        sum.store(scores, row * kScoreStride + n * 16, kScoreStride);
    }
}

// sums [16 of this warp's rows x kD] += its rows of weights [64] times the 64 rows of b
template <int kD, class T>
DS_DEVICE void add_weighted(SumMatrix* sums, Shared<T> weights, Shared<T> b) {
    const int row = threadIdx.x / kWarp * kRows;
#pragma unroll
    for (int k = 0; k < kTile / 16; ++k) {
        LeftMatrix<T> left;
        left.load(weights, row * kWeightStride + k * 16, kWeightStride);
#pragma unroll
        for (int n = 0; n < kD / 16; ++n) {
            RightMatrix<T> right;
            right.load(b, k * 16 * kStride<kD> + n * 16, kStride<kD>);
            sums[n].add_product(left, right);
        }
    }
}

// The operands' one type, or why it doesn't serve.
inline const char* declines(const Attention& a, const Tensor& q, std::span<const Tensor* const> alike, const Request& r, size_t rest) {
    for (const Tensor* t : alike)
        if (t->dtype != q.dtype) return "its operands have several types";
    if (q.dtype != DType::bf16 && q.dtype != DType::f16) return "tensor cores take bf16 and f16";
    const int64_t heads = q.rank == 4 ? q.dims[2] : a.heads, size = q.rank == 4 ? q.columns() : q.columns() / std::max<int64_t>(heads, 1);
    if (size > 128) return "a head is larger than 128";
    return accepts_heads(a, q, r, rest);
}

// Calls f with the element type and the tile width.
template <class F>
void with_type(DType type, int size, F&& f) {
    const auto width = [&](auto element) { size <= 64 ? f(element, std::integral_constant<int, 64>()) : f(element, std::integral_constant<int, 128>()); };
    type == DType::bf16 ? width(bf16{}) : width(f16{});
}

}  // namespace ds::cuda::mma
