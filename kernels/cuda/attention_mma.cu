// Attention on tensor cores, forward: a block has 128 queries of a head and walks over tiles of keys, with the softmax's maximum and sum kept by row
// (FlashAttention-2, Dao 2023).
#include "kernels/cuda/attention_mma.cuh"

namespace ds::cuda::mma {
namespace {

constexpr int kKeys = 128;
template <int kD> inline constexpr int kQueryBytes = kTileBytes<kD, kOwn>;
template <int kD> inline constexpr int kKeyBytes = kTileBytes<kD, kKeys>;
template <int kD> inline constexpr int kTilesEnd = kQueryBytes<kD> + 4 * kKeyBytes<kD>;
template <int kD> inline constexpr size_t kBytes = kTilesEnd<kD> + 64 * 4;

// Scores become exponents of two's powers, -inf where a key is not seen.
template <bool kFussy>
DS_DEVICE void mask(const Sight& s, Sums<kKeys>& scores, const Own* own, int64_t head, int64_t first_key) {
    const auto first = static_cast<int>(first_key);
    if (!kFussy && own[0].begin <= first && own[1].begin <= first && own[0].end >= first + kKeys && own[1].end >= first + kKeys) return;
#pragma unroll
    for (int i = 0; i < kKeys / 2; ++i) {
        const Own& mine = own[i % 4 / 2];
        const int j = first + sums_column(i);
        bool seen = j >= mine.begin && j < mine.end;
        if (kFussy) {
            seen = seen && sees(s, mine.row, head, j, mine.spot);
            if (seen) scores.x[i] = (scores.x[i] * s.scale + bias_of(s, mine.row, head, j)) * kLog2E;
        }
        if (!seen) scores.x[i] = -INFINITY;
    }
}

template <int kD, class T, bool kFussy>
__global__ void __launch_bounds__(kThreads, kD == 64 && !kFussy ? 2 : 1) forward_kernel(Sight s, Part<T> q, Part<T> k, Part<T> v, Part<T> y, Span<float> lse) {
    const Shared<T> query = dynamic_shared<T>(0, kOwn * kD);
    const auto tile = [](int buffer, bool of_values) { return dynamic_shared<T>(kQueryBytes<kD> + (2 * buffer + of_values) * kKeyBytes<kD>, kKeys * kD); };
    const Shared<int> bounds = dynamic_shared<int>(kTilesEnd<kD>, 32);
    const Shared<float> votes = dynamic_shared<float>(kTilesEnd<kD> + 32 * 4, 32);
    // Those that see the most first, where later rows see more.
    const int64_t first_query = int64_t{gridDim.x - 1 - blockIdx.x} * kOwn, head = blockIdx.y, kv_head = head / s.group;
    const int group = threadIdx.x / kGroupThreads;
    const Draws draws{s.draws.get(0), s.draws.get(1)};
    const Own own[2] = {own_query(s, own_row(first_query, 0)), own_query(s, own_row(first_query, 1))};
    load_tile<kD, kOwn>(query, q, first_query, s.q_rows, head, s.size);
    const Range all = cover(own, bounds);
    const auto load = [&](int64_t first_key, int buffer) {
        load_tile<kD, kKeys>(tile(buffer, false), k, first_key, s.k_rows, kv_head, s.size);
        load_tile<kD, kKeys>(tile(buffer, true), v, first_key, s.k_rows, kv_head, s.size);
    };
    if (all.begin < all.end) load(all.begin, 0);

    const float unit = kFussy ? 1.0f : s.scale * kLog2E;  // of scores, in exponents
    float most[2] = {-INFINITY, -INFINITY}, total[2] = {};
    Sums<kD> sums;
    sums.clear();
    int buffer = 0;
    for (int64_t first_key = all.begin; first_key < all.end; first_key += kKeys, buffer ^= 1) {
        finish_tiles();
        barrier();
        if (first_key + kKeys < all.end) load(first_key + kKeys, buffer ^ 1);
        if (kFussy && unseen(s, votes, kKeys / 2, [&](int i) {
                const Own& mine = own[i % 4 / 2];
                const int64_t j = first_key + sums_column(i);
                return j >= mine.begin && j < mine.end && sees(s, mine.row, head, j, mine.spot);
            }))
            continue;
        Sums<kKeys> scores;
        multiply_rows<kOwn, kD>(scores, query, group, tile(buffer, false));
        mask<kFussy>(s, scores, own, head, first_key);
        float larger[2] = {most[0], most[1]}, sum[2] = {}, base[2], fade[2];
#pragma unroll
        for (int i = 0; i < kKeys / 2; ++i) larger[i % 4 / 2] = fmaxf(larger[i % 4 / 2], scores.x[i]);
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            larger[h] = fmaxf(larger[h], shuffle_xor(larger[h], 1));
            larger[h] = fmaxf(larger[h], shuffle_xor(larger[h], 2));
            base[h] = larger[h] == -INFINITY ? 0.0f : larger[h] * unit;
            fade[h] = fast_exp2(most[h] * unit - base[h]);
            most[h] = larger[h];
        }
#pragma unroll
        for (int i = 0; i < kKeys / 2; ++i) {
            const int h = i % 4 / 2;
            const float p = fast_exp2(fmaf(scores.x[i], unit, -base[h]));
            sum[h] += p;
            scores.x[i] = kFussy && p != 0 ? p * kept_of(s, draws, own[h].row, head, first_key + sums_column(i), own[h].spot) : p;
        }
#pragma unroll
        for (int h = 0; h < 2; ++h) total[h] = total[h] * fade[h] + sum[h];
#pragma unroll
        for (int i = 0; i < kD / 2; ++i) sums.x[i] *= fade[i % 4 / 2];
        add_weighted(sums, scores, tile(buffer, true));
    }

    float by[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        total[h] += shuffle_xor(total[h], 1);
        total[h] += shuffle_xor(total[h], 2);
        by[h] = total[h] > 0 ? 1 / total[h] : 0.0f;
        if (threadIdx.x % 4 == 0 && own[h].row < s.q_rows)
            lse.put(own[h].row * s.heads + head, total[h] > 0 ? most[h] * unit * kLn2 + logf(total[h]) : s.first_tokens.data ? -INFINITY : 0.0f);
    }
    write_rows<kD>(sums, by, y, first_query, s.q_rows, head, s.size);
}

void run(const Call& c, Queue& queue) {
    const Tensor &q = c.in[0], &k = c.in[1], &v = c.in[2], &y = c.out[0], &lse = c.out[1];
    const Sight s = sight_of(c.attr<Attention>(), q, k, c.in + 3, queue, c.scratch);
    if (s.q_rows == 0) return;
    with_kind(q.dtype, s, [&](auto element, auto width, auto is_fussy) {
        using T = decltype(element);
        constexpr int kD = decltype(width)::value;
        const auto kernel = forward_kernel<kD, T, decltype(is_fussy)::value>;
        allow_shared(queue, kernel, kBytes<kD>);
        launch(queue, dim3(blocks_for(s.q_rows, kOwn), static_cast<unsigned>(s.heads)), kThreads, kBytes<kD>, kernel, s, part_of<T>(q, s.heads), part_of<T>(k, s.heads / s.group),
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
