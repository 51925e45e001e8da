// attention_cached: keys and values of new tokens go where `table` says, then every query attends over its sequence's cached ones. A block
// has one query of one head; its warps share the keys, each with the largest score, the sum of exponentials and the weighted sum of values
// so far. Where nothing was cached before (a prompt), attention itself computes y from k and v.
#include "kernels/cuda/attention.cuh"

namespace ds::cuda {

extern const KernelList attention;

namespace {

constexpr int kThreads = 128, kWarps = kThreads / kWarp, kMostSize = 256, kColumns = kMostSize / kWarp;  // kColumns: of a lane

enum In { kQ, kK, kV, kKeys, kValues, kTable, kLengths, kSegments, kKeySegments, kBias };
constexpr size_t kAttentionInputs = 11, kAttentionKeySegments = 6;  // of the op attention

struct Cache {
    Rows keys, values;  // [kv_heads * pool, size]
    int64_t pool, kv_heads;
    Span<const int32_t> table;
    int64_t table_stride;
    Span<const int32_t> lengths, segments, cuts;  // cuts: of new keys
    DS_DEVICE int64_t place(int64_t sequence, int64_t token) const { return table.get(sequence * table_stride + token); }
    DS_DEVICE int64_t length(int64_t sequence) const {
        return lengths.data ? lengths.get(sequence) : cuts.get(sequence + 1) - cuts.get(sequence);
    }
};

// A block a new token.
__global__ void append_kernel(Cache c, Rows k, Rows v) {
    const int64_t size = c.keys.columns;
    for (int64_t i = blockIdx.x; i < k.rows; i += gridDim.x) {
        const int64_t s = sequence_at(c.cuts, i);
        if (s < 0) continue;
        const int64_t place = c.place(s, c.length(s) - (c.cuts.get(s + 1) - i));
        for (int64_t j = threadIdx.x; j < k.columns; j += blockDim.x) {
            const int64_t row = j / size * c.pool + place;
            c.keys.put(row, j % size, k.get(i, j));
            c.values.put(row, j % size, v.get(i, j));
        }
    }
}

struct Look {
    int64_t heads, window;
    float scale;
    bool causal;
    Rows bias;
    Span<const int32_t> buckets;
    int64_t farthest;
    // distance: of a key behind its query, which is not after it.
    DS_DEVICE float bias_of(int64_t distance, int64_t head) const {
        return bias.present() ? bias.get(buckets.get((distance < farthest ? -distance : -farthest) + farthest), head) : 0.0f;
    }
};

__global__ void __launch_bounds__(kThreads) attend_kernel(Cache c, Rows q, Rows y, Look look) {
    DS_SHARED(float, mosts, kWarps);
    DS_SHARED(float, totals, kWarps);
    DS_SHARED(float, parts, kWarps* kMostSize);
    const auto lane = static_cast<int>(threadIdx.x % kWarp), warp = static_cast<int>(threadIdx.x / kWarp),
               size = static_cast<int>(c.keys.columns);
    const int64_t i = blockIdx.x, head = blockIdx.y, base = head / (look.heads / c.kv_heads) * c.pool, s = sequence_at(c.segments, i);
    int64_t first = 0, last = 0;
    if (s >= 0) {
        last = look.causal ? c.length(s) - (c.segments.get(s + 1) - i) + 1 : c.length(s);
        if (look.window > 0 && last > look.window) first = last - look.window;
    }
    float query[kColumns], sums[kColumns], most = -INFINITY, total = 0;
#pragma unroll
    for (int m = 0; m < kColumns; ++m) {
        const int column = lane + kWarp * m;
        query[m] = column < size ? q.get(i, head * size + column) : 0.0f;
        sums[m] = 0;
    }
    for (int64_t j = first + warp; j < last; j += kWarps) {
        const int64_t row = base + c.place(s, j);
        float score = 0;
#pragma unroll
        for (int m = 0; m < kColumns; ++m)
            if (lane + kWarp * m < size) score = fmaf(query[m], c.keys.get(row, lane + kWarp * m), score);
        score = sum_of_warp(score) * look.scale + look.bias_of(last - 1 - j, head);
        const float larger = fmaxf(most, score), fade = larger == -INFINITY ? 1.0f : expf(most - larger),
                    p = score == -INFINITY ? 0.0f : expf(score - larger);
        total = total * fade + p;
        most = larger;
#pragma unroll
        for (int m = 0; m < kColumns; ++m)
            if (lane + kWarp * m < size) sums[m] = fmaf(p, c.values.get(row, lane + kWarp * m), sums[m] * fade);
    }
    if (lane == 0) mosts.put(warp, most), totals.put(warp, total);
#pragma unroll
    for (int m = 0; m < kColumns; ++m) parts.put(warp * kMostSize + lane + kWarp * m, sums[m]);
    barrier();
    float all = -INFINITY, weight = 0;
    for (int w = 0; w < kWarps; ++w) all = fmaxf(all, mosts.get(w));
    const auto has = [&](int w) { return totals.get(w) != 0; };  // a NaN goes on as one
    for (int w = 0; w < kWarps; ++w)
        if (has(w)) weight += totals.get(w) * expf(mosts.get(w) - all);
    for (int column = threadIdx.x; column < size; column += kThreads) {
        float sum = 0;
        for (int w = 0; w < kWarps; ++w)
            if (has(w)) sum += parts.get(w * kMostSize + column) * expf(mosts.get(w) - all);
        y.put(i, head * size + column, weight == 0 ? 0.0f : sum / weight);
    }
}

struct State {
    Prepared whole;   // of a prompt: attention over k and v alone
    int64_t lse = 0;  // where in scratch that writes lse
    bool is_prompt = false;
};

Tensor lse_of(const Tensor& q, int64_t heads, void* data) {
    Tensor lse;
    lse.data = data;
    lse.rank = 2;
    lse.dims[0] = q.rows();
    lse.dims[1] = lse.row_stride = heads;
    lse.present = true;
    return lse;
}

void inputs_of_attention(const Tensor* in, Tensor* to) {
    std::copy_n(in, 3, to);
    to[3] = in[kSegments];
    to[kAttentionKeySegments] = in[kKeySegments];
}

void attend_to_prompt(const Call& c, const State& s) {
    Tensor in[kAttentionInputs], out[] = {c.out[0], lse_of(c.in[kQ], c.attr<Attention>().heads, c.scratch + s.lse)};
    inputs_of_attention(c.in, in);
    Call call = c;
    call.in = in, call.out = out, call.state = s.whole.state.get();
    for (const Phase phase : s.whole.phases) phase(call, Team{});
}

void run(const Call& c, Queue& queue) {
    const auto& s = *static_cast<const State*>(c.state);
    const Tensor &q = c.in[kQ], &k = c.in[kK], &keys = c.in[kKeys], &table = c.in[kTable], &bias = c.in[kBias];
    const Attention& a = c.attr<Attention>();
    if (q.count() == 0) return;
    const auto segments = span<const int32_t>(c.in[kSegments]),
               cuts = c.in[kKeySegments].present ? span<const int32_t>(c.in[kKeySegments]) : segments;
    const Cache cache{rows_of(keys),
                      rows_of(c.in[kValues]),
                      keys.dims[1],
                      keys.dims[0],
                      span<const int32_t>(table),
                      table.row_stride,
                      span<const int32_t>(c.in[kLengths]),
                      segments,
                      cuts};
    if (k.present && k.count() > 0)
        launch(queue, striding_blocks(k.rows(), 1), kThreads, 0, append_kernel, cache, rows_of(k), rows_of(c.in[kV]));
    if (s.is_prompt) return attend_to_prompt(c, s);
    const auto size = static_cast<double>(keys.dims[2]);
    Look look{a.heads, a.window, static_cast<float>(a.scale != 0 ? a.scale : 1 / sqrt(size)), a.causal, rows_of(bias), {}, a.max_distance};
    if (bias.present) {
        const Span<int32_t> buckets = scratch<int32_t>(c, 0, 2 * a.max_distance + 1);
        store_buckets(queue, a, bias, buckets);
        look.buckets = {buckets.data, buckets.n};
    }
    launch(queue, dim3(static_cast<unsigned>(q.rows()), static_cast<unsigned>(a.heads)), kThreads, 0, attend_kernel, cache, rows_of(q),
           rows_of(c.out[0]), look);
}

Result<Prepared> prepare(const Request& r) {
    auto s = std::make_shared<State>();
    const Attention& a = r.attr<Attention>();
    if (r.in[kK].present && !r.in[kLengths].present) {
        Tensor in[kAttentionInputs], out[] = {r.out[0], lse_of(r.in[kQ], a.heads, nullptr)};
        inputs_of_attention(r.in.data(), in);
        const Request whole{in, out, r.attrs, r.threads, r.queue};
        for (const KernelImpl& kernel : attention) {
            if (kernel.declines(whole)) continue;
            DS_TRY(s->whole, kernel.prepare(whole));
            s->is_prompt = true;
            break;
        }
    }
    s->lse = round_up(s->whole.scratch_bytes, 256);
    const int64_t bytes = s->is_prompt ? s->lse + r.in[kQ].rows() * a.heads * 4 : bucket_bytes(a, r.in[kBias]);
    return Prepared{{queued<run>}, std::move(s), bytes};
}

const char* declines(const Request& r) {
    if (r.in[kKeys].dims[2] > kMostSize) return "a head is larger than 256";
    if (r.attr<Attention>().heads > 65535) return "more than 65535 heads";
    return accepts_floats(r);
}

constexpr KernelImpl kAttentionCached[] = {{"warps", declines, prepare}};

}  // namespace

extern const KernelList attention_cached{kAttentionCached};

}  // namespace ds::cuda
