// What the kernels of attention and its gradient share: where heads and sequences lie, what a block of queries may see, work items.
#pragma once

#include <algorithm>

#include "kernels/cpu/attention_scores.h"
#include "kernels/cpu/convert.h"
#include "kernels/cpu/tile.h"
#include "ops/attrs.h"

namespace ds::cpu {

inline constexpr int64_t kTileQueries = 32, kTileKeys = kMostKeys;  // of a tile of scores
inline constexpr int64_t kChunk = 256;                              // queries or keys of an item where whole heads are too few for a team

inline int64_t score_pad(int64_t n) { return (n + kScorePad - 1) / kScorePad * kScorePad; }

// The rows of one tensor by token and head: [tokens, heads * size], or [.., tokens, heads, size].
struct HeadRows {
    std::byte* base;
    DType type;
    int64_t token, head;  // elements from one to the next

    HeadRows(const Tensor& t, int64_t heads)
        : base(t.as<std::byte>()),
          type(t.dtype),
          token(t.rank == 4 ? heads * t.row_stride : t.row_stride),
          head(t.rank == 4 ? t.row_stride : t.columns() / heads) {}
    std::byte* at(int64_t row, int64_t h) const { return base + (row * token + h * head) * float_size(type); }
};

// What prepare knows. All lengths in elements; `longest` bounds a sequence.
struct AttentionShape {
    int64_t heads, kv_heads, group, size, wide;  // wide: size filled up for the tiles
    int64_t query_rows, key_rows, sequences, longest_queries, longest_keys;
    double scale;
    const TileSet* tiles;
    int64_t units;                   // of the head size
    int64_t own = 0;                 // floats of scratch of a thread
    int64_t buckets = 0, slots = 0;  // of the bias; places where the gradient collects sums for it, each [heads, buckets] floats

    AttentionShape(const Attention& attrs, const Tensor& q, const Tensor& k, const Tensor* optional, bool bf16);
    int64_t row_units(int64_t rows) const { return tiles->units(rows); }
};

struct Sequence {
    int64_t q0, q1, k0, k1, index;
};

// One call's operands besides the matrices.
struct AttentionCall {
    const AttentionShape& shape;
    const Attention& attrs;
    const int32_t *segments, *tokens;
    const uint8_t *key_mask, *layout;
    const int32_t *key_segments, *key_tokens, *first_tokens;  // where keys are not the queries' own tokens
    const float* bias;
    int64_t layout_heads, layout_blocks;
    const Runtime* runtime;

    AttentionCall(const Call& call, const Tensor* from_segments);
    Sequence sequence(int64_t i) const;
    int64_t covered() const;  // rows from here on belong to no sequence
    int64_t covered_keys() const;
    bool looks_at_pairs() const { return attrs.causal || attrs.window || key_mask || attrs.dropout > 0 || bias || layout; }
    bool adjusts() const { return bias || layout; }
    int32_t token(int64_t row) const { return tokens ? tokens[row] : static_cast<int32_t>(row); }
    int32_t key_token(int64_t row) const { return !key_segments ? token(row) : key_tokens ? key_tokens[row] : static_cast<int32_t>(row); }
};

// The keys of a sequence: what decides who sees them. Arrays are the thread's, filled by `load`.
struct KeyInfo {
    int32_t *place, *token;
    uint32_t* offset;
    int32_t *least, *most, *seen;  // of each tile of keys: its tokens' range, and how many keys are not masked
    int32_t* block;                // of the layout

    template <class Arena>
    void carve(Arena& arena, int64_t longest) {
        const int64_t n = longest + kTileKeys, tiles = longest / kTileKeys + 1;
        arena.take(place, n), arena.take(token, n), arena.take(offset, n), arena.take(block, n);
        arena.take(least, tiles), arena.take(most, tiles), arena.take(seen, tiles);
    }
    void load(const AttentionCall& a, const Sequence& s);
};

// A block of at most kTileQueries queries of one head.
struct QueryInfo {
    int32_t *limit, *token, *block;
    uint32_t *low, *high;
    int64_t first, count;  // rows within the sequence
    int32_t least, most;   // of its tokens
    int64_t head;

    template <class Arena>
    void carve(Arena& arena) {
        arena.take(limit, kTileQueries), arena.take(token, kTileQueries), arena.take(block, kTileQueries), arena.take(low, kTileQueries),
            arena.take(high, kTileQueries);
    }
    void load(const AttentionCall& a, const Sequence& s, int64_t first_query, int64_t queries, int64_t head);
};

// One tile of scores: `count` keys from `first` on; none where the queries see nothing of it. Keys are packed in panels of kTileKeys.
struct KeyTile {
    int64_t first, count;
    bool masked;  // some pairs are hidden
    Visible visible;
    Draws draws;
    int64_t panel() const { return first / kTileKeys * kTileKeys; }
};
KeyTile key_tile(const AttentionCall& a, const Sequence& s, const KeyInfo& keys, const QueryInfo& queries, int64_t first);
// The end of the keys that queries up to `last` may see, within the sequence.
int64_t key_end(const AttentionCall& a, const Sequence& s, int64_t last);

// What is added to a tile's scores before they are scaled: the bias of each pair's distance, minus infinity where the layout hides a pair.
class Adjuster {
public:
    template <class A>
    void carve(A& arena, const AttentionShape& s, const Attention& attrs) {
        reach_ = attrs.max_distance;  // farther pairs share the last bucket
        arena.take(near_, s.buckets ? 2 * reach_ + 1 : 0);
        arena.take(bucket_, s.buckets ? 2 * reach_ + 1 : 0);
        arena.take(line_, s.buckets ? kTileQueries + kTileKeys : 0);
    }
    void load(const AttentionCall& a, int64_t head);
    // s[key][query], or s[query][key] where by_query; rows are `stride` apart.
    void add(const AttentionCall& a, const KeyTile& tile, const KeyInfo& keys, const QueryInfo& queries, float* s, int64_t stride,
             bool by_query) const;
    // Adds the gradient of a tile's scores, ds[query][key] / factor, to the sums of their buckets.
    void collect(const AttentionCall& a, const KeyTile& tile, const KeyInfo& keys, const QueryInfo& queries, const float* ds,
                 int64_t stride, float* sums) const;

private:
    int64_t at(int32_t key_token, int32_t query_token) const {
        return std::clamp<int64_t>(int64_t{key_token} - query_token, -reach_, reach_) + reach_;
    }
    // Whether tokens of the tile follow each other, so that a pair's distance follows from its place in the tile.
    static bool in_line(const KeyTile& tile, const KeyInfo& keys, const QueryInfo& queries);
    int64_t reach_ = 0;
    float *near_ = nullptr, *line_ = nullptr;  // by distance: the head's bias over the scale of scores
    int32_t* bucket_ = nullptr;
};

// Carves arrays out of a thread's scratch, or counts them.
struct Arena {
    float* base = nullptr;
    int64_t used = 0;  // floats
    template <class T>
    void take(T*& p, int64_t n) {
        static_assert(sizeof(T) == 4);
        p = base ? reinterpret_cast<T*>(base + used) : nullptr;
        used += round_up(n, 16);
    }
};

// Zeroes the rows of t from `first` on, this thread's share of them.
void zero_rows(const Tensor& t, int64_t first, Team team);
const char* attention_declines(std::initializer_list<const Tensor*> matrices, const Attention& attrs);

}  // namespace ds::cpu
