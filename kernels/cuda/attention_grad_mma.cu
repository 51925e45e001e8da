// Gradient of attention on tensor cores: the two kernels of attention_grad.cu, whose sums stay in registers.
#include "kernels/cuda/attention_mma.cuh"

namespace ds::cuda::mma {
namespace {

template <int kD> inline constexpr size_t kBytes = 4 * kTileBytes<kD> + 2 * kScoreBytes + 2 * kWeightBytes;

// delta_i = dy_i . y_i; a warp a row and head.
template <class T>
__global__ void delta_kernel(Part<T> dy, Part<T> y, int64_t rows, int64_t heads, int size, Span<float> delta) {
    const int64_t at = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / kWarp;
    float sum = 0;
    if (at < rows * heads)
        for (int c = threadIdx.x % kWarp; c < size; c += kWarp) sum += to_f32(dy.memory.get(dy.at(at / heads, at % heads) + c)) * to_f32(y.memory.get(y.at(at / heads, at % heads) + c));
    sum = sum_of_warp(sum);
    if (at < rows * heads && threadIdx.x % kWarp == 0) delta.put(at, sum);
}

// A block's shared memory: the tiles of its own side and of the other, scores and weights of either kind.
template <int kD, class T>
struct Room {
    Shared<T> own, own_other, other, other_other, weights, slopes;
    Shared<float> scores, products;
};
template <int kD, class T>
DS_DEVICE Room<kD, T> room() {
    constexpr int kElements = kTile * kStride<kD>, kEnd = 4 * kTileBytes<kD>;
    return {dynamic_shared<T>(0, kElements), dynamic_shared<T>(kTileBytes<kD>, kElements), dynamic_shared<T>(2 * kTileBytes<kD>, kElements), dynamic_shared<T>(3 * kTileBytes<kD>, kElements),
            dynamic_shared<T>(kEnd, kTile * kWeightStride), dynamic_shared<T>(kEnd + kWeightBytes, kTile * kWeightStride),
            dynamic_shared<float>(kEnd + 2 * kWeightBytes, kTile * kScoreStride), dynamic_shared<float>(kEnd + 2 * kWeightBytes + kScoreBytes, kTile * kScoreStride)};
}

// The warp's sums go through the scores' memory, 64 columns at a time, to rows of `to`.
template <int kD, class T>
DS_DEVICE void write_sums(SumMatrix* sums, Shared<float> memory, const Part<T>& to, int64_t first, int64_t rows, int64_t head, int size) {
    const int r = threadIdx.x / 2, half = threadIdx.x % 2, row = threadIdx.x / kWarp * kRows;
#pragma unroll
    for (int part = 0; part < kD / kTile; ++part) {
        barrier();
#pragma unroll
        for (int n = 0; n < kTile / 16; ++n) sums[part * (kTile / 16) + n].store(memory, row * kScoreStride + n * 16, kScoreStride);
        barrier();
        for (int c = half; c < kTile; c += 2) {
            const int column = part * kTile + c;
            if (first + r < rows && column < size) to.memory.put(to.at(first + r, head) + column, from_f32<T>(memory.get(r * kScoreStride + c)));
        }
    }
}

template <int kD, class T>
__global__ void __launch_bounds__(kThreads, 1) query_kernel(Sight s, Part<T> dy, Part<T> q, Part<T> k, Part<T> v, Span<const float> lse, Span<const float> delta, Part<T> dq, BiasSums dbias) {
    const Room<kD, T> m = room<kD, T>();
    DS_SHARED(int64_t, begins, kTile);
    DS_SHARED(int64_t, ends, kTile);
    const int r = threadIdx.x / 2, half = threadIdx.x % 2;
    const int64_t first_query = int64_t{blockIdx.x} * kTile, i = first_query + r, head = blockIdx.y, kv_head = head / s.group;
    const Draws draws{s.draws.get(0), s.draws.get(1)};
    DS_SHARED(float, votes, 32);
    const Spot mine = keys_of(s, i);
    const auto seen = [&](int64_t j) { return mine.holds(j) && sees(s, i, head, j, mine); };
    if (half == 0) {
        const Range near = near_keys(s, i, mine);
        begins.put(r, near.begin);
        ends.put(r, near.end);
    }
    if (dbias.present()) dbias.clear(head);
    load_tile<kD>(m.own, q, first_query, s.q_rows, head, s.size);
    load_tile<kD>(m.own_other, dy, first_query, s.q_rows, head, s.size);
    barrier();
    const Range all = cover<kTile>(begins, ends);
    const float normaliser = i < s.q_rows ? lse.get(i * s.heads + head) : 0.0f, own = i < s.q_rows ? delta.get(i * s.heads + head) : 0.0f;
    SumMatrix sums[kD / 16];
#pragma unroll
    for (int n = 0; n < kD / 16; ++n) sums[n].clear();
    for (int64_t first_key = all.begin; first_key < all.end; first_key += kTile) {
        if (unseen(s, votes, kTile / 2, [&](int n) { return seen(first_key + half + 2 * n); })) continue;
        load_tile<kD>(m.other, k, first_key, s.k_rows, kv_head, s.size);
        load_tile<kD>(m.other_other, v, first_key, s.k_rows, kv_head, s.size);
        barrier();
        score_rows<kD>(m.own, m.other, m.scores);
        score_rows<kD>(m.own_other, m.other_other, m.products);
        barrier();
        for (int c = half; c < kTile; c += 2) {
            const int64_t j = first_key + c;
            float slope = 0;
            if (seen(j))
                slope = expf(m.scores.get(r * kScoreStride + c) * s.scale + bias_of(s, i, head, j) - normaliser) *
                        (m.products.get(r * kScoreStride + c) * kept_of(s, draws, i, head, j, mine) - own) * s.scale;
            m.slopes.put(r * kWeightStride + c, from_f32<T>(slope));
            if (dbias.present()) m.products.put(r * kScoreStride + c, slope);
        }
        barrier();
        add_weighted<kD>(sums, m.slopes, m.other);
        if (dbias.present()) dbias.add<kTile>(s, head, first_query, first_key, [&](int row, int column) { return m.products.get(row * kScoreStride + column); });
        barrier();
    }
    write_sums<kD>(sums, m.scores, dq, first_query, s.q_rows, head, s.size);
}

template <int kD, class T>
__global__ void __launch_bounds__(kThreads, 1) key_kernel(Sight s, Part<T> dy, Part<T> q, Part<T> k, Part<T> v, Span<const float> lse, Span<const float> delta, Part<T> dk, Part<T> dv) {
    const Room<kD, T> m = room<kD, T>();
    DS_SHARED(int64_t, begins, kTile);
    DS_SHARED(int64_t, ends, kTile);
    const int r = threadIdx.x / 2, half = threadIdx.x % 2;
    const int64_t first_key = int64_t{blockIdx.x} * kTile, j = first_key + r, kv_head = blockIdx.y;
    const Draws draws{s.draws.get(0), s.draws.get(1)};
    DS_SHARED(float, votes, 32);
    const Spot mine = queries_of(s, j);
    if (half == 0) {
        const Range near = near_queries(s, j, mine);
        begins.put(r, near.begin);
        ends.put(r, near.end);
    }
    load_tile<kD>(m.own, k, first_key, s.k_rows, kv_head, s.size);
    load_tile<kD>(m.own_other, v, first_key, s.k_rows, kv_head, s.size);
    barrier();
    const Range all = cover<kTile>(begins, ends);
    SumMatrix dkey[kD / 16], dvalue[kD / 16];
#pragma unroll
    for (int n = 0; n < kD / 16; ++n) dkey[n].clear(), dvalue[n].clear();
    for (int64_t head = kv_head * s.group; head < (kv_head + 1) * s.group; ++head)
        for (int64_t first_query = all.begin; first_query < all.end; first_query += kTile) {
            const auto seen = [&](int64_t i) { return mine.holds(i) && sees(s, i, head, j, mine); };
            if (unseen(s, votes, kTile / 2, [&](int n) { return seen(first_query + half + 2 * n); })) continue;
            load_tile<kD>(m.other, q, first_query, s.q_rows, head, s.size);
            load_tile<kD>(m.other_other, dy, first_query, s.q_rows, head, s.size);
            barrier();
            score_rows<kD>(m.own, m.other, m.scores);
            score_rows<kD>(m.own_other, m.other_other, m.products);
            barrier();
            for (int c = half; c < kTile; c += 2) {
                const int64_t i = first_query + c;
                float weight = 0, slope = 0;
                if (seen(i)) {
                    const float p = expf(m.scores.get(r * kScoreStride + c) * s.scale + bias_of(s, i, head, j) - lse.get(i * s.heads + head)), keep = kept_of(s, draws, i, head, j, mine);
                    weight = p * keep;
                    slope = p * (m.products.get(r * kScoreStride + c) * keep - delta.get(i * s.heads + head)) * s.scale;
                }
                m.weights.put(r * kWeightStride + c, from_f32<T>(weight));
                m.slopes.put(r * kWeightStride + c, from_f32<T>(slope));
            }
            barrier();
            add_weighted<kD>(dvalue, m.weights, m.other_other);
            add_weighted<kD>(dkey, m.slopes, m.other);
            barrier();
        }
    write_sums<kD>(dkey, m.scores, dk, first_key, s.k_rows, kv_head, s.size);
    write_sums<kD>(dvalue, m.scores, dv, first_key, s.k_rows, kv_head, s.size);
}

void run(const Call& c, Queue& queue) {
    const Tensor &dy = c.in[0], &q = c.in[1], &k = c.in[2], &v = c.in[3], &y = c.in[4], &lse = c.in[5], &bias = c.in[12];
    const GradRoom space(c.attr<Attention>(), q, bias, kTile, kThreads);
    const Sight s = sight_of(c.attr<Attention>(), q, k, c.in + 6, queue, c.scratch + space.buckets);
    const int64_t kv_heads = s.heads / s.group;
    const Span<float> delta = scratch<float>(c, space.delta, s.q_rows * s.heads);
    const Span<const float> deltas{delta.data, delta.n};
    with_type(q.dtype, s.size, [&](auto element, auto width) {
        using T = decltype(element);
        constexpr int kD = decltype(width)::value;
        const Part<T> ups = part_of<T>(dy, s.heads), queries = part_of<T>(q, s.heads), keys = part_of<T>(k, kv_heads), values = part_of<T>(v, kv_heads);
        allow_shared(queue, query_kernel<kD, T>, kBytes<kD>);
        allow_shared(queue, key_kernel<kD, T>, kBytes<kD>);
        if (s.q_rows > 0) {
            launch(queue, blocks_for(s.q_rows * s.heads * kWarp, 128, INT32_MAX), 128, 0, delta_kernel<T>, ups, part_of<T>(y, s.heads), s.q_rows, s.heads, s.size, delta);
            launch(queue, dim3(blocks_for(s.q_rows, kTile), static_cast<unsigned>(s.heads)), kThreads, kBytes<kD>, query_kernel<kD, T>, s, ups, queries, keys, values, span<const float>(lse), deltas,
                   part_of<T>(c.out[0], s.heads), space.sums(c, bias));
        }
        if (s.k_rows > 0)
            launch(queue, dim3(blocks_for(s.k_rows, kTile), static_cast<unsigned>(kv_heads)), kThreads, kBytes<kD>, key_kernel<kD, T>, s, ups, queries, keys, values, span<const float>(lse), deltas,
                   part_of<T>(c.out[1], kv_heads), part_of<T>(c.out[2], kv_heads));
    });
    space.finish(c, queue, bias, c.out[3]);
}

}  // namespace

const char* backward_declines(const Request& r) {
    const Tensor* alike[] = {&r.in[0], &r.in[2], &r.in[3], &r.in[4], &r.out[0], &r.out[1], &r.out[2]};
    return declines(r.attr<Attention>(), r.in[1], alike, r, 6);
}
Result<Prepared> prepare_backward(const Request& r) { return Prepared{{queued<run>}, nullptr, GradRoom(r.attr<Attention>(), r.in[1], r.in[12], kTile, kThreads).bytes}; }

}  // namespace ds::cuda::mma
