// Attention without the matrix of scores (Dao et al. 2022, arXiv 2205.14135): keys come in tiles, and each row keeps its largest score, the
// sum of exponentials and the weighted sum of values so far. y_i = sum over visible j of softmax_j(scale q_i . k_j + bias_ij) v_j.
#include "kernels/cuda/attention.cuh"

namespace ds::cuda {
namespace {

template <int kD>
__global__ void __launch_bounds__(kAttentionThreads) forward_kernel(Sight s, Heads q, Heads k, Heads v, Heads y, Span<float> lse) {
    const Shared<float> query = dynamic_shared<float>(0, kTileFloats<kD>),
                        key = dynamic_shared<float>(4 * kTileFloats<kD>, kTileFloats<kD>),
                        value = dynamic_shared<float>(8 * kTileFloats<kD>, kTileFloats<kD>),
                        weights = dynamic_shared<float>(12 * kTileFloats<kD>, kWeightFloats);
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
    load_tile<kD>(query, q, first_query, s.q_rows, head, s.size);
    barrier();
    const Range all = cover<kTile>(begins, ends);

    float most = -INFINITY, total = 0, sums[kD / kAcross];
#pragma unroll
    for (int m = 0; m < kD / kAcross; ++m) sums[m] = 0;
    for (int64_t first_key = all.begin; first_key < all.end; first_key += kTile) {
        if (unseen(s, votes, kScores, [&](int m) { return seen(first_key + c + kAcross * m); })) continue;
        load_tile<kD>(key, k, first_key, s.k_rows, kv_head, s.size);
        load_tile<kD>(value, v, first_key, s.k_rows, kv_head, s.size);
        barrier();
        float scores[kScores], larger = most;
        dot_rows<kD>(query, r, key, c, scores);
#pragma unroll
        for (int m = 0; m < kScores; ++m) {
            const int64_t j = first_key + c + kAcross * m;
            scores[m] = seen(j) ? scores[m] * s.scale + bias_of(s, i, head, j) : -INFINITY;
            larger = fmaxf(larger, scores[m]);
        }
        for (int d = 1; d < kAcross; d *= 2) larger = fmaxf(larger, shuffle_xor(larger, d));
        const float fade = larger == -INFINITY ? 1.0f : expf(most - larger);
        float sum = 0;
#pragma unroll
        for (int m = 0; m < kScores; ++m) {
            const int64_t j = first_key + c + kAcross * m;
            const float p = scores[m] == -INFINITY ? 0.0f : expf(scores[m] - larger);
            sum += p;
            weights.put(r * (kTile + 1) + c + kAcross * m, p == 0 ? 0.0f : p * kept_of(s, draws, i, head, j, mine));
        }
        for (int d = 1; d < kAcross; d *= 2) sum += shuffle_xor(sum, d);
        total = total * fade + sum;
        most = larger;
#pragma unroll
        for (int m = 0; m < kD / kAcross; ++m) sums[m] *= fade;
        barrier();
        add_rows<kD>(weights, r, value, c, sums);
        barrier();
    }
    if (i >= s.q_rows) return;  // a NaN goes on as one
#pragma unroll
    for (int m = 0; m < kD / kAcross; ++m)
        if (c + kAcross * m < s.size) y.put(i, head, c + kAcross * m, total == 0 ? 0.0f : sums[m] / total);
    if (c == 0) lse.put(i * s.heads + head, total != 0 ? most + logf(total) : s.first_tokens.data ? -INFINITY : 0.0f);
}

void run(const Call& c, Queue& queue) {
    const Tensor &q = c.in[0], &k = c.in[1], &v = c.in[2], &y = c.out[0], &lse = c.out[1];
    const Sight s = sight_of(c.attr<Attention>(), q, k, c.in + 3, queue, c.scratch);
    if (s.q_rows == 0) return;
    with_width(s.size, [&](auto width) {
        constexpr int kD = decltype(width)::value;
        constexpr size_t bytes = 4 * (3 * kTileFloats<kD> + kWeightFloats);
        allow_shared(queue, forward_kernel<kD>, bytes);
        launch(queue, dim3(blocks_for(s.q_rows, kTile), static_cast<unsigned>(s.heads)), kAttentionThreads, bytes, forward_kernel<kD>, s,
               heads_of(q, s.heads), heads_of(k, s.heads / s.group), heads_of(v, s.heads / s.group), heads_of(y, s.heads),
               span<float>(lse));
    });
}

Result<Prepared> prepare(const Request& r) { return Prepared{{queued<run>}, nullptr, bucket_bytes(r.attr<Attention>(), r.in[9])}; }
const char* declines(const Request& r) { return accepts_heads(r.attr<Attention>(), r.in[0], r, 3); }

constexpr KernelImpl kAttention[] = {{"flash_mma", mma::forward_declines, mma::prepare_forward}, {"flash_f32", declines, prepare}};

}  // namespace

extern const KernelList attention{kAttention};

}  // namespace ds::cuda
