// Attention on tensor cores, forward: as attention.cu, with the scores, the probabilities and the sums so far of a tile in shared memory.
#include "kernels/cuda/attention_mma.cuh"

namespace ds::cuda::mma {
namespace {

template <int kD> inline constexpr int kSumStride = kD + 4;
template <int kD> inline constexpr int kSumBytes = kTile * kSumStride<kD> * 4;
template <int kD> inline constexpr size_t kBytes = 3 * kTileBytes<kD> + kScoreBytes + kWeightBytes + kSumBytes<kD>;

template <int kD, class T>
__global__ void __launch_bounds__(kThreads) forward_kernel(Sight s, Part<T> q, Part<T> k, Part<T> v, Part<T> y, Span<float> lse) {
    constexpr int kElements = kTile * kStride<kD>;
    const Shared<T> query = dynamic_shared<T>(0, kElements), key = dynamic_shared<T>(kTileBytes<kD>, kElements), value = dynamic_shared<T>(2 * kTileBytes<kD>, kElements),
                    weights = dynamic_shared<T>(3 * kTileBytes<kD>, kTile * kWeightStride);
    const Shared<float> scores = dynamic_shared<float>(3 * kTileBytes<kD> + kWeightBytes, kTile * kScoreStride),
                        sums = dynamic_shared<float>(3 * kTileBytes<kD> + kWeightBytes + kScoreBytes, kTile * kSumStride<kD>);
    DS_SHARED(int64_t, begins, kTile);
    DS_SHARED(int64_t, ends, kTile);
    const int r = threadIdx.x / 2, half = threadIdx.x % 2, row = threadIdx.x / kWarp * kRows;
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
    for (int c = half; c < kD; c += 2) sums.put(r * kSumStride<kD> + c, 0.0f);
    load_tile<kD>(query, q, first_query, s.q_rows, head, s.size);
    barrier();
    const Range all = cover<kTile>(begins, ends);

    float most = -INFINITY, total = 0;
    for (int64_t first_key = all.begin; first_key < all.end; first_key += kTile) {
        if (unseen(s, votes, kTile / 2, [&](int m) { return seen(first_key + half + 2 * m); })) continue;
        load_tile<kD>(key, k, first_key, s.k_rows, kv_head, s.size);
        load_tile<kD>(value, v, first_key, s.k_rows, kv_head, s.size);
        barrier();
        score_rows<kD>(query, key, scores);
        barrier();
        float larger = most, sum = 0;
        for (int c = half; c < kTile; c += 2) {
            const int64_t j = first_key + c;
            const float score = seen(j) ? scores.get(r * kScoreStride + c) * s.scale + bias_of(s, i, head, j) : -INFINITY;
            scores.put(r * kScoreStride + c, score);
            larger = fmaxf(larger, score);
        }
        larger = fmaxf(larger, shuffle_xor(larger, 1));
        const float fade = larger == -INFINITY ? 1.0f : expf(most - larger);
        for (int c = half; c < kTile; c += 2) {
            const float score = scores.get(r * kScoreStride + c), p = score == -INFINITY ? 0.0f : expf(score - larger);
            sum += p;
            weights.put(r * kWeightStride + c, from_f32<T>(p == 0 ? 0.0f : p * kept_of(s, draws, i, head, first_key + c, mine)));
        }
        total = total * fade + sum + shuffle_xor(sum, 1);
        most = larger;
        for (int c = half; c < kD; c += 2) sums.put(r * kSumStride<kD> + c, sums.get(r * kSumStride<kD> + c) * fade);
        barrier();
        SumMatrix so_far[kD / 16];
#pragma unroll
        for (int n = 0; n < kD / 16; ++n) so_far[n].load(sums, row * kSumStride<kD> + n * 16, kSumStride<kD>);
        add_weighted<kD>(so_far, weights, value);
        barrier();
#pragma unroll
        for (int n = 0; n < kD / 16; ++n) so_far[n].store(sums, row * kSumStride<kD> + n * 16, kSumStride<kD>);
        barrier();
    }
    if (i >= s.q_rows) return;
    for (int c = half; c < s.size; c += 2) y.memory.put(y.at(i, head) + c, from_f32<T>(total > 0 ? sums.get(r * kSumStride<kD> + c) / total : 0.0f));
    if (half == 0) lse.put(i * s.heads + head, total > 0 ? most + logf(total) : s.first_tokens.data ? -INFINITY : 0.0f);
}

void run(const Call& c, Queue& queue) {
    const Tensor &q = c.in[0], &k = c.in[1], &v = c.in[2], &y = c.out[0], &lse = c.out[1];
    const Sight s = sight_of(c.attr<Attention>(), q, k, c.in + 3, queue, c.scratch);
    if (s.q_rows == 0) return;
    with_type(q.dtype, s.size, [&](auto element, auto width) {
        using T = decltype(element);
        constexpr int kD = decltype(width)::value;
        allow_shared(queue, forward_kernel<kD, T>, kBytes<kD>);
        launch(queue, dim3(blocks_for(s.q_rows, kTile), static_cast<unsigned>(s.heads)), kThreads, kBytes<kD>, forward_kernel<kD, T>, s, part_of<T>(q, s.heads), part_of<T>(k, s.heads / s.group),
               part_of<T>(v, s.heads / s.group), part_of<T>(y, s.heads), span<float>(lse));
    });
}

}  // namespace

const char* forward_declines(const Request& r) {
    const Tensor* alike[] = {&r.in[1], &r.in[2], &r.out[0]};
    return declines(r.attr<Attention>(), r.in[0], alike, r, 3);
}
Result<Prepared> prepare_forward(const Request& r) { return Prepared{{queued<run>}, nullptr, bucket_bytes(r.attr<Attention>(), r.in[9])}; }

}  // namespace ds::cuda::mma
