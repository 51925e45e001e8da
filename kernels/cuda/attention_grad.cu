// Gradient of attention. Probabilities are made again from the scores and lse. One kernel goes over query tiles and gives dq, one over key
// tiles and gives dk and dv, so that nothing is added up by atomics: the same bits every time.
//   ds_ij = p_ij (kept_ij dy_i . v_j - delta_i) scale,  delta_i = dy_i . y_i;  of the bias, ds_ij / scale summed by bucket.
#include "kernels/cuda/attention.cuh"

namespace ds::cuda {
namespace {

// A warp a row and head.
__global__ void delta_kernel(Heads dy, Heads y, int64_t rows, int64_t heads, int size, Span<float> delta) {
    const int64_t at = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / kWarp;
    float sum = 0;
    if (at < rows * heads)
        for (int c = threadIdx.x % kWarp; c < size; c += kWarp) sum += dy.get(at / heads, at % heads, c) * y.get(at / heads, at % heads, c);
    sum = sum_of_warp(sum);
    if (at < rows * heads && threadIdx.x % kWarp == 0) delta.put(at, sum);
}

template <int kD>
__global__ void __launch_bounds__(kAttentionThreads, 1)
    query_kernel(Sight s, Heads dy, Heads q, Heads k, Heads v, Span<const float> lse, Span<const float> delta, Heads dq, BiasSums dbias) {
    constexpr int kBytes = 4 * kTileFloats<kD>;
    const Shared<float> query = dynamic_shared<float>(0, kTileFloats<kD>), up = dynamic_shared<float>(kBytes, kTileFloats<kD>),
                        key = dynamic_shared<float>(2 * kBytes, kTileFloats<kD>),
                        value = dynamic_shared<float>(3 * kBytes, kTileFloats<kD>),
                        weights = dynamic_shared<float>(4 * kBytes, kWeightFloats);
    DS_SHARED(int64_t, begins, kTile);
    DS_SHARED(int64_t, ends, kTile);
    const int r = threadIdx.x / kAcross, c = threadIdx.x % kAcross;
    const int64_t first_query = int64_t{blockIdx.x} * kTile, i = first_query + r, head = blockIdx.y, kv_head = head / s.group;
    const Draws draws{s.draws.get(0), s.draws.get(1)};
    DS_SHARED(float, votes, 32);
    const Spot mine = keys_of(s, i);
    const auto seen = [&](int64_t j) { return mine.holds(j) && sees(s, i, head, j, mine); };
    if (c == 0) {
        const Range near = near_keys(s, i, mine);
        begins.put(r, near.begin);
        ends.put(r, near.end);
    }
    if (dbias.present()) dbias.clear(blockIdx.x, head);
    load_tile<kD>(query, q, first_query, s.q_rows, head, s.size);
    load_tile<kD>(up, dy, first_query, s.q_rows, head, s.size);
    barrier();
    const Range all = cover<kTile>(begins, ends);
    const float normaliser = i < s.q_rows ? lse.get(i * s.heads + head) : 0.0f, own = i < s.q_rows ? delta.get(i * s.heads + head) : 0.0f;

    float sums[kD / kAcross];
#pragma unroll
    for (int m = 0; m < kD / kAcross; ++m) sums[m] = 0;
    for (int64_t first_key = all.begin; first_key < all.end; first_key += kTile) {
        if (unseen(s, votes, kScores, [&](int m) { return seen(first_key + c + kAcross * m); })) continue;
        load_tile<kD>(key, k, first_key, s.k_rows, kv_head, s.size);
        load_tile<kD>(value, v, first_key, s.k_rows, kv_head, s.size);
        barrier();
        float scores[kScores], products[kScores];
        dot_rows<kD>(query, r, key, c, scores);
        dot_rows<kD>(up, r, value, c, products);
#pragma unroll
        for (int m = 0; m < kScores; ++m) {
            const int64_t j = first_key + c + kAcross * m;
            float slope = 0;
            if (seen(j))
                slope = expf(scores[m] * s.scale + bias_of(s, i, head, j) - normaliser) *
                        (products[m] * kept_of(s, draws, i, head, j, mine) - own) * s.scale;
            weights.put(r * (kTile + 1) + c + kAcross * m, slope);
        }
        barrier();
        add_rows<kD>(weights, r, key, c, sums);
        if (dbias.present())
            dbias.add<kTile, kTile>(s, blockIdx.x, head, first_query, first_key,
                                    [&](int row, int column) { return weights.get(row * (kTile + 1) + column); });
        barrier();
    }
    if (i >= s.q_rows) return;
#pragma unroll
    for (int m = 0; m < kD / kAcross; ++m)
        if (c + kAcross * m < s.size) dq.put(i, head, c + kAcross * m, sums[m]);
}

template <int kD>
__global__ void __launch_bounds__(kAttentionThreads)
    key_kernel(Sight s, Heads dy, Heads q, Heads k, Heads v, Span<const float> lse, Span<const float> delta, Heads dk, Heads dv) {
    constexpr int kBytes = 4 * kTileFloats<kD>;
    const Shared<float> key = dynamic_shared<float>(0, kTileFloats<kD>), value = dynamic_shared<float>(kBytes, kTileFloats<kD>),
                        query = dynamic_shared<float>(2 * kBytes, kTileFloats<kD>), up = dynamic_shared<float>(3 * kBytes, kTileFloats<kD>),
                        kept = dynamic_shared<float>(4 * kBytes, kWeightFloats),
                        slopes = dynamic_shared<float>(4 * kBytes + 4 * kWeightFloats, kWeightFloats);
    DS_SHARED(int64_t, begins, kTile);
    DS_SHARED(int64_t, ends, kTile);
    const int r = threadIdx.x / kAcross, c = threadIdx.x % kAcross;
    const int64_t first_key = int64_t{blockIdx.x} * kTile, j = first_key + r, kv_head = blockIdx.y;
    const Draws draws{s.draws.get(0), s.draws.get(1)};
    DS_SHARED(float, votes, 32);
    const Spot mine = queries_of(s, j);
    if (c == 0) {
        const Range near = near_queries(s, j, mine);
        begins.put(r, near.begin);
        ends.put(r, near.end);
    }
    load_tile<kD>(key, k, first_key, s.k_rows, kv_head, s.size);
    load_tile<kD>(value, v, first_key, s.k_rows, kv_head, s.size);
    barrier();
    const Range all = cover<kTile>(begins, ends);

    float dkey[kD / kAcross], dvalue[kD / kAcross];
#pragma unroll
    for (int m = 0; m < kD / kAcross; ++m) dkey[m] = dvalue[m] = 0;
    for (int64_t head = kv_head * s.group; head < (kv_head + 1) * s.group; ++head)
        for (int64_t first_query = all.begin; first_query < all.end; first_query += kTile) {
            const auto seen = [&](int64_t i) { return mine.holds(i) && sees(s, i, head, j, mine); };
            if (unseen(s, votes, kScores, [&](int m) { return seen(first_query + c + kAcross * m); })) continue;
            load_tile<kD>(query, q, first_query, s.q_rows, head, s.size);
            load_tile<kD>(up, dy, first_query, s.q_rows, head, s.size);
            barrier();
            float scores[kScores], products[kScores];
            dot_rows<kD>(key, r, query, c, scores);
            dot_rows<kD>(value, r, up, c, products);
#pragma unroll
            for (int m = 0; m < kScores; ++m) {
                const int64_t i = first_query + c + kAcross * m;
                float p = 0, slope = 0, keep = 0;
                if (seen(i)) {
                    p = expf(scores[m] * s.scale + bias_of(s, i, head, j) - lse.get(i * s.heads + head));
                    keep = kept_of(s, draws, i, head, j, mine);
                    slope = p * (products[m] * keep - delta.get(i * s.heads + head)) * s.scale;
                }
                kept.put(r * (kTile + 1) + c + kAcross * m, p * keep);
                slopes.put(r * (kTile + 1) + c + kAcross * m, slope);
            }
            barrier();
            add_rows<kD>(kept, r, up, c, dvalue);
            add_rows<kD>(slopes, r, query, c, dkey);
            barrier();
        }
    if (j >= s.k_rows) return;
#pragma unroll
    for (int m = 0; m < kD / kAcross; ++m)
        if (c + kAcross * m < s.size) {
            dk.put(j, kv_head, c + kAcross * m, dkey[m]);
            dv.put(j, kv_head, c + kAcross * m, dvalue[m]);
        }
}

void run(const Call& c, Queue& queue) {
    const Tensor &dy = c.in[0], &q = c.in[1], &k = c.in[2], &v = c.in[3], &y = c.in[4], &lse = c.in[5], &bias = c.in[12];
    const GradRoom room(c.attr<Attention>(), q, bias, kTile, kAttentionThreads);
    const Sight s = sight_of(c.attr<Attention>(), q, k, c.in + 6, queue, c.scratch + room.buckets);
    const int64_t kv_heads = s.heads / s.group;
    const Span<float> delta = scratch<float>(c, room.delta, s.q_rows * s.heads);
    const Span<const float> deltas{delta.data, delta.n};
    if (s.q_rows > 0)
        launch(queue, blocks_for(s.q_rows * s.heads * kWarp, 128), 128, 0, delta_kernel, heads_of(dy, s.heads), heads_of(y, s.heads),
               s.q_rows, s.heads, s.size, delta);
    with_width(s.size, [&](auto width) {
        constexpr int kD = decltype(width)::value;
        constexpr size_t query_bytes = 4 * (4 * kTileFloats<kD> + kWeightFloats), key_bytes = query_bytes + 4 * kWeightFloats;
        allow_shared(queue, query_kernel<kD>, query_bytes);
        allow_shared(queue, key_kernel<kD>, key_bytes);
        if (s.q_rows > 0)
            launch(queue, dim3(blocks_for(s.q_rows, kTile), static_cast<unsigned>(s.heads)), kAttentionThreads, query_bytes,
                   query_kernel<kD>, s, heads_of(dy, s.heads), heads_of(q, s.heads), heads_of(k, kv_heads), heads_of(v, kv_heads),
                   span<const float>(lse), deltas, heads_of(c.out[0], s.heads), room.sums(c, bias));
        if (s.k_rows > 0)
            launch(queue, dim3(blocks_for(s.k_rows, kTile), static_cast<unsigned>(kv_heads)), kAttentionThreads, key_bytes, key_kernel<kD>,
                   s, heads_of(dy, s.heads), heads_of(q, s.heads), heads_of(k, kv_heads), heads_of(v, kv_heads), span<const float>(lse),
                   deltas, heads_of(c.out[1], kv_heads), heads_of(c.out[2], kv_heads));
    });
    room.finish(c, queue, bias, c.out[3]);
}

Result<Prepared> prepare(const Request& r) {
    return Prepared{{queued<run>}, nullptr, GradRoom(r.attr<Attention>(), r.in[1], r.in[12], kTile, kAttentionThreads).bytes};
}

const char* declines(const Request& r) { return accepts_heads(r.attr<Attention>(), r.in[1], r, 6); }

constexpr KernelImpl kAttentionGrad[] = {{"flash_mma", mma::backward_declines, mma::prepare_backward}, {"flash_f32", declines, prepare}};

}  // namespace

extern const KernelList attention_grad{kAttentionGrad};

}  // namespace ds::cuda
