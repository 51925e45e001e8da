// attention: y = softmax(scale q k^T) v for each sequence and head, without scores beyond one tile.
//
// Dao 2023 (arXiv 2307.08691): tiles of keys go by while each query keeps the largest score, the sum of exponentials and the weighted sum
// of values, rescaled when the largest changes. Scores lie [key][query], so the softmax works on vectors of queries and its result is at
// once the operand of the product with v. A work item is a sequence and a head of keys, drawn by ticket; where those are few, also a chunk
// of queries.
#include "kernels/cpu/attention.h"

#include <cmath>

namespace ds::cpu {
namespace {

struct Buffers {
    KeyInfo keys;
    QueryInfo queries;
    Adjuster adjuster;
    float *k, *v;  // packed keys (where they can't stay where they lie) and values of a sequence
    float *q, *scores, *packed, *sums, *most, *total, *rescale;

    int64_t carve(float* base, const AttentionShape& s, const Attention& attrs) {
        Arena arena{base};
        keys.carve(arena, s.longest_keys);
        queries.carve(arena);
        adjuster.carve(arena, s, attrs);
        arena.take(k, (s.longest_keys + kTileKeys) * s.units);
        arena.take(v, s.row_units(s.longest_keys + 1) * s.wide);
        arena.take(q, kTileQueries * s.units);
        arena.take(scores, kTileQueries * kTileKeys);
        arena.take(packed, s.tiles->step == 2 ? kTileQueries * kTileKeys / 2 : 0);
        arena.take(sums, kTileQueries * s.wide);
        arena.take(most, kTileQueries), arena.take(total, kTileQueries), arena.take(rescale, kTileQueries);
        return arena.used;
    }
};

class Forward {
public:
    Forward(const Call& call, Team team)
        : a_(call, call.in + 3),
          s_(a_.shape),
          t_(*s_.tiles),
          q_(call.in[0], s_.heads),
          k_(call.in[1], s_.kv_heads),
          v_(call.in[2], s_.kv_heads),
          y_(call.out[0], s_.heads),
          lse_(call.out[1].as<float>()) {
        b_.carve(reinterpret_cast<float*>(call.scratch) + team.rank * s_.own, s_, a_.attrs);
    }
    const AttentionCall& operands() const { return a_; }

    // Queries [begin, end) of all heads that share a head of keys.
    void item(const Sequence& s, int64_t kv_head, int64_t begin, int64_t end) {
        const TileUse use(t_);
        const int64_t keys = key_end(a_, s, end - 1);
        b_.keys.load(a_, s);
        keys_ = left_rows(t_, k_.type, k_.at(s.k0, kv_head), k_.token, keys, s_.size, b_.k, kTileKeys);
        t_.pack_b(v_.type, v_.at(s.k0, kv_head), v_.token, true, keys, s_.size, b_.v, s_.wide, 0);
        for (int64_t head = kv_head * s_.group; head < (kv_head + 1) * s_.group; ++head) {
            b_.adjuster.load(a_, head);
            for (int64_t first = begin; first < end; first += kTileQueries) queries(s, head, first, std::min(kTileQueries, end - first));
        }
    }

private:
    void queries(const Sequence& s, int64_t head, int64_t first, int64_t count) {
        const int64_t width = score_pad(count), row = s.q0 + first;
        b_.queries.load(a_, s, first, count, head);
        t_.pack_b(q_.type, q_.at(row, head), q_.token, false, s_.size, count, b_.q, width, 0);
        std::fill_n(b_.most, width, -INFINITY);
        std::fill_n(b_.total, width, 0.0f);
        bool any = false;
        for (int64_t j = 0, end = key_end(a_, s, first + count - 1); j < end; j += kTileKeys) {
            const KeyTile tile = key_tile(a_, s, b_.keys, b_.queries, j);
            if (tile.count <= 0) continue;
            add(tile, count, width, any);
            any = true;
        }
        if (!any) std::fill_n(b_.sums, count * s_.wide, 0.0f);
        finish_softmax(count, b_.most, b_.total);
        for (int64_t i = 0; i < count; ++i)
            lse_[(row + i) * s_.heads + head] = a_.first_tokens && b_.total[i] == 0 ? -INFINITY : b_.most[i];
        scale_rows(b_.sums, s_.wide, count, s_.size, b_.total);
        store_rows(b_.sums, s_.wide, count, s_.size, y_.type, y_.at(row, head), y_.token);
    }

