// Attention on tensor cores, for bf16 and f16: a group of four warps has 64 rows of a block's own side (tiles.cuh), whose sums, scores and probabilities stay in
// registers. Tiles of the other side come while the ones before are worked on.
#pragma once

#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/tiles.cuh"

namespace ds::cuda::mma {

inline constexpr int kGroups = 2, kThreads = kGroups * kGroupThreads, kOwn = kGroups * kGroupRows;  // kOwn: rows of a block's own side
inline constexpr float kLog2E = 1.44269504f, kLn2 = 0.69314718f;
template <int kD, int kRows> inline constexpr int kTileBytes = kRows * kD * 2;

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

// Rows [first, first + kRows) of a head on their way into a tile; zero outside.
template <int kD, int kRows, class T>
DS_DEVICE void load_tile(Shared<T> tile, const Part<T>& from, int64_t first, int64_t rows, int64_t head, int size) {
    const int64_t base = from.at(first, head);
    const int there = static_cast<int>(rows - first < kRows ? rows - first : kRows);
#pragma unroll
    for (int i = threadIdx.x; i < kRows * (kD / 8); i += kThreads) {
        const int r = i / (kD / 8), c = i % (kD / 8) * 8, to = place_in_tile(kRows, r, c);
        if (r < there && c + 8 <= size && from.wide) {
            copy8_async(tile, to, from.memory, base + r * from.token_stride + c);
            continue;
        }
        for (int k = 0; k < 8; ++k) tile.put(to + k, r < there && c + k < size ? from.memory.get(base + r * from.token_stride + c + k) : from_f32<T>(0.0f));
    }
}

// A row of the block's own side, of which a thread has two: the rows of the other side that it may see.
struct Own {
    int64_t row;
    Spot spot;
    int begin, end;  // nothing outside is seen; inside all is, unless the call is fussy
};

// Row sums_row(2 * half) of this thread's.
DS_DEVICE int64_t own_row(int64_t first, int half) { return first + threadIdx.x / kWarp * 16 + sums_row(2 * half); }
DS_DEVICE Own own_of(int64_t row, const Spot& spot, const Range& near) { return {row, spot, static_cast<int>(near.begin), static_cast<int>(near.begin < near.end ? near.end : near.begin)}; }
DS_DEVICE Own own_query(const Sight& s, int64_t row) {
    const Spot spot = keys_of(s, row);
    return own_of(row, spot, near_keys(s, row, spot));
}
DS_DEVICE Own own_key(const Sight& s, int64_t row) {
    const Spot spot = queries_of(s, row);
    return own_of(row, spot, near_queries(s, row, spot));
}

// What all of the block's rows may see.
DS_DEVICE Range cover(const Own* own, Shared<int> memory) {
    int begin = INT32_MAX, end = 0;
#pragma unroll
    for (int h = 0; h < 2; ++h)
        if (own[h].begin < own[h].end) begin = own[h].begin < begin ? own[h].begin : begin, end = own[h].end > end ? own[h].end : end;
    for (int d = kWarp / 2; d > 0; d /= 2) {
        const int b = shuffle_xor(begin, d), e = shuffle_xor(end, d);
        begin = b < begin ? b : begin;
        end = e > end ? e : end;
    }
    if (threadIdx.x % kWarp == 0) memory.put(threadIdx.x / kWarp * 2, begin), memory.put(threadIdx.x / kWarp * 2 + 1, end);
    barrier();
    for (int w = 0; w < kThreads / kWarp; ++w) {
        const int b = memory.get(w * 2), e = memory.get(w * 2 + 1);
        begin = b < begin ? b : begin;
        end = e > end ? e : end;
    }
    return {begin, end};
}

// Writes a lane's numbers, each row times `by` of its half, to rows of `to`.
template <int kD, class T>
DS_DEVICE void write_rows(const Sums<kD>& sums, const float* by, const Part<T>& to, int64_t first, int64_t rows, int64_t head, int size) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int64_t row = own_row(first, half), base = to.at(row, head);
        if (row >= rows) continue;
#pragma unroll
        for (int i = half * 2; i < kD / 2; i += 4) {
            const int column = sums_column(i);
            const float low = sums.x[i] * by[half], high = sums.x[i + 1] * by[half];
            if (to.wide && column + 2 <= size) put_pair(to.memory, base + column, low, high);
            else {
                if (column < size) to.memory.put(base + column, from_f32<T>(low));
                if (column + 1 < size) to.memory.put(base + column + 1, from_f32<T>(high));
            }
        }
    }
}

// Whether what a row sees is more than a range of rows, or its probabilities are more than the scores say.
inline bool fussy(const Sight& s) {
    return s.key_mask.data || s.layout.data || s.key_segments.data || s.bias.memory.data || s.dropout > 0 || (s.window > 0 && s.tokens.data) || !(s.scale > 0);
}

// The operands' one type, or why it doesn't serve.
inline const char* declines(const Attention& a, const Tensor& q, std::span<const Tensor* const> alike, const Request& r, size_t rest) {
    for (const Tensor* t : alike)
        if (t->dtype != q.dtype) return "its operands have several types";
    if (q.dtype != DType::bf16 && q.dtype != DType::f16) return "tensor cores take bf16 and f16";
    const int64_t heads = q.rank == 4 ? q.dims[2] : a.heads, size = q.rank == 4 ? q.columns() : q.columns() / std::max<int64_t>(heads, 1);
    if (size > 128) return "a head is larger than 128";
    for (const Tensor& t : r.in)
        if (t.present && t.rows() >= INT32_MAX) return "more rows than 2^31";
    return accepts_heads(a, q, r, rest);
}

// Calls f with the element type, the tile width and whether the call is fussy.
template <class F>
void with_kind(DType type, const Sight& s, F&& f) {
    const auto with_width = [&](auto element, auto is_fussy) {
        s.size <= 64 ? f(element, std::integral_constant<int, 64>(), is_fussy) : f(element, std::integral_constant<int, 128>(), is_fussy);
    };
    const auto with_fuss = [&](auto element) { fussy(s) ? with_width(element, std::true_type()) : with_width(element, std::false_type()); };
    type == DType::bf16 ? with_fuss(bf16{}) : with_fuss(f16{});
}

}  // namespace ds::cuda::mma
