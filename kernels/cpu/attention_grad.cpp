// attention_grad: with p = exp(scale q k^T - lse) recomputed tile by tile,
//   dv = p^T dy,  ds = p (dy v^T - delta) scale,  dq = ds k,  dk = ds^T q,  delta_i = dy_i . y_i    (Dao 2023, arXiv 2307.08691).
// A work item is a sequence and a head of keys, drawn by ticket: it alone writes dk and dv of that head and dq of the heads that share it.
// Where those are fewer than threads, items are chunks of keys (for dk and dv) and chunks of queries (for dq) instead, which costs scores
// twice. In both ways each sum runs over tiles in the same order, so the result does not depend on the team. The gradient of the bias
// collects in a slot for each chunk of queries, where those give dq; the slots are added at the end.
#include "kernels/cpu/attention.h"

namespace ds::cpu {
namespace {

struct Buffers {
    KeyInfo keys;
    QueryInfo queries;
    Adjuster adjuster;
    float *k_columns, *v_columns, *k_rows;  // packed, of a sequence
    float *dk, *dv;                         // sums, of a sequence
    float *q_columns, *q_rows, *dy_columns, *dy_rows, *dq;
    float *p, *ds, *p_rows, *ds_rows, *ds_columns;  // of a tile: f32, packed
    float *lse, *delta;

    int64_t carve(float* base, const AttentionShape& s, const Attention& attrs) {
        Arena arena{base};
        const int64_t tile = kTileQueries * kTileKeys, padded = s.longest_keys + kTileKeys;
        const bool packs = s.tiles->step == 2;
        keys.carve(arena, s.longest_keys);
        queries.carve(arena);
        adjuster.carve(arena, s, attrs);
        arena.take(k_columns, padded * s.units), arena.take(v_columns, padded * s.units), arena.take(k_rows, s.row_units(padded) * s.wide);
        arena.take(dk, s.longest_keys * s.wide), arena.take(dv, s.longest_keys * s.wide);
        for (float** columns : {&q_columns, &dy_columns}) arena.take(*columns, kTileQueries * s.units);
        for (float** rows : {&q_rows, &dy_rows}) arena.take(*rows, s.row_units(kTileQueries) * s.wide);
        arena.take(dq, kTileQueries * s.wide);
        arena.take(p, tile), arena.take(ds, tile), arena.take(ds_columns, tile);
        for (float** half : {&p_rows, &ds_rows}) arena.take(*half, packs ? tile / 2 : 0);
        arena.take(lse, kTileQueries), arena.take(delta, kTileQueries);
        return arena.used;
    }
};

// Queries whose dq an item gives, and keys whose dk and dv, within a sequence; empty: none.
struct Item {
    int64_t query_begin, query_end, key_begin, key_end;
};

class Backward {
public:
    Backward(const Call& call, Team team)
        : a_(call, call.in + 6),
          s_(a_.shape),
          t_(*s_.tiles),
          dy_(call.in[0], s_.heads),
          q_(call.in[1], s_.heads),
          k_(call.in[2], s_.kv_heads),
          v_(call.in[3], s_.kv_heads),
          y_(call.in[4], s_.heads),
          dq_(call.out[0], s_.heads),
          dk_(call.out[1], s_.kv_heads),
          dv_(call.out[2], s_.kv_heads),
          lse_(call.in[5].as<float>()) {
        b_.carve(reinterpret_cast<float*>(call.scratch) + team.rank * s_.own, s_, a_.attrs);
        slots_ = slots_of(call, s_, team.size);
    }
    const AttentionCall& operands() const { return a_; }
    // Behind the threads' own scratch.
    static float* slots_of(const Call& call, const AttentionShape& s, int team) {
        return reinterpret_cast<float*>(call.scratch) + team * s.own;
    }

    // number: of the sequence.
    void run(const Sequence& s, int64_t number, int64_t kv_head, const Item& item) {
        const int64_t keys = s.k1 - s.k0, queries_of = s.q1 - s.q0, first = item.key_begin, count = item.key_end - first;
        const bool wants_keys = count > 0;
        const TileUse use(t_);
        b_.keys.load(a_, s);
        pack_keys(s, kv_head, keys);
        if (wants_keys) {
            std::fill_n(b_.dk + first * s_.wide, count * s_.wide, 0.0f);
            std::fill_n(b_.dv + first * s_.wide, count * s_.wide, 0.0f);
        }
        for (int64_t head = kv_head * s_.group; head < (kv_head + 1) * s_.group; ++head) {
            b_.adjuster.load(a_, head);
            first_slot_ = slots_ + ((s.q0 / kChunk + number) * s_.heads + head) * s_.buckets;
            for (int64_t i = 0; i < queries_of; i += kTileQueries)
                if (const bool wants_dq = i >= item.query_begin && i < item.query_end; wants_dq || wants_keys)
                    queries(s, head, i, std::min(kTileQueries, queries_of - i), item, wants_dq);
        }
        if (!wants_keys) return;
        store_rows(b_.dk + first * s_.wide, s_.wide, count, s_.size, dk_.type, dk_.at(s.k0 + first, kv_head), dk_.token);
        store_rows(b_.dv + first * s_.wide, s_.wide, count, s_.size, dv_.type, dv_.at(s.k0 + first, kv_head), dv_.token);
    }

private:
    void pack_keys(const Sequence& s, int64_t kv_head, int64_t n) {
        t_.pack_b(k_.type, k_.at(s.k0, kv_head), k_.token, false, s_.size, n, b_.k_columns, kTileKeys, kTileKeys * s_.units);
        t_.pack_b(v_.type, v_.at(s.k0, kv_head), v_.token, false, s_.size, n, b_.v_columns, kTileKeys, kTileKeys * s_.units);
        t_.pack_b(k_.type, k_.at(s.k0, kv_head), k_.token, true, n, s_.size, b_.k_rows, s_.wide, 0);
    }