    void add(const KeyTile& tile, int64_t count, int64_t width, bool continues) {
        tile_block(t_, tile.count, count, s_.units, keys_of(tile), b_.q, width, b_.scores, width, false);
        if (a_.adjusts()) b_.adjuster.add(a_, tile, b_.keys, b_.queries, b_.scores, width, false);
        softmax_tile(b_.scores, width, tile.count, count, static_cast<float>(s_.scale), tile.masked ? &tile.visible : nullptr,
                     a_.attrs.dropout > 0 ? &tile.draws : nullptr, b_.most, b_.total, b_.rescale);
        if (continues) scale_rows(b_.sums, s_.wide, count, s_.wide, b_.rescale);
        const float* weights = b_.scores;
        if (t_.step == 2) {
            t_.pack_a(DType::f32, b_.scores, width, true, tile.count, width, b_.packed, width, 0);
            weights = b_.packed;
        }
        tile_block(t_, count, s_.size, t_.units(tile.count), {weights, width}, b_.v + tile.first / t_.step * s_.wide, s_.wide, b_.sums,
                   s_.wide, continues);
    }

    Left keys_of(const KeyTile& tile) const {
        if (keys_.in_rows) return keys_.from_row(t_, tile.first);
        return Left{keys_.at + tile.panel() * s_.units, keys_.stride}.from_row(t_, tile.first - tile.panel());
    }

    AttentionCall a_;
    const AttentionShape& s_;
    const TileSet& t_;
    HeadRows q_, k_, v_, y_;
    float* lse_;
    Buffers b_;
    Left keys_{};  // of the item
};

void forward(const Call& call, Team team) {
    Forward f(call, team);
    const AttentionCall& a = f.operands();
    const AttentionShape& s = a.shape;
    const bool chunked = s.sequences * s.kv_heads < 4 * int64_t{team.size};
    const int64_t chunks = chunked ? (s.longest_queries + kChunk - 1) / kChunk : 1, items = chunks * s.sequences * s.kv_heads;
    for (int64_t i = call.ticket->fetch_add(1); i < items; i = call.ticket->fetch_add(1)) {
        // Later chunks first: with a causal mask they are the longest.
        const int64_t chunk = chunks - 1 - i / (s.sequences * s.kv_heads), rest = i % (s.sequences * s.kv_heads);
        const Sequence sequence = a.sequence(rest / s.kv_heads);
        const int64_t length = sequence.q1 - sequence.q0, begin = chunked ? chunk * kChunk : 0,
                      end = chunked ? std::min(length, begin + kChunk) : length;
        if (begin < end) f.item(sequence, rest % s.kv_heads, begin, end);
    }
    const int64_t covered = a.covered();
    zero_rows(call.out[0], call.out[0].rank == 4 ? covered * s.heads : covered, team);
    if (team.rank == 0)
        std::fill(call.out[1].as<float>() + covered * s.heads, call.out[1].as<float>() + s.query_rows * s.heads,
                  a.first_tokens ? -INFINITY : 0.0f);
}

const char* declines(const Request& r) {
    if (!r.out[1].dense()) return "rows of lse lie apart";
    if (r.in[9].present && !r.in[9].dense()) return "rows of the bias lie apart";
    return attention_declines({&r.in[0], &r.in[1], &r.in[2], &r.out[0]}, r.attr<Attention>());
}

Result<Prepared> prepare(const Request& r) {
    const bool bf16 = r.in[0].dtype == DType::bf16 && r.in[1].dtype == DType::bf16 && r.in[2].dtype == DType::bf16;
    auto shape = std::make_shared<AttentionShape>(r.attr<Attention>(), r.in[0], r.in[1], &r.in[3], bf16);
    shape->own = Buffers{}.carve(nullptr, *shape, r.attr<Attention>());
    const int64_t scratch = shape->own * 4 * r.threads;
    return Prepared{{forward}, std::move(shape), scratch};
}

constexpr KernelImpl kAttention[] = {{"flash", declines, prepare}};

}  // namespace

const KernelList attention{kAttention};

}  // namespace ds::cpu
