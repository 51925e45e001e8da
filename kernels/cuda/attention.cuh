// What the attention kernels share: where heads lie, which keys a query sees (kernels/README.md), tiles in shared memory.
//
// A block works on kTile rows of one head with four threads a row: each thread owns every fourth column of the row's result, and every
// fourth of the other side's rows when scores are made.
#pragma once

#include "kernels/cuda/columns.cuh"
#include "kernels/relative.h"
#include "ops/attrs.h"

namespace ds::cuda {

inline constexpr int kTile = 32, kAcross = 4, kAttentionThreads = kTile * kAcross, kScores = kTile / kAcross;

// q, k, v or their gradients: rows of tokens, of each of which heads are parts.
struct Heads {
    Any memory;
    int64_t token_stride, head_stride;
    DS_DEVICE float get(int64_t row, int64_t head, int column) const {
        return memory.get(row * token_stride + head * head_stride + column);
    }
    DS_DEVICE void put(int64_t row, int64_t head, int column, float x) const {
        memory.put(row * token_stride + head * head_stride + column, x);
    }
};

struct Sight {
    int64_t heads, group;  // group: query heads that share a key head
    int size;              // of a head
    float scale;
    int64_t q_rows, k_rows;
    int64_t q_length, k_length;  // of each sequence, without segments
    Span<const int32_t> segments, tokens;
    Span<const int32_t> key_segments, key_tokens, first_tokens;  // of keys that are other tokens than the queries
    Span<const uint8_t> key_mask;
    bool causal;
    int64_t window;
    bool picky;           // whole tiles may see nothing where the bounds of near_keys would let them
    float dropout, kept;  // kept: what remaining probabilities are multiplied with
    uint64_t salt;
    int64_t first_head, all_heads;
    Span<const uint64_t> draws;
    Span<const uint8_t> layout;  // [heads or 1][blocks][blocks]
    int64_t block, blocks;
    bool layout_of_head;
    Rows bias;                    // [buckets][heads]
    Span<const int32_t> buckets;  // by distance, from -farthest on
    int64_t farthest;
};

struct Range {
    int64_t begin, end;
};

// Where a row stands: the rows on the other side of its sequence (none behind the last segment), the token of the sequence's first key, and
// the token from which dropout counts its keys.
struct Spot {
    int64_t begin, end, first, origin;
    DS_DEVICE bool holds(int64_t row) const { return row >= begin && row < end; }
};

// The sequence that holds a row, or -1.
DS_DEVICE int64_t sequence_at(const Span<const int32_t>& ends, int64_t row) {
    int64_t low = 0, high = ends.n - 1;  // the last boundary at or before row
    if (ends.n < 2 || row < ends.get(0) || row >= ends.get(high)) return -1;
    while (high - low > 1) {
        const int64_t middle = (low + high) / 2;
        if (ends.get(middle) <= row) low = middle;
        else high = middle;
    }
    return low;
}
DS_DEVICE Span<const int32_t> key_ends(const Sight& s) { return s.key_segments.data ? s.key_segments : s.segments; }
DS_DEVICE Range rows_in(const Span<const int32_t>& ends, int64_t sequence, int64_t length) {
    if (!ends.data) return {sequence * length, (sequence + 1) * length};
    return {ends.get(sequence), ends.get(sequence + 1)};
}

DS_DEVICE int64_t token_of(const Sight& s, int64_t query) { return s.tokens.data ? s.tokens.get(query) : query; }
DS_DEVICE int64_t key_token_of(const Sight& s, int64_t key) {
    if (!s.key_segments.data) return token_of(s, key);
    return s.key_tokens.data ? s.key_tokens.get(key) : key;
}

DS_DEVICE Spot place_in(const Sight& s, int64_t sequence, bool of_query) {
    if (sequence < 0) return {0, 0, 0, 0};
    const Range keys = rows_in(key_ends(s), sequence, s.k_length), others = of_query ? keys : rows_in(s.segments, sequence, s.q_length);
    const int64_t first = keys.begin < keys.end ? key_token_of(s, keys.begin) : 0;
    return {others.begin, others.end, first, s.first_tokens.data ? s.first_tokens.get(sequence) : first};
}
DS_DEVICE Spot keys_of(const Sight& s, int64_t query) {
    if (query >= s.q_rows) return {0, 0, 0, 0};
    return place_in(s, s.segments.data ? sequence_at(s.segments, query) : query / s.q_length, true);
}
DS_DEVICE Spot queries_of(const Sight& s, int64_t key) {
    if (key >= s.k_rows) return {0, 0, 0, 0};
    return place_in(s, s.segments.data ? sequence_at(key_ends(s), key) : key / s.k_length, false);
}

// Bounds of what a row can see or be seen by. Those by index hold for tokens too: places of packed tokens lie at least as far apart as
// their indices.
DS_DEVICE Range near_keys(const Sight& s, int64_t query, const Spot& mine) {
    if (s.key_segments.data) return {mine.begin, mine.end};
    return {s.window > 0 && query - s.window + 1 > mine.begin ? query - s.window + 1 : mine.begin,
            s.causal && query + 1 < mine.end ? query + 1 : mine.end};
}
DS_DEVICE Range near_queries(const Sight& s, int64_t key, const Spot& mine) {
    if (s.key_segments.data) return {mine.begin, mine.end};
    return {s.causal && key > mine.begin ? key : mine.begin, s.window > 0 && key + s.window < mine.end ? key + s.window : mine.end};
}

// Within one sequence.
DS_DEVICE bool sees(const Sight& s, int64_t query, int64_t head, int64_t key, const Spot& mine) {
    if (s.causal && (s.key_tokens.data ? key_token_of(s, key) > token_of(s, query) : key > query)) return false;
    if (s.key_mask.data && s.key_mask.get(key) == 0) return false;
    if (s.layout.data) {
        const int64_t row = (token_of(s, query) - mine.first) / s.block, column = (key_token_of(s, key) - mine.first) / s.block;
        if (row >= s.blocks || column >= s.blocks ||
            s.layout.get(((s.layout_of_head ? head : 0) * s.blocks + row) * s.blocks + column) == 0)
            return false;
    }
    return s.window == 0 || token_of(s, query) - key_token_of(s, key) < s.window;
}

// Whether no thread of the block finds one of its `count` pairs seen: the tile is passed over. memory: as max_of_block's.
template <class F>
DS_DEVICE bool unseen(const Sight& s, Shared<float> memory, int count, const F& seen) {
    if (!s.picky) return false;
    bool any = false;
    for (int m = 0; m < count && !any; ++m) any = seen(m);
    return max_of_block(any ? 1.0f : 0.0f, memory) == 0;
}

// What dropout multiplies a probability with.
DS_DEVICE float kept_of(const Sight& s, const Draws& draws, int64_t query, int64_t head, int64_t key, const Spot& mine) {
    if (s.dropout == 0) return 1;
    const auto index = static_cast<uint64_t>((token_of(s, query) * s.all_heads + s.first_head + head) << 20) +
                       static_cast<uint64_t>(key_token_of(s, key) - mine.origin);
    return uniform_draw(draws, s.salt, index) >= s.dropout ? s.kept : 0.0f;
}

DS_DEVICE int bucket_of(const Sight& s, int64_t query, int64_t key) {
    int64_t distance = key_token_of(s, key) - token_of(s, query);
    if (distance > s.farthest) distance = s.farthest;
    if (distance < -s.farthest) distance = -s.farthest;
    return s.buckets.get(distance + s.farthest);
}
DS_DEVICE float bias_of(const Sight& s, int64_t query, int64_t head, int64_t key) {
    return s.bias.present() ? s.bias.get(bucket_of(s, query, key), head) : 0.0f;
}

// The gradient of the bias: slopes summed by bucket. In each block a thread owns some buckets of some rows of the query tile, whose sums
// grow in memory.
struct BiasSums {
    Span<float> partial;  // [query tile][part of its rows][bucket][head]
    int64_t buckets, heads, parts;

