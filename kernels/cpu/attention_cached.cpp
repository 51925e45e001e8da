// attention_cached: keys and values of new tokens go into the cache, then each query attends over its sequence's.
//
// A generation step has one query a sequence and reads each cached key and value once, so this is bound by memory: an item is a sequence
// and a head of keys, whose queries share what is loaded. Where nothing was cached before (a prompt), attention itself computes y from k
// and v.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_cached.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/vec-inl.h"

#include "kernels/cpu/convert.h"
#include "kernels/cpu/level.h"
#include "kernels/relative.h"
#include "ops/attrs.h"

namespace ds::cpu {
#ifndef DS_CPU_ATTENTION_CACHED
#define DS_CPU_ATTENTION_CACHED
// Some queries, a row of q and of y each, over the tokens of one sequence and head: token j lies at place table[j] of keys and values.
struct CachedHead {
    const void *keys, *values;
    DType type;
    const int32_t* table;
    int64_t first, last;  // tokens
    int64_t size, queries;
    const float* q;  // scaled already
    float *y, *scores;
    int64_t row_length;      // floats from one query's scores to the next
    const float* bias;       // [bucket][heads], from the first query's on; null: none
    const int32_t* buckets;  // by distance, up to `farthest`
    int64_t farthest, heads;
};
#endif
}  // namespace ds::cpu

HWY_BEFORE_NAMESPACE();
namespace ds::cpu {
namespace HWY_NAMESPACE {
namespace {

// Elements of a cached row at `at`, as f32.
HWY_INLINE V load_row(Whole at, const float* p) { return at.load(p); }
HWY_INLINE V load_row(Part at, const float* p) { return at.load(p); }
HWY_INLINE V load_row(Whole at, const uint16_t* p) { return load_bf16(d, p + at.i); }
HWY_INLINE V load_row(Part at, const uint16_t* p) {
    HWY_ALIGN float buffer[HWY_LANES(float)] = {};
    for (int64_t i = 0; i < at.n; ++i) buffer[i] = to_f32(BF16{p[at.i + i]});
    return hn::Load(d, buffer);
}

// The rows lie wherever their places are, in memory that weights have pushed out of the caches: each is asked for some tokens before it is
// read.
template <class T>
HWY_INLINE void fetch_row(const T* row, int64_t size) {
    constexpr int64_t kLine = 64 / sizeof(T);
    for (int64_t i = 0; i < size; i += kLine) __builtin_prefetch(row + i, 0, 3);
}

HWY_INLINE void soften(float* scores, int64_t n) {
    V most = hn::Set(d, scores[0]);
    each(n, [&](auto at) HWY_ATTR { most = hn::Max(most, at.fill(at.load(scores), most)); });
    const V top = hn::MaxOfLanes(d, most);
    const float sum = sum_each(n, [=](auto at) HWY_ATTR {
        const V e = exp_below_88(hn::Sub(at.load(scores), top));
        at.store(e, scores);
        return at.fill(e, hn::Zero(d));
    });
    const V scale = hn::Set(d, 1.0f / sum);
    each(n, [=](auto at) HWY_ATTR { at.store(hn::Mul(at.load(scores), scale), scores); });
}

template <class T>
void attend_typed(const CachedHead& h) {
    constexpr int64_t kAhead = 8;
    const int64_t n = h.last - h.first;
    const auto row = [&](const void* base, int64_t j) { return static_cast<const T*>(base) + h.table[h.first + j] * h.size; };
    for (int64_t j = 0; j < HWY_MIN(kAhead, n); ++j) fetch_row(row(h.keys, j), h.size);
    for (int64_t j = 0; j < n; ++j) {
        if (j + kAhead < n) fetch_row(row(h.keys, j + kAhead), h.size);
        fetch_row(row(h.values, j), h.size);
        const T* key = row(h.keys, j);
        for (int64_t i = 0; i < h.queries; ++i) {
            const float* q = h.q + i * h.size;
            h.scores[i * h.row_length + j] = sum_each(h.size, [=](auto at) HWY_ATTR { return hn::Mul(at.load(q), load_row(at, key)); });
        }
    }
    if (h.bias)  // the last token is the query's own
        for (int64_t i = 0; i < h.queries; ++i)
            for (int64_t j = 0; j < n; ++j)
                h.scores[i * h.row_length + j] += h.bias[h.buckets[HWY_MIN(n - 1 - j, h.farthest)] * h.heads + i];
    for (int64_t i = 0; i < h.queries; ++i) soften(h.scores + i * h.row_length, n);
    for (int64_t i = 0; i < h.queries * h.size; ++i) h.y[i] = 0;
    for (int64_t j = 0; j < n; ++j) {
        const T* value = row(h.values, j);
        for (int64_t i = 0; i < h.queries; ++i) {
            const V p = hn::Set(d, h.scores[i * h.row_length + j]);
            float* y = h.y + i * h.size;
            each(h.size, [=](auto at) HWY_ATTR { at.store(hn::MulAdd(p, load_row(at, value), at.load(y)), y); });
        }
    }
}

}  // namespace

void attend_cached(const CachedHead& h) {
    if (h.type == DType::f32) attend_typed<float>(h);
    else attend_typed<uint16_t>(h);
}

}  // namespace HWY_NAMESPACE
}  // namespace ds::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <cmath>