    void queries(const Sequence& s, int64_t head, int64_t first, int64_t count, const Item& item, bool wants_dq) {
        const int64_t row = s.q0 + first, width = score_pad(count);
        b_.queries.load(a_, s, first, count, head);
        const Left q = left_rows(t_, q_.type, q_.at(row, head), q_.token, count, s_.size, b_.q_columns, width),
                   dy = left_rows(t_, dy_.type, dy_.at(row, head), dy_.token, count, s_.size, b_.dy_columns, width);
        t_.pack_b(q_.type, q_.at(row, head), q_.token, true, count, s_.size, b_.q_rows, s_.wide, 0);
        t_.pack_b(dy_.type, dy_.at(row, head), dy_.token, true, count, s_.size, b_.dy_rows, s_.wide, 0);
        row_dots(dy_.type, dy_.at(row, head), dy_.token, y_.type, y_.at(row, head), y_.token, count, s_.size, b_.delta);
        for (int64_t i = 0; i < count; ++i) b_.lse[i] = lse_[(row + i) * s_.heads + head];
        bool any = false;
        for (int64_t j = 0, end = key_end(a_, s, first + count - 1); j < end; j += kTileKeys) {
            const bool wants_keys = j >= item.key_begin && j < item.key_end;
            if (!wants_dq && !wants_keys) continue;
            const KeyTile tile = key_tile(a_, s, b_.keys, b_.queries, j);
            if (tile.count <= 0) continue;
            scores(tile, count, q, dy);
            if (wants_keys) add_to_keys(tile, count);
            if (wants_dq) add_to_queries(tile, count, width, any);
            if (wants_dq && a_.bias)
                b_.adjuster.collect(a_, tile, b_.keys, b_.queries, b_.ds, kTileKeys, first_slot_ + first / kChunk * s_.heads * s_.buckets);
            any = true;
        }
        if (!wants_dq) return;
        if (!any) std::fill_n(b_.dq, count * s_.wide, 0.0f);
        store_rows(b_.dq, s_.wide, count, s_.size, dq_.type, dq_.at(row, head), dq_.token);
    }

    // p and ds of a tile, rows of queries kTileKeys apart.
    void scores(const KeyTile& tile, int64_t count, const Left& q, const Left& dy) {
        const int64_t at = tile.panel() * s_.units + tile.first - tile.panel();
        tile_block(t_, count, tile.count, s_.units, q, b_.k_columns + at, kTileKeys, b_.p, kTileKeys, false);
        tile_block(t_, count, tile.count, s_.units, dy, b_.v_columns + at, kTileKeys, b_.ds, kTileKeys, false);
        if (a_.adjusts()) b_.adjuster.add(a_, tile, b_.keys, b_.queries, b_.p, kTileKeys, true);
        softmax_grad_tile(b_.p, b_.ds, kTileKeys, count, tile.count, static_cast<float>(s_.scale), b_.lse, b_.delta,
                          tile.masked ? &tile.visible : nullptr, a_.attrs.dropout > 0 ? &tile.draws : nullptr);
    }

    void add_to_keys(const KeyTile& tile, int64_t count) {
        const float *p = b_.p, *ds = b_.ds;
        const int64_t padded = score_pad(tile.count), at = tile.first * s_.wide;
        if (t_.step == 2) {
            t_.pack_a(DType::f32, b_.p, kTileKeys, true, count, padded, b_.p_rows, kTileKeys, 0);
            t_.pack_a(DType::f32, b_.ds, kTileKeys, true, count, padded, b_.ds_rows, kTileKeys, 0);
            p = b_.p_rows, ds = b_.ds_rows;
        }
        tile_block(t_, tile.count, s_.size, t_.units(count), {p, kTileKeys}, b_.dy_rows, s_.wide, b_.dv + at, s_.wide, true);
        tile_block(t_, tile.count, s_.size, t_.units(count), {ds, kTileKeys}, b_.q_rows, s_.wide, b_.dk + at, s_.wide, true);
    }

    void add_to_queries(const KeyTile& tile, int64_t count, int64_t width, bool continues) {
        const Left ds = left_rows(t_, DType::f32, b_.ds, kTileKeys, count, tile.count, b_.ds_columns, width);
        tile_block(t_, count, s_.size, t_.units(tile.count), ds, b_.k_rows + tile.first / t_.step * s_.wide, s_.wide, b_.dq, s_.wide,
                   continues);
    }