    DS_DEVICE bool present() const { return partial.data != nullptr; }
    DS_DEVICE int64_t at(int64_t tile, int64_t owned, int64_t head) const { return (tile * parts * buckets + owned) * heads + head; }
    DS_DEVICE void clear(int64_t tile, int64_t head) const {
        for (int64_t owned = threadIdx.x; owned < parts * buckets; owned += blockDim.x) partial.put(at(tile, owned, head), 0.0f);
    }
    // slope(row, column): of a tile of kRows x kColumns scores, zero where the key is not seen.
    template <int kRows, int kColumns, class F>
    DS_DEVICE void add(const Sight& s, int64_t tile, int64_t head, int64_t first_query, int64_t first_key, const F& slope) const {
        for (int64_t owned = threadIdx.x; owned < parts * buckets; owned += blockDim.x) {
            float sum = 0;
            for (int row = static_cast<int>(owned / buckets); row < kRows; row += static_cast<int>(parts))
                for (int column = 0; column < kColumns; ++column) {
                    const float x = slope(row, column);
                    if (x != 0 && bucket_of(s, first_query + row, first_key + column) == owned % buckets) sum += x;
                }
            partial.put(at(tile, owned, head), partial.get(at(tile, owned, head)) + sum / s.scale);
        }
    }
};

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
inline constexpr int kTileFloats = kTile*(kD + 1);
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

// The buckets by distance go to the device as a kernel's parameters, which a recorded graph keeps.
struct Numbers {
    int32_t of[512];
};
static __global__ void store_kernel(Numbers numbers, Span<int32_t> to) {
    if (static_cast<int64_t>(threadIdx.x) < to.n) to.put(threadIdx.x, numbers.of[threadIdx.x]);
}
inline int64_t bucket_bytes(const Attention& a, const Tensor& bias) { return bias.present ? (2 * a.max_distance + 1) * 4 : 0; }
inline void store_buckets(Queue& queue, const Attention& a, const Tensor& bias, Span<int32_t> to) {
    for (int64_t from = 0; from < to.n; from += 512) {
        Numbers numbers{};
        const int64_t n = std::min<int64_t>(512, to.n - from);
        for (int64_t i = 0; i < n; ++i)
            numbers.of[i] = static_cast<int32_t>(relative_bucket(from + i - a.max_distance, bias.dims[0], a.max_distance, a.both_ways));
        launch(queue, 1, 512, 0, store_kernel, numbers, Span<int32_t>{to.data + from, n});
    }
}

// rest: segments and what follows them. buckets: where the table of a bias is; bucket_bytes of it.
inline Sight sight_of(const Attention& a, const Tensor& q, const Tensor& k, const Tensor* rest, Queue& queue, std::byte* buckets) {
    const Tensor &bias = rest[6], &layout = rest[7];
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
    s.key_segments = span<const int32_t>(rest[3]);
    s.key_tokens = span<const int32_t>(rest[4]);
    s.first_tokens = span<const int32_t>(rest[5]);
    s.causal = a.causal;
    s.window = a.window;
    s.picky = layout.present || (rest[4].present && (a.causal || a.window > 0));
    s.dropout = static_cast<float>(a.dropout);
    s.kept = a.dropout > 0 ? static_cast<float>(1 / (1 - a.dropout)) : 1.0f;
    s.salt = static_cast<uint64_t>(a.salt);
    s.first_head = a.first_head;
    s.all_heads = a.all_heads ? a.all_heads : s.heads;
    s.draws = {&queue.draws->seed, 2};
    s.layout = span<const uint8_t>(layout);
    s.block = a.block;
    s.blocks = layout.present ? layout.dims[1] : 0;
    s.layout_of_head = layout.present && layout.dims[0] > 1;
    s.bias = rows_of(bias);
    if (bias.present && s.q_rows > 0 && s.k_rows > 0) {
        s.farthest = a.max_distance;
        const Span<int32_t> table{reinterpret_cast<int32_t*>(buckets), 2 * s.farthest + 1};
        store_buckets(queue, a, bias, table);
        s.buckets = {table.data, table.n};
    }
    return s;
}

inline Heads heads_of(const Tensor& t, int64_t heads) {
    if (t.rank == 4) return {any(t), heads * t.row_stride, t.row_stride};
    return {any(t), t.row_stride, t.columns() / heads};
}

// rest: which operand segments are.
inline const char* accepts_heads(const Attention& a, const Tensor& q, const Request& r, size_t rest) {
    if (r.in[rest + 7].present && !r.in[rest + 7].dense()) return "a layout's rows lie apart";
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

// Scratch of a gradient.
struct GradRoom {
    int64_t delta = 0, buckets = 0, partial = 0, bytes = 0;
    int64_t runs = 0, parts = 1;

    // numbers: that are kept for each query and head
    GradRoom(const Attention& a, const Tensor& q, const Tensor& bias, int tile, int threads, int numbers = 1) {
        const int64_t heads = q.rank == 4 ? q.dims[2] : a.heads, rows = q.rank == 4 ? q.rows() / heads : q.rows();
        buckets = round_up(rows * heads * 4 * numbers, 256);
        partial = buckets + round_up(bucket_bytes(a, bias), 256);
        bytes = partial;
        if (!bias.present) return;
        parts = std::clamp<int64_t>(threads / bias.dims[0], 1, tile);
        runs = (rows + tile - 1) / tile * parts;
        bytes += runs * bias.count() * 4;
    }
    BiasSums sums(const Call& c, const Tensor& bias) const {
        if (!bias.present) return {};
        return {scratch<float>(c, partial, runs * bias.count()), bias.dims[0], bias.dims[1], parts};
    }
    void finish(const Call& c, Queue& queue, const Tensor& bias, const Tensor& dbias) const {
        const Span<float> all = sums(c, bias).partial;
        if (bias.present) add_runs(queue, {all.data, all.n}, runs, bias.count(), Tensor{}, dbias);
    }
};

namespace mma {  // attention_mma.cu, attention_grad_mma.cu: what the lists of attention.cu and attention_grad.cu begin with
const char* forward_declines(const Request& r);
Result<Prepared> prepare_forward(const Request& r);
const char* backward_declines(const Request& r);
Result<Prepared> prepare_backward(const Request& r);
}  // namespace mma

template <class K>
void allow_shared(Queue& q, K kernel, size_t bytes) {
    if (bytes > (size_t{48} << 10))
        q.note(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
               "asking for shared memory");
}

}  // namespace ds::cuda
