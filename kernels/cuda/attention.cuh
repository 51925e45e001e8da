// What the attention kernels share: where heads lie, which keys a query sees (kernels/README.md), tiles in shared memory.
//
// A block works on kTile rows of one head with four threads a row: each thread owns every fourth column of the row's result, and every fourth of the other
// side's rows when scores are made.
#pragma once

#include "kernels/cuda/device.cuh"
#include "ops/attrs.h"

namespace ds::cuda {

inline constexpr int kTile = 32, kAcross = 4, kAttentionThreads = kTile * kAcross, kScores = kTile / kAcross;

// q, k, v or their gradients: rows of tokens, of each of which heads are parts.
struct Heads {
    Any memory;
    int64_t token_stride, head_stride;
    DS_DEVICE float get(int64_t row, int64_t head, int column) const { return memory.get(row * token_stride + head * head_stride + column); }
    DS_DEVICE void put(int64_t row, int64_t head, int column, float x) const { memory.put(row * token_stride + head * head_stride + column, x); }
};

struct Sight {
    int64_t heads, group;              // group: query heads that share a key head
    int size;                          // of a head
    float scale;
    int64_t q_rows, k_rows;
    int64_t q_length, k_length;        // of each sequence, without segments
    Span<const int32_t> segments, tokens;
    Span<const uint8_t> key_mask;
    bool causal;
    int64_t window;
    float dropout, kept;               // kept: what remaining probabilities are multiplied with
    uint64_t salt;
    int64_t first_head, all_heads;
    Span<const uint64_t> draws;
};

struct Range {
    int64_t begin, end;
};

// The sequence of a row: its rows on the other side; none behind the last segment.
DS_DEVICE Range sequence_of(const Sight& s, int64_t row, int64_t length, int64_t other_length) {
    if (!s.segments.data) {
        const int64_t sequence = row / length;
        return {sequence * other_length, (sequence + 1) * other_length};
    }
    int64_t low = 0, high = s.segments.n - 1;  // the last boundary at or before row
    if (s.segments.n < 2 || row < s.segments.get(0) || row >= s.segments.get(high)) return {0, 0};
    while (high - low > 1) {
        const int64_t middle = (low + high) / 2;
        if (s.segments.get(middle) <= row) low = middle;
        else high = middle;
    }
    return {s.segments.get(low), s.segments.get(low + 1)};
}
DS_DEVICE Range keys_of(const Sight& s, int64_t query) { return query < s.q_rows ? sequence_of(s, query, s.q_length, s.k_length) : Range{0, 0}; }
DS_DEVICE Range queries_of(const Sight& s, int64_t key) { return key < s.k_rows ? sequence_of(s, key, s.k_length, s.q_length) : Range{0, 0}; }

DS_DEVICE int64_t token_of(const Sight& s, int64_t row) { return s.tokens.data ? s.tokens.get(row) : row; }

// Within one sequence.
DS_DEVICE bool sees(const Sight& s, int64_t query, int64_t key) {
    if (s.causal && key > query) return false;
    if (s.key_mask.data && s.key_mask.get(key) == 0) return false;
    return s.window == 0 || token_of(s, query) - token_of(s, key) < s.window;
}

// What dropout multiplies a probability with. first: of the keys' sequence.
DS_DEVICE float kept_of(const Sight& s, const Draws& draws, int64_t query, int64_t head, int64_t key, int64_t first) {
    if (s.dropout == 0) return 1;
    const auto index = static_cast<uint64_t>((token_of(s, query) * s.all_heads + s.first_head + head) << 20) + static_cast<uint64_t>(token_of(s, key) - token_of(s, first));
    return uniform_draw(draws, s.salt, index) >= s.dropout ? s.kept : 0.0f;
}

// Rows [first, first + kTile) of a head, f32, zero outside; a row has kD + 1 places, so that a column's elements lie in different banks.
template <int kD>
DS_DEVICE void load_tile(Shared<float> tile, const Heads& from, int64_t first, int64_t rows, int64_t head, int size) {
    for (int i = threadIdx.x; i < kTile * kD; i += kAttentionThreads) {
        const int r = i / kD, c = i % kD;
        tile.put(r * (kD + 1) + c, first + r < rows && c < size ? from.get(first + r, head, c) : 0.0f);
    }
}

// scores[m] = row r of a times row c + 4 m of b
template <int kD>
DS_DEVICE void dot_rows(Shared<float> a, int r, Shared<float> b, int c, float* scores) {
#pragma unroll
    for (int m = 0; m < kScores; ++m) scores[m] = 0;
    for (int i = 0; i < kD; ++i) {
        const float x = a.get(r * (kD + 1) + i);
#pragma unroll
        for (int m = 0; m < kScores; ++m) scores[m] = fmaf(x, b.get((c + kAcross * m) * (kD + 1) + i), scores[m]);
    }
}

// sums[k] += sum over j of weights[r][j] rows[j][c + 4 k]
template <int kD>
DS_DEVICE void add_rows(Shared<float> weights, int r, Shared<float> rows, int c, float* sums) {
    for (int j = 0; j < kTile; ++j) {
        const float w = weights.get(r * (kTile + 1) + j);
#pragma unroll
        for (int k = 0; k < kD / kAcross; ++k) sums[k] = fmaf(w, rows.get(j * (kD + 1) + c + kAcross * k), sums[k]);
    }
}

template <int kD>
inline constexpr int kTileFloats = kTile * (kD + 1);
inline constexpr int kWeightFloats = kTile * (kTile + 1);

// The smallest range that holds all rows' ranges; empty ones don't count. begins and ends: one for each row of the tile.
template <int kCount>
DS_DEVICE Range cover(Shared<int64_t> begins, Shared<int64_t> ends) {
    Range all{INT64_MAX, 0};
    for (int r = 0; r < kCount; ++r) {
        const int64_t begin = begins.get(r), end = ends.get(r);
        if (begin >= end) continue;
        if (begin < all.begin) all.begin = begin;
        if (end > all.end) all.end = end;
    }
    return all;
}

inline Sight sight_of(const Attention& a, const Tensor& q, const Tensor& k, const Tensor* rest, uint64_t* draws) {
    Sight s{};
    s.heads = q.rank == 4 ? q.dims[2] : a.heads;
    s.group = k.rank == 4 ? s.heads / k.dims[2] : a.kv_heads ? s.heads / a.kv_heads : 1;
    s.size = static_cast<int>(q.rank == 4 ? q.columns() : q.columns() / s.heads);
    s.scale = static_cast<float>(a.scale != 0 ? a.scale : 1 / sqrt(static_cast<double>(s.size)));
    s.q_rows = q.rank == 4 ? q.rows() / s.heads : q.rows();
    s.k_rows = k.rank == 4 ? k.rows() / k.dims[2] : k.rows();
    s.q_length = q.rank >= 3 ? q.dims[1] : q.dims[0];
    s.k_length = k.rank >= 3 ? k.dims[1] : k.dims[0];
    s.segments = span<const int32_t>(rest[0]);
    s.tokens = span<const int32_t>(rest[1]);
    s.key_mask = span<const uint8_t>(rest[2]);
    s.causal = a.causal;
    s.window = a.window;
    s.dropout = static_cast<float>(a.dropout);
    s.kept = a.dropout > 0 ? static_cast<float>(1 / (1 - a.dropout)) : 1.0f;
    s.salt = static_cast<uint64_t>(a.salt);
    s.first_head = a.first_head;
    s.all_heads = a.all_heads ? a.all_heads : s.heads;
    s.draws = {draws, 2};
    return s;
}

inline Heads heads_of(const Tensor& t, int64_t heads) {
    if (t.rank == 4) return {any(t), heads * t.row_stride, t.row_stride};
    return {any(t), t.row_stride, t.columns() / heads};
}

// rest: which operand segments are.
inline const char* accepts_heads(const Attention& a, const Tensor& q, const Request& r, size_t rest) {
    for (size_t i = rest + 3; i < r.in.size(); ++i)
        if (r.in[i].present) return "keys of another stream (key_segments, key_tokens, first_tokens), a bias and a layout are not built on the device";
    const int64_t heads = q.rank == 4 ? q.dims[2] : a.heads, size = q.rank == 4 ? q.columns() : q.columns() / std::max<int64_t>(heads, 1);
    if (size > 256) return "a head is larger than 256";
    if (heads > 65535) return "more than 65535 heads";
    return accepts_floats(r);
}

// Calls f with the tile width that holds a head of so many columns.
template <class F>
void with_width(int size, F&& f) {
    if (size <= 32) f(std::integral_constant<int, 32>());
    else if (size <= 64) f(std::integral_constant<int, 64>());
    else if (size <= 128) f(std::integral_constant<int, 128>());
    else f(std::integral_constant<int, 256>());
}

namespace mma {  // attention_mma.cu, attention_grad_mma.cu: what the lists of attention.cu and attention_grad.cu begin with
const char* forward_declines(const Request& r);
Result<Prepared> prepare_forward(const Request& r);
const char* backward_declines(const Request& r);
Result<Prepared> prepare_backward(const Request& r);
}  // namespace mma

template <class K>
void allow_shared(Queue& q, K kernel, size_t bytes) {
    if (bytes > (size_t{48} << 10)) q.note(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)), "asking for shared memory");
}

}  // namespace ds::cuda