    AttentionCall a_;
    const AttentionShape& s_;
    const TileSet& t_;
    HeadRows dy_, q_, k_, v_, y_, dq_, dk_, dv_;
    const float* lse_;
    float *slots_ = nullptr, *first_slot_ = nullptr;
    Buffers b_;
};

void whole_heads(const Call& call, Backward& b) {
    const AttentionCall& a = b.operands();
    const int64_t heads = a.shape.kv_heads, items = a.shape.sequences * heads;
    for (int64_t i = call.ticket->fetch_add(1); i < items; i = call.ticket->fetch_add(1)) {
        const Sequence s = a.sequence(i / heads);
        if (s.q0 < s.q1 || s.k0 < s.k1) b.run(s, i / heads, i % heads, {0, s.q1 - s.q0, 0, s.k1 - s.k0});
    }
}

void chunks_of_heads(const Call& call, Backward& b) {
    const AttentionCall& a = b.operands();
    const AttentionShape& shape = a.shape;
    const int64_t of_keys = (shape.longest_keys + kChunk - 1) / kChunk, of_queries = (shape.longest_queries + kChunk - 1) / kChunk;
    const int64_t heads = shape.kv_heads, chunks = of_keys + of_queries, items = shape.sequences * heads * chunks;
    for (int64_t i = call.ticket->fetch_add(1); i < items; i = call.ticket->fetch_add(1)) {
        const Sequence s = a.sequence(i / chunks / heads);
        const int64_t chunk = i % chunks, head = i / chunks % heads, queries = s.q1 - s.q0, keys = s.k1 - s.k0;
        if (chunk < of_keys && chunk * kChunk < keys)
            b.run(s, i / chunks / heads, head, {0, 0, chunk * kChunk, std::min(keys, (chunk + 1) * kChunk)});
        const int64_t first = (chunk - of_keys) * kChunk;
        if (chunk >= of_keys && first < queries) b.run(s, i / chunks / heads, head, {first, std::min(queries, first + kChunk), 0, 0});
    }
}

void backward(const Call& call, Team team) {
    Backward b(call, team);
    const AttentionShape& s = b.operands().shape;
    if (s.sequences * s.kv_heads < team.size) chunks_of_heads(call, b);
    else whole_heads(call, b);
    for (int i = 0; i < 3; ++i) {
        const Tensor& t = call.out[i];
        const int64_t covered = i ? b.operands().covered_keys() : b.operands().covered();
        const int64_t all = t.rank == 4 ? covered * (i ? s.kv_heads : s.heads) : covered;
        if (call.in[6].present) zero_rows(t, all, team);  // without segments every row is in a sequence
    }
}

void clear_slots(const Call& call, Team team) {
    const auto& s = *static_cast<const AttentionShape*>(call.state);
    const auto [begin, end] = team.part(s.slots * s.heads * s.buckets);
    std::fill(Backward::slots_of(call, s, team.size) + begin, Backward::slots_of(call, s, team.size) + end, 0.0f);
}

void add_slots(const Call& call, Team team) {
    const auto& s = *static_cast<const AttentionShape*>(call.state);
    const float* slots = Backward::slots_of(call, s, team.size);
    const auto [begin, end] = team.part(s.heads * s.buckets);
    for (int64_t i = begin; i < end; ++i) {
        double sum = 0;
        for (int64_t slot = 0; slot < s.slots; ++slot) sum += static_cast<double>(slots[slot * s.heads * s.buckets + i]);
        call.out[3].as<float>()[i % s.buckets * s.heads + i / s.buckets] = static_cast<float>(sum);
    }
}

const char* declines(const Request& r) {
    if (!r.in[5].dense()) return "rows of lse lie apart";
    if (r.in[12].present && !(r.in[12].dense() && r.out[3].dense())) return "rows of the bias lie apart";
    return attention_declines({&r.in[0], &r.in[1], &r.in[2], &r.in[3], &r.in[4], &r.out[0], &r.out[1], &r.out[2]}, r.attr<Attention>());
}

Result<Prepared> prepare(const Request& r) {
    bool bf16 = true;
    for (int i = 0; i < 4; ++i) bf16 = bf16 && r.in[static_cast<size_t>(i)].dtype == DType::bf16;
    auto shape = std::make_shared<AttentionShape>(r.attr<Attention>(), r.in[1], r.in[2], &r.in[6], bf16);
    shape->own = Buffers{}.carve(nullptr, *shape, r.attr<Attention>());
    int64_t scratch = shape->own * 4 * r.threads;
    if (shape->buckets == 0) return Prepared{{backward}, std::move(shape), scratch};
    scratch += shape->slots * shape->heads * shape->buckets * 4;
    return Prepared{{clear_slots, backward, add_slots}, std::move(shape), scratch};
}

constexpr KernelImpl kAttentionGrad[] = {{"flash", declines, prepare}};

}  // namespace

const KernelList attention_grad{kAttentionGrad};

}  // namespace ds::cpu
