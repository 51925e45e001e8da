// Attention on tensor cores, for bf16 and f16: a group of four warps has 64 rows of a block's own side (tiles.cuh), whose sums, scores and
// probabilities stay in registers. Pairs of tiles of the other side come while the ones before are worked on, and a pair's products with
// the weights are made while the next one's scores are turned into weights (as FlashAttention-3 does within a warpgroup, Shah et al. 2024).
#pragma once

#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/tiles.cuh"

namespace ds::cuda::mma {

inline constexpr int kOther = 64, kRing = 3;  // rows of a tile of the other side; pairs of them there are room for
template <int kGroups>
inline constexpr int kThreads = kGroups* kGroupThreads;
template <int kGroups>
inline constexpr int kOwn = kGroups* kGroupRows;  // rows of a block's own side
inline constexpr float kLog2E = 1.44269504f, kLn2 = 0.69314718f;
template <int kD, int kRows>
inline constexpr int kTileBytes = kRows* kD * 2;

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
    return {span<T>(t), h.token_stride, h.head_stride,
            h.token_stride % 8 == 0 && h.head_stride % 8 == 0 && reinterpret_cast<uintptr_t>(t.data) % 16 == 0};
}

// Rows [first, first + kRows) of a head on their way into a tile; zero outside.
template <int kD, int kRows, int kThreads, class T>
DS_DEVICE void load_tile(Shared<T> tile, const Part<T>& from, int64_t first, int64_t rows, int64_t head, int size) {
    constexpr int kPieces = kD / 8, kStep = kThreads / kPieces;  // of a row; rows that all threads load at once
    static_assert(kThreads % kPieces == 0 && kStep % 8 == 0);
    const int there = static_cast<int>(rows - first < kRows ? rows - first : kRows), column = static_cast<int>(threadIdx.x) % kPieces * 8,
              row = static_cast<int>(threadIdx.x) / kPieces;
    int64_t at = from.at(first + row, head) + column;
    const int64_t stride = kStep * from.token_stride;
    const bool wide = from.wide && column + 8 <= size;
    const int place = place_in_tile(kRows, row, column);
#pragma unroll
    for (int i = 0; i < (kRows + kStep - 1) / kStep; ++i, at += stride) {
        const int r = row + i * kStep, to = place + i * kStep * kPanel;
        if (kRows % kStep != 0 && r >= kRows) continue;
        if (wide && r < there) {
            copy8_async(tile, to, from.memory, at);
            continue;
        }
        for (int k = 0; k < 8; ++k) tile.put(to + k, r < there && column + k < size ? from.memory.get(at + k) : from_f32<T>(0.0f));
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
DS_DEVICE Own own_of(int64_t row, const Spot& spot, const Range& near) {
    return {row, spot, static_cast<int>(near.begin), static_cast<int>(near.begin < near.end ? near.end : near.begin)};
}
DS_DEVICE Own own_query(const Sight& s, int64_t row) {
    const Spot spot = keys_of(s, row);
    return own_of(row, spot, near_keys(s, row, spot));
}
DS_DEVICE Own own_key(const Sight& s, int64_t row) {
    const Spot spot = queries_of(s, row);
    return own_of(row, spot, near_queries(s, row, spot));
}

// What all of the block's rows may see. memory: two numbers a warp.
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
    for (unsigned w = 0; w < blockDim.x / kWarp; ++w) {
        const int b = memory.get(w * 2), e = memory.get(w * 2 + 1);
        begin = b < begin ? b : begin;
        end = e > end ? e : end;
    }
    return {begin, end};
}

// As sees and kept_of, of pairs that are within a row's range.
DS_CALLED bool sees_called(const Sight& s, int64_t query, int64_t head, int64_t key, int64_t first_key) {
    return sees(s, query, head, key, {0, 0, first_key, 0});
}
DS_CALLED float kept_called(const Sight& s, int64_t query, int64_t head, int64_t key, int64_t origin) {
    return kept_of(s, {s.draws.get(0), s.draws.get(1)}, query, head, key, {0, 0, 0, origin});
}

// Scores become exponents of two's powers once they are multiplied with unit_of; -inf where a row doesn't see what its column stands for.
// first: of the columns. pair(own, other): which of two rows is the query, and which the key.
template <bool kFussy, class F>
DS_DEVICE void mask(const Sight& s, Sums<kOther>& scores, const Own* own, int64_t head, int first, const F& pair) {
    if (!kFussy && own[0].begin <= first && own[1].begin <= first && own[0].end >= first + kOther && own[1].end >= first + kOther) return;
#pragma unroll
    for (int i = 0; i < kOther / 2; ++i) {
        const int half = i % 4 / 2, other = first + sums_column(i);
        const Own& mine = own[half];
        bool seen = other >= mine.begin && other < mine.end;
        if (kFussy && seen) {
            const auto [query, key] = pair(mine.row, other);
            seen = sees_called(s, query, head, key, mine.spot.first);
            if (seen) scores.x[i] = (scores.x[i] * s.scale + bias_of(s, query, head, key)) * kLog2E;
        }
        if (!seen) scores.x[i] = -INFINITY;
    }
}
template <bool kFussy>
DS_DEVICE float unit_of(const Sight& s) {
    return kFussy ? 1.0f : s.scale * kLog2E;
}

struct Pair {
    int64_t query, key;
};
struct OfQuery {  // own rows are queries
    DS_DEVICE Pair operator()(int64_t own, int64_t other) const { return {own, other}; }
};
struct OfKey {
    DS_DEVICE Pair operator()(int64_t own, int64_t other) const { return {other, own}; }
};

// Whether any row of the block sees anything of a tile; where that is cheaper to ask than to compute.
template <bool kFussy, class F>
DS_DEVICE bool is_seen(const Sight& s, Shared<float> votes, const Own* own, int64_t head, int first, const F& pair) {
    if (!kFussy) return true;
    return !unseen(s, votes, kOther / 2, [&](int i) {
        const Own& mine = own[i % 4 / 2];
        const int other = first + sums_column(i);
        if (other < mine.begin || other >= mine.end) return false;
        const auto [query, key] = pair(mine.row, other);
        return sees_called(s, query, head, key, mine.spot.first);
    });
}

// Walks over the tiles of the other side that something is seen of, in order.
//   load(tile, slot)      starts the copies of a pair of tiles
//   score(slot)           starts the products that scores come from
//   weigh(tile, slot)     makes weights of them
//   take()                what came before is done: the weights become operands
//   add(slot)             starts kAdds products of weights and tiles
//   settle()              these have come
template <int kAdds, class Seen, class Load, class Score, class Weigh, class Take, class Add, class Settle>
DS_DEVICE void walk_tiles(int tiles, const Seen& seen, const Load& load, const Score& score, const Weigh& weigh, const Take& take,
                          const Add& add, const Settle& settle) {
    const auto after = [&](int tile) {
        do ++tile;
        while (tile < tiles && !seen(tile));
        return tile;
    };
    int here = after(-1), slot = 0;
    if (here >= tiles) {
        finish_tiles();
        return;
    }
    int next = after(here);
    load(here, 0);
    if (next < tiles) load(next, 1);
    finish_tiles();
    barrier();
    score(0);
    await_products<0>();
    weigh(here, 0);
    take();
    while (next < tiles) {
        const int later = after(next), next_slot = slot == kRing - 1 ? 0 : slot + 1;
        if (later < tiles) load(later, next_slot == kRing - 1 ? 0 : next_slot + 1);
        score(next_slot);
        add(slot);
        await_products<kAdds>();
        weigh(next, next_slot);
        await_products<0>();
        settle();
        take();
        finish_tiles();
        barrier();
        next = later, slot = next_slot;
    }
    add(slot);
    await_products<0>();
    settle();
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
    return s.key_mask.data || s.layout.data || s.key_segments.data || s.bias.memory.data || s.dropout > 0 ||
           (s.window > 0 && s.tokens.data) || !(s.scale > 0);
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