namespace ds::cpu {
namespace {
HWY_EXPORT(attend_cached);

enum In { kQ, kK, kV, kKeys, kValues, kTable, kLengths, kSegments, kKeySegments, kBias };
constexpr size_t kAttentionKeySegments = 6, kAttentionInputs = 11;  // of the op attention; all from segments on may be absent

struct State {
    int64_t own = 0;               // floats of scratch of a thread
    Prepared whole;                // of a prompt: attention over k and v alone
    Tensor lse;                    // which that writes too
    std::vector<int32_t> buckets;  // of the bias, by distance
};

// A thread appends some tokens, whole; what reads them waits for the barrier behind this phase.
void append(const Call& call, Team team) {
    const Tensor &table = call.in[kTable], &keys = call.in[kKeys];
    const int64_t kv_heads = keys.dims[0], pool = keys.dims[1], size = keys.dims[2], sequences = call.in[kSegments].count() - 1;
    const auto *segments = call.in[call.in[kKeySegments].present ? kKeySegments : kSegments].as<int32_t>(),
               *lengths = call.in[kLengths].as<int32_t>();  // null: nothing was there before
    float* row = reinterpret_cast<float*>(call.scratch) + team.rank * static_cast<State*>(call.state)->own;
    for (int64_t s = 0; s < sequences; ++s) {
        const int64_t begin = segments[s], end = segments[s + 1], before = lengths ? lengths[s] - (end - begin) : 0;
        const auto mine = team.part(end - begin);
        for (int64_t i = mine.begin; i < mine.end; ++i)
            for (int part = 0; part < 2; ++part) {
                const Tensor &from = call.in[kK + part], &to = call.in[kKeys + part];
                const int64_t place = table.as<int32_t>()[s * table.row_stride + before + i];
                for (int64_t h = 0; h < kv_heads; ++h) {
                    const int64_t at = (h * pool + place) * size;
                    std::byte* there = to.as<std::byte>() + at * float_size(to.dtype);
                    if (from.dtype == to.dtype)
                        std::memcpy(there, address(from, begin + i, h * size), static_cast<size_t>(size * float_size(to.dtype)));
                    else from_f32(read(from, begin + i, h * size, size, row), size, to.dtype, there);
                }
            }
    }
}

void attend(const Call& call, Team team) {
    const auto& attrs = call.attr<Attention>();
    const Tensor &q = call.in[kQ], &keys = call.in[kKeys], &table = call.in[kTable], &y = call.out[0];
    const int64_t kv_heads = keys.dims[0], pool = keys.dims[1], size = keys.dims[2], group = attrs.heads / kv_heads,
                  sequences = call.in[kSegments].count() - 1, capacity = table.dims[1];
    const auto *segments = call.in[kSegments].as<int32_t>(), *lengths = call.in[kLengths].as<int32_t>();
    const auto run = HWY_DYNAMIC_DISPATCH(attend_cached);
    const float scale = static_cast<float>(attrs.scale != 0 ? attrs.scale : 1 / std::sqrt(static_cast<double>(size)));
    float* own = reinterpret_cast<float*>(call.scratch) + team.rank * static_cast<State*>(call.state)->own;
    const auto& buckets = static_cast<const State*>(call.state)->buckets;
    const float* bias = call.in[kBias].present ? call.in[kBias].as<float>() : nullptr;
    float *queries = own, *sums = queries + padded(group * size), *scores = sums + padded(group * size);
    for (int64_t item = call.ticket->fetch_add(1); item < sequences * kv_heads; item = call.ticket->fetch_add(1)) {
        const int64_t s = item / kv_heads, h = item % kv_heads, begin = segments[s], end = segments[s + 1], length = lengths[s];
        CachedHead head{keys.as<std::byte>() + h * pool * size * float_size(keys.dtype),
                        call.in[kValues].as<std::byte>() + h * pool * size * float_size(keys.dtype),
                        keys.dtype,
                        table.as<int32_t>() + s * table.row_stride,
                        0,
                        0,
                        size,
                        group,
                        queries,
                        sums,
                        scores,
                        padded(capacity),
                        bias ? bias + h * group : nullptr,
                        buckets.data(),
                        static_cast<int64_t>(buckets.size()) - 1,
                        attrs.heads};
        for (int64_t i = begin; i < end; ++i) {
            head.last = attrs.causal ? length - end + i + 1 : length;
            head.first = attrs.window ? std::max<int64_t>(head.last - attrs.window, 0) : 0;
            to_f32(address(q, i, h * group * size), q.dtype, group * size, queries);
            for (int64_t c = 0; c < group * size; ++c) queries[c] *= scale;
            if (head.first < head.last) run(head);
            else std::fill_n(sums, group * size, 0.0f);
            from_f32(sums, group * size, y.dtype, address(y, i, h * group * size));
        }
    }
    for (int64_t i = std::max<int64_t>(segments[sequences], 0) + team.rank; i < y.rows(); i += team.size)  // rows of no sequence
        std::memset(address(y, i), 0, static_cast<size_t>(y.columns() * float_size(y.dtype)));
}

// A prompt's own attention: q, k, v and segments as attention takes them.
void attend_prompt(const Call& call, Team team) {
    const auto& state = *static_cast<const State*>(call.state);
    Tensor in[kAttentionInputs] = {call.in[kQ], call.in[kK], call.in[kV], call.in[kSegments]}, out[2] = {call.out[0], state.lse};
    in[kAttentionKeySegments] = call.in[kKeySegments];
    out[1].data = call.scratch + state.whole.scratch_bytes;
    Call inner = call;
    inner.in = in, inner.out = out, inner.state = state.whole.state.get();
    state.whole.phases[0](inner, team);
}

const char* declines(const Request& r) {
    for (const int i : {kQ, kK, kV})
        if (r.in[static_cast<size_t>(i)].present && !is_simd_float(r.in[static_cast<size_t>(i)].dtype))
            return "an operand is not f32, bf16 or f16";
    if (r.in[kBias].present && !r.in[kBias].dense()) return "rows of the bias lie apart";
    const DType type = r.in[kKeys].dtype;
    return type != DType::f32 && type != DType::bf16 ? "the cache is neither f32 nor bf16" : nullptr;
}

Result<Prepared> prepare(const Request& r) {
    level();
    const auto& attrs = r.attr<Attention>();
    const int64_t size = r.in[kKeys].dims[2], group = attrs.heads / r.in[kKeys].dims[0], capacity = r.in[kTable].dims[1];
    auto state = std::make_shared<State>();
    state->own = 2 * padded(group * size) + group * padded(capacity);
    Prepared prepared{{append, attend}, state, state->own * 4 * r.threads};
    if (!r.in[kK].present) prepared.phases.erase(prepared.phases.begin());
    if (r.in[kBias].present)
        for (int64_t apart = 0; apart <= attrs.max_distance; ++apart)
            state->buckets.push_back(static_cast<int32_t>(relative_bucket(-apart, r.in[kBias].dims[0], attrs.max_distance, false)));
    if (r.in[kLengths].present) return prepared;
    // A window without places in the batch counts rows of the stream, which within a sequence is the same.
    state->lse.dtype = DType::f32, state->lse.rank = 2, state->lse.present = true;
    state->lse.dims[0] = r.out[0].rows(), state->lse.dims[1] = state->lse.row_stride = attrs.heads;
    std::vector<Tensor> in = {r.in[kQ], r.in[kK], r.in[kV], r.in[kSegments]}, out = {r.out[0], state->lse};
    in.resize(kAttentionInputs);
    in[kAttentionKeySegments] = r.in[kKeySegments];
    DS_TRY(state->whole, attention.begin()->prepare(Request{in, out, r.attrs, r.threads}));
    prepared.phases[1] = attend_prompt;
    prepared.scratch_bytes = std::max(prepared.scratch_bytes, state->whole.scratch_bytes + round_up(state->lse.count() * 4, 64));
    return prepared;
}

constexpr KernelImpl kAttentionCached[] = {{"cached", declines, prepare}};

}  // namespace

extern const KernelList attention_cached;
const KernelList attention_cached{kAttentionCached};

}  // namespace ds::cpu
#endif
