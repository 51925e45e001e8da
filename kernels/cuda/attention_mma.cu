// Attention on tensor cores, forward: a block has some queries of a head and walks over tiles of keys, with the softmax's maximum and sum
// kept by row (FlashAttention-2, Dao 2023).
#include "kernels/cuda/attention_mma.cuh"

namespace ds::cuda::mma {
namespace {

// Three groups hide more of each other's time where registers allow.
template <int kD, bool kFussy>
inline constexpr int kGroups = kD == 64 || kFussy ? 2 : 3;
template <int kD>
inline constexpr int kKeyBytes = kTileBytes<kD, kOther>;
template <int kD, bool kFussy>
inline constexpr int kQueryBytes = kTileBytes<kD, kOwn<kGroups<kD, kFussy>>>;
template <int kD, bool kFussy>
inline constexpr int kTilesEnd = kQueryBytes<kD, kFussy> + 2 * kRing* kKeyBytes<kD>;
template <int kD, bool kFussy>
inline constexpr size_t kBytes = kTilesEnd<kD, kFussy> + 64 * 4;

template <int kD, class T, bool kFussy>
__global__ void __launch_bounds__(kThreads<kGroups<kD, kFussy>>, kD == 64 && !kFussy ? 2 : 1)
    forward_kernel(const __grid_constant__ Sight s, Part<T> q, Part<T> k, Part<T> v, Part<T> y, Span<float> lse) {
    constexpr int kAll = kThreads<kGroups<kD, kFussy>>, kRows = kOwn<kGroups<kD, kFussy>>;
    const Shared<T> query = dynamic_shared<T>(0, kRows * kD);
    const auto tile = [](int slot, bool of_values) {
        return dynamic_shared<T>(kQueryBytes<kD, kFussy> + (2 * slot + of_values) * kKeyBytes<kD>, kOther * kD);
    };
    const Shared<int> bounds = dynamic_shared<int>(kTilesEnd<kD, kFussy>, 32);
    const Shared<float> votes = dynamic_shared<float>(kTilesEnd<kD, kFussy> + 32 * 4, 32);
    // Those that see the most first, where later rows see more.
    const int64_t first_query = int64_t{gridDim.x - 1 - blockIdx.x} * kRows, head = blockIdx.y, kv_head = head / s.group;
    const int group = uniform(threadIdx.x / kGroupThreads);
    const Own own[2] = {own_query(s, own_row(first_query, 0)), own_query(s, own_row(first_query, 1))};
    load_tile<kD, kRows, kAll>(query, q, first_query, s.q_rows, head, s.size);
    const Range all = cover(own, bounds);
    const int first_key = static_cast<int>(all.begin),
              tiles = all.begin < all.end ? static_cast<int>(all.end - all.begin + kOther - 1) / kOther : 0;

    const float unit = unit_of<kFussy>(s);
    float most[2] = {-INFINITY, -INFINITY}, total[2] = {}, fade[2] = {};
    Sums<kD> sums;
    Sums<kOther> scores;
    Operands<T, kOther> weights;
    sums.clear();
    walk_tiles<1>(
        tiles, [&](int t) { return is_seen<kFussy>(s, votes, own, head, first_key + t * kOther, OfQuery()); },
        [&](int t, int slot) {
            load_tile<kD, kOther, kAll>(tile(slot, false), k, first_key + t * kOther, s.k_rows, kv_head, s.size);
            load_tile<kD, kOther, kAll>(tile(slot, true), v, first_key + t * kOther, s.k_rows, kv_head, s.size);
        },
        [&](int slot) { start_rows<kRows, kD>(scores, query, group, tile(slot, false)); },
        [&](int t, int) {
            settle(scores);
            mask<kFussy>(s, scores, own, head, first_key + t * kOther, OfQuery());
            float larger[2] = {most[0], most[1]}, sum[2] = {}, base[2];
#pragma unroll
            for (int i = 0; i < kOther / 2; ++i) larger[i % 4 / 2] = fmaxf(larger[i % 4 / 2], scores.x[i]);
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                larger[h] = fmaxf(larger[h], shuffle_xor(larger[h], 1));
                larger[h] = fmaxf(larger[h], shuffle_xor(larger[h], 2));
                base[h] = larger[h] == -INFINITY ? 0.0f : larger[h] * unit;
                fade[h] = fast_exp2(most[h] * unit - base[h]);
                most[h] = larger[h];
            }
#pragma unroll
            for (int i = 0; i < kOther / 2; ++i) {
                const int h = i % 4 / 2;
                const float p = fast_exp2(fmaf(scores.x[i], unit, -base[h]));
                sum[h] += p;
                scores.x[i] = kFussy && p != 0
                                  ? p * kept_called(s, own[h].row, head, first_key + t * kOther + sums_column(i), own[h].spot.origin)
                                  : p;
            }
#pragma unroll
            for (int h = 0; h < 2; ++h) total[h] = total[h] * fade[h] + sum[h];
        },
        [&] {
#pragma unroll
            for (int i = 0; i < kD / 2; ++i) sums.x[i] *= fade[i % 4 / 2];
            weights.take(scores);
        },
        [&](int slot) { start_weighted(sums, weights, tile(slot, true)); }, [&] { settle(sums); });

    float by[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        total[h] += shuffle_xor(total[h], 1);
        total[h] += shuffle_xor(total[h], 2);
        by[h] = total[h] == 0 ? 0.0f : 1 / total[h];  // a NaN goes on as one
        if (threadIdx.x % 4 == 0 && own[h].row < s.q_rows)
            lse.put(own[h].row * s.heads + head, total[h] != 0         ? most[h] * unit * kLn2 + logf(total[h])
                                                 : s.first_tokens.data ? -INFINITY
                                                                       : 0.0f);
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
        constexpr bool kFussy = decltype(is_fussy)::value;
        const auto kernel = forward_kernel<kD, T, kFussy>;
        allow_shared(queue, kernel, kBytes<kD, kFussy>);
        launch(queue, dim3(blocks_for(s.q_rows, kOwn<kGroups<kD, kFussy>>), static_cast<unsigned>(s.heads)), kThreads<kGroups<kD, kFussy>>,
               kBytes<kD, kFussy>, kernel, s, part_of<T>(q, s.heads), part_of<T>(k, s.heads / s.group), part_of<T>(v, s.heads / s.group),
               part_of<T>(y, s.heads), span<float>(lse));
    });
}

}  // namespace

const char* forward_declines(const Request& r) {
    const Tensor* alike[] = {&r.in[1], &r.in[2], &r.out[0]};
    return declines(r.attr<Attention>(), r.in[0], alike, r, 3);
}
Result<Prepared> prepare_forward(const Request& r) { return Prepared{{queued<run>}, nullptr, bucket_bytes(r.attr<Attention>(), r.in[9])}; }

}  // namespace ds::cuda::mma
