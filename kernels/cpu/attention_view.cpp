#include <cmath>
#include <cstring>

#include "kernels/cpu/attention.h"
#include "kernels/relative.h"

namespace ds::cpu {

AttentionShape::AttentionShape(const Attention& attrs, const Tensor& q, const Tensor& k, const Tensor* optional, bool bf16) {
    const Tensor &segments = optional[0], &bias = optional[6];
    heads = q.rank == 4 ? q.dims[2] : attrs.heads;  // rank 4 says so itself
    kv_heads = k.rank == 4 ? k.dims[2] : attrs.kv_heads ? attrs.kv_heads : heads;
    group = heads / kv_heads;
    size = q.rank == 4 ? q.columns() : q.columns() / heads;
    wide = score_pad(size);
    query_rows = q.rows() / (q.rank == 4 ? heads : 1);
    key_rows = k.rows() / (k.rank == 4 ? kv_heads : 1);
    sequences = segments.present ? segments.count() - 1 : q.dims[0];
    longest_queries = segments.present ? query_rows : q.dims[1];
    longest_keys = segments.present ? key_rows : k.dims[1];
    scale = attrs.scale != 0 ? attrs.scale : 1 / std::sqrt(static_cast<double>(size));
    tiles = &cpu::tiles(bf16);
    units = tiles->units(size);
    buckets = bias.present ? bias.dims[0] : 0;
    slots = query_rows / kChunk + sequences + 1;
}

AttentionCall::AttentionCall(const Call& call, const Tensor* rest)
    : shape(*static_cast<const AttentionShape*>(call.state)),
      attrs(call.attr<Attention>()),
      segments(rest[0].present ? rest[0].as<int32_t>() : nullptr),
      tokens(rest[1].present ? rest[1].as<int32_t>() : nullptr),
      key_mask(rest[2].present ? rest[2].as<uint8_t>() : nullptr),
      layout(rest[7].present ? rest[7].as<uint8_t>() : nullptr),
      key_segments(rest[3].present ? rest[3].as<int32_t>() : nullptr),
      key_tokens(rest[4].present ? rest[4].as<int32_t>() : nullptr),
      first_tokens(rest[5].present ? rest[5].as<int32_t>() : nullptr),
      bias(rest[6].present ? rest[6].as<float>() : nullptr),
      layout_heads(rest[7].present ? rest[7].dims[0] : 0),
      layout_blocks(rest[7].present ? rest[7].dims[1] : 0),
      runtime(call.runtime) {}

Sequence AttentionCall::sequence(int64_t i) const {
    if (!segments)
        return {i * shape.longest_queries, (i + 1) * shape.longest_queries, i * shape.longest_keys, (i + 1) * shape.longest_keys, i};
    const auto range = [i](const int32_t* ends, int64_t rows) {
        const int64_t first = std::clamp<int64_t>(ends[i], 0, rows);
        return std::pair(first, std::clamp<int64_t>(ends[i + 1], first, rows));
    };
    const auto [q0, q1] = range(segments, shape.query_rows);
    const auto [k0, k1] = range(key_segments ? key_segments : segments, shape.key_rows);
    return {q0, q1, k0, k1, i};
}

int64_t AttentionCall::covered() const {
    return segments ? std::clamp<int64_t>(segments[shape.sequences], 0, shape.query_rows) : shape.query_rows;
}
int64_t AttentionCall::covered_keys() const {
    return key_segments ? std::clamp<int64_t>(key_segments[shape.sequences], 0, shape.key_rows) : covered();
}

void KeyInfo::load(const AttentionCall& a, const Sequence& s) {
    const int64_t n = s.k1 - s.k0;
    for (int64_t tile = 0; tile * kTileKeys < n; ++tile) seen[tile] = static_cast<int32_t>(std::min(kTileKeys, n - tile * kTileKeys));
    if (n == 0 || !a.looks_at_pairs()) return;
    for (int64_t j = 0; j < n; ++j) place[j] = a.key_tokens ? a.key_tokens[s.k0 + j] : static_cast<int32_t>(s.k0 + j);
    if (a.tokens && !a.key_segments) std::copy_n(a.tokens + s.k0, n, token);
    else std::copy_n(place, n, token);
    const auto first = static_cast<uint32_t>(a.first_tokens ? a.first_tokens[s.index] : token[0]);
    for (int64_t j = 0; j < n; ++j) offset[j] = static_cast<uint32_t>(token[j]) - first;
    if (a.key_mask)
        for (int64_t j = 0; j < n; ++j)
            if (!a.key_mask[s.k0 + j]) place[j] = INT32_MAX, --seen[j / kTileKeys];
    for (int64_t j = n; j < score_pad(n); ++j) place[j] = INT32_MAX, token[j] = 0, offset[j] = 0;
    if (a.layout)
        for (int64_t j = 0; j < n; ++j) block[j] = static_cast<int32_t>(offset[j] / static_cast<uint32_t>(a.attrs.block));
    if (!a.attrs.window) return;
    for (int64_t tile = 0; tile * kTileKeys < n; ++tile) {
        const int64_t begin = tile * kTileKeys, end = std::min(n, begin + kTileKeys);
        least[tile] = *std::min_element(token + begin, token + end);
        most[tile] = *std::max_element(token + begin, token + end);
    }
}

void QueryInfo::load(const AttentionCall& a, const Sequence& s, int64_t first_query, int64_t queries, int64_t head_of_all) {
    first = first_query, count = queries, this->head = head_of_all;
    if (!a.looks_at_pairs()) return;
    for (int64_t i = 0; i < score_pad(count); ++i) {
        const int64_t row = s.q0 + first + std::min(i, count - 1);
        token[i] = a.token(row);
        limit[i] = !a.attrs.causal ? INT32_MAX : a.key_tokens ? token[i] + 1 : static_cast<int32_t>(row) + 1;
        const auto draw =
            static_cast<uint64_t>(token[i] * (a.attrs.all_heads ? a.attrs.all_heads : a.shape.heads) + a.attrs.first_head + head) << 20;
        if (a.layout) block[i] = static_cast<int32_t>((token[i] - a.key_token(s.k0)) / a.attrs.block);
        low[i] = static_cast<uint32_t>(draw), high[i] = static_cast<uint32_t>(draw >> 32);
    }
    least = *std::min_element(token, token + count);
    most = *std::max_element(token, token + count);
}

int64_t key_end(const AttentionCall& a, const Sequence& s, int64_t last) {
    const int64_t n = s.k1 - s.k0;
    if (!a.attrs.causal) return n;
    if (!a.key_tokens) return std::clamp<int64_t>(s.q0 + last + 1 - s.k0, 0, n);
    return std::upper_bound(a.key_tokens + s.k0, a.key_tokens + s.k1, a.token(s.q0 + last)) - (a.key_tokens + s.k0);
}

// Calls f for each pair of runs of queries and keys that lie in one block: whether they see each other, and where they begin and end in the
// tile.
template <class F>
static void block_pairs(const AttentionCall& a, const KeyInfo& keys, const QueryInfo& queries, int64_t first, int64_t count, const F& f) {
    const uint8_t* layout = a.layout + (a.layout_heads > 1 ? queries.head : 0) * a.layout_blocks * a.layout_blocks;
    for (int64_t i = 0, i_end; i < queries.count; i = i_end) {
        for (i_end = i + 1; i_end < queries.count && queries.block[i_end] == queries.block[i];) ++i_end;
        for (int64_t j = 0, j_end; j < count; j = j_end) {
            const int32_t row = queries.block[i], column = keys.block[first + j];
            for (j_end = j + 1; j_end < count && keys.block[first + j_end] == column;) ++j_end;
            f(row < a.layout_blocks && column < a.layout_blocks && layout[row * a.layout_blocks + column] != 0, i, i_end, j, j_end);
        }
    }
}

// Leaves of a tile the keys from the first to the last that the layout shows to one of the queries, in steps that tiles can begin with.
static void narrow(const AttentionCall& a, const KeyInfo& keys, const QueryInfo& queries, KeyTile& t) {
    const int64_t step = std::max<int64_t>(kScorePad, a.shape.tiles->step * a.shape.tiles->grain);
    int64_t begin = t.count, end = 0;
    block_pairs(a, keys, queries, t.first, t.count, [&](bool seen, int64_t, int64_t, int64_t j, int64_t j_end) {
        if (seen) begin = std::min(begin, j), end = std::max(end, j_end);
    });
    begin = begin / step * step;
    t.first += begin;
    t.count = std::max<int64_t>(end - begin, 0);
}

void Adjuster::load(const AttentionCall& a, int64_t head) {
    if (!a.bias) return;
    for (int64_t d = -reach_; d <= reach_; ++d) {
        bucket_[d + reach_] = static_cast<int32_t>(relative_bucket(d, a.shape.buckets, a.attrs.max_distance, a.attrs.both_ways));
        near_[d + reach_] = a.bias[bucket_[d + reach_] * a.shape.heads + head] / static_cast<float>(a.shape.scale);
    }
}

bool Adjuster::in_line(const KeyTile& tile, const KeyInfo& keys, const QueryInfo& queries) {
    for (int64_t j = 1; j < tile.count; ++j)
        if (keys.token[tile.first + j] != keys.token[tile.first] + j) return false;
    for (int64_t i = 1; i < queries.count; ++i)
        if (queries.token[i] != queries.token[0] + i) return false;
    return true;
}

void Adjuster::add(const AttentionCall& a, const KeyTile& tile, const KeyInfo& keys, const QueryInfo& queries, float* s, int64_t stride,
                   bool by_query) const {
    const int64_t rows = by_query ? queries.count : tile.count, columns = by_query ? tile.count : queries.count;
    if (a.bias && in_line(tile, keys, queries)) {
        // Along a row distances go up (keys) or down (queries) by one: the row is a piece of one line, shifted by one from row to row.
        const int32_t start = by_query ? keys.token[tile.first] - queries.token[rows - 1]
                                       : keys.token[tile.first + rows - 1] - queries.token[0],
                      step = by_query ? 1 : -1;
        for (int64_t x = 0; x < rows + columns - 1; ++x) line_[x] = near_[at(start + step * static_cast<int32_t>(x), 0)];
        for (int64_t i = 0; i < rows; ++i) {
            const float* piece = line_ + (rows - 1 - i);
            for (int64_t j = 0; j < columns; ++j) s[i * stride + j] += piece[j];
        }
    } else if (a.bias) {
        for (int64_t i = 0; i < rows; ++i)
            for (int64_t j = 0; j < columns; ++j)
                s[i * stride + j] += near_[at(keys.token[tile.first + (by_query ? j : i)], queries.token[by_query ? i : j])];
    }
    if (!a.layout) return;
    block_pairs(a, keys, queries, tile.first, tile.count, [&](bool seen, int64_t i0, int64_t i1, int64_t j0, int64_t j1) {
        if (seen) return;
        if (!by_query) std::swap(i0, j0), std::swap(i1, j1);
        for (int64_t i = i0; i < i1; ++i) std::fill(s + i * stride + j0, s + i * stride + j1, -INFINITY);
    });
}

void Adjuster::collect(const AttentionCall& a, const KeyTile& tile, const KeyInfo& keys, const QueryInfo& queries, const float* ds,
                       int64_t stride, float* sums) const {
    const auto back = static_cast<float>(1 / a.shape.scale);
    if (in_line(tile, keys, queries)) {
        std::fill_n(line_, queries.count + tile.count - 1, 0.0f);
        for (int64_t i = 0; i < queries.count; ++i) {
            float* piece = line_ + (queries.count - 1 - i);
            for (int64_t j = 0; j < tile.count; ++j) piece[j] += ds[i * stride + j];
        }
        const int32_t start = keys.token[tile.first] - queries.token[queries.count - 1];
        for (int64_t x = 0; x < queries.count + tile.count - 1; ++x)
            sums[bucket_[at(start + static_cast<int32_t>(x), 0)]] += line_[x] * back;
        return;
    }
    for (int64_t i = 0; i < queries.count; ++i)
        for (int64_t j = 0; j < tile.count; ++j)
            sums[bucket_[at(keys.token[tile.first + j], queries.token[i])]] += ds[i * stride + j] * back;
}

KeyTile key_tile(const AttentionCall& a, const Sequence& s, const KeyInfo& keys, const QueryInfo& queries, int64_t first) {
    const int64_t tile = first / kTileKeys, end = key_end(a, s, queries.first + queries.count - 1), window = a.attrs.window;
    KeyTile t{first, std::min(kTileKeys, end - first), false, {}, {}};
    if (t.count <= 0) return t;
    if (keys.seen[tile] == 0 || (window && int64_t{queries.least} - keys.most[tile] >= window)) t.count = 0;
    else if (a.layout) narrow(a, keys, queries, t);
    if (t.count == 0) return t;
    const int64_t last = s.k0 + t.first + t.count - 1, query = s.q0 + queries.first;
    const bool diagonal = a.attrs.causal && (a.key_tokens ? a.key_tokens[last] > a.token(query) : last > query);
    t.masked = diagonal || keys.seen[tile] < std::min(kTileKeys, s.k1 - s.k0 - first) ||
               (window && int64_t{queries.most} - keys.least[tile] >= window);
    t.visible = {keys.place + t.first, keys.token + t.first, queries.limit, queries.token,
                 window ? static_cast<int32_t>(std::min<int64_t>(window, INT32_MAX)) : INT32_MAX};
    const uint64_t seed = a.runtime ? a.runtime->seed : 0, step = a.runtime ? a.runtime->step : 0;
    t.draws = {random_keys(seed, step, static_cast<uint64_t>(a.attrs.salt)),
               queries.low,
               queries.high,
               keys.offset + t.first,
               static_cast<float>(a.attrs.dropout),
               static_cast<float>(1 / (1 - a.attrs.dropout))};
    return t;
}

void zero_rows(const Tensor& t, int64_t first, Team team) {
    const int64_t rows = t.rows();
    const auto [begin, end] = team.part(rows - first);
    for (int64_t row = first + begin; row < first + end; ++row)
        std::memset(address(t, row), 0, static_cast<size_t>(t.columns() * float_size(t.dtype)));
}

const char* attention_declines(std::initializer_list<const Tensor*> matrices, const Attention& attrs) {
    for (const Tensor* t : matrices)
        if (!is_simd_float(t->dtype)) return "an operand is not f32, bf16 or f16";
    return attrs.kv_heads && attrs.heads % attrs.kv_heads ? "heads is not a multiple of kv_heads" : nullptr;
}

}  // namespace ds::cpu
