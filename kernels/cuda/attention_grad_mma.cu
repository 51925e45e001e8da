// Gradient of attention on tensor cores: one kernel makes dq, a block walking over keys, one dk and dv, walking over queries; so no sum meets another
// in memory, and the bits are the same each time.
#include "kernels/cuda/attention_mma.cuh"

namespace ds::cuda::mma {
namespace {

constexpr int kOther = 64;  // rows of a tile of the other side
template <int kD> inline constexpr int kOwnBytes = kTileBytes<kD, kOwn>;
template <int kD> inline constexpr int kOtherBytes = kTileBytes<kD, kOther>;
template <int kD> inline constexpr int kTilesEnd = 2 * kOwnBytes<kD> + 4 * kOtherBytes<kD>;
inline constexpr int kNumbers = 64 + 4 * kOther;  // bounds, votes; what is known of queries, twice
inline constexpr int kSlopeStride = kOther + 4;
template <int kD> inline constexpr size_t kBytes = kTilesEnd<kD> + kNumbers * 4;
template <int kD> inline constexpr size_t kBiasBytes = kBytes<kD> + kOwn * kSlopeStride * 4;

// By head and query: lse in powers of two, and delta_i = dy_i . y_i; eight lanes a row and head.
template <class T>
__global__ void delta_kernel(Part<T> dy, Part<T> y, Span<const float> lse, int64_t rows, int64_t heads, int size, Span<float> powers, Span<float> delta) {
    const int64_t at = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / 8, row = at / heads, head = at % heads;
    float sum = 0;
    if (row < rows) {
        const int64_t of_dy = dy.at(row, head), of_y = y.at(row, head);
        for (int c = threadIdx.x % 8; c < size; c += 8) sum += to_f32(dy.memory.get(of_dy + c)) * to_f32(y.memory.get(of_y + c));
    }
    for (int d = 4; d > 0; d /= 2) sum += shuffle_xor(sum, d);
    if (row >= rows || threadIdx.x % 8 != 0) return;
    powers.put(head * rows + row, lse.get(at) * kLog2E);
    delta.put(head * rows + row, sum);
}

// What both kernels get.
template <class T>
struct Given {
    Part<T> dy, q, k, v;
    Span<const float> powers, delta;  // [heads][queries]
};

template <int kD, class T>
struct Room {
    DS_DEVICE static Shared<T> own(int which) { return dynamic_shared<T>(which * kOwnBytes<kD>, kOwn * kD); }
    DS_DEVICE static Shared<T> other(int buffer, int which) { return dynamic_shared<T>(2 * kOwnBytes<kD> + (2 * buffer + which) * kOtherBytes<kD>, kOther * kD); }
    DS_DEVICE static Shared<int> bounds() { return dynamic_shared<int>(kTilesEnd<kD>, 32); }
    DS_DEVICE static Shared<float> votes() { return dynamic_shared<float>(kTilesEnd<kD> + 32 * 4, 32); }
    DS_DEVICE static Shared<float> of_queries(int buffer, int which) { return dynamic_shared<float>(kTilesEnd<kD> + (64 + (2 * buffer + which) * kOther) * 4, kOther); }
    DS_DEVICE static Shared<float> slopes() { return dynamic_shared<float>(static_cast<int64_t>(kBytes<kD>), kOwn * kSlopeStride); }
};

// A score's probability, before dropout; zero where the key is not seen.
template <bool kFussy>
DS_DEVICE float probability(const Sight& s, float score, float power, bool seen, int64_t query, int64_t head, int64_t key) {
    const float exponent = kFussy && seen ? fmaf(score, s.scale, bias_of(s, query, head, key)) * kLog2E - power : fmaf(score, s.scale * kLog2E, -power);
    return seen ? fast_exp2(exponent) : 0.0f;
}
template <bool kFussy>
DS_DEVICE bool sees_within(const Sight& s, const Own& mine, int other, int64_t query, int64_t head, int64_t key) {
    return other >= mine.begin && other < mine.end && (!kFussy || sees(s, query, head, key, mine.spot));
}

template <int kD, class T, bool kFussy>
__global__ void __launch_bounds__(kThreads, kD == 64 && !kFussy ? 2 : 1) query_kernel(Sight s, Given<T> g, Part<T> dq, BiasSums dbias) {
    using Here = Room<kD, T>;
    const int64_t first_query = int64_t{gridDim.x - 1 - blockIdx.x} * kOwn, head = blockIdx.y, kv_head = head / s.group;
    const int group = threadIdx.x / kGroupThreads;
    const Draws draws{s.draws.get(0), s.draws.get(1)};
    const Own own[2] = {own_query(s, own_row(first_query, 0)), own_query(s, own_row(first_query, 1))};
    if (kFussy && dbias.present()) dbias.clear(first_query / kOwn, head);
    load_tile<kD, kOwn>(Here::own(0), g.q, first_query, s.q_rows, head, s.size);
    load_tile<kD, kOwn>(Here::own(1), g.dy, first_query, s.q_rows, head, s.size);
    const Range all = cover(own, Here::bounds());
    const auto load = [&](int64_t first_key, int buffer) {
        load_tile<kD, kOther>(Here::other(buffer, 0), g.k, first_key, s.k_rows, kv_head, s.size);
        load_tile<kD, kOther>(Here::other(buffer, 1), g.v, first_key, s.k_rows, kv_head, s.size);
    };
    if (all.begin < all.end) load(all.begin, 0);
    float power[2] = {}, delta[2] = {};
    for (int h = 0; h < 2; ++h)
        if (own[h].row < s.q_rows) power[h] = g.powers.get(head * s.q_rows + own[h].row), delta[h] = g.delta.get(head * s.q_rows + own[h].row);
    Sums<kD> sums;
    sums.clear();
    int buffer = 0;
    for (int64_t first_key = all.begin; first_key < all.end; first_key += kOther, buffer ^= 1) {
        finish_tiles();
        barrier();
        if (first_key + kOther < all.end) load(first_key + kOther, buffer ^ 1);
        const auto seen = [&](int i) {
            const Own& mine = own[i % 4 / 2];
            const int j = static_cast<int>(first_key) + sums_column(i);
            return sees_within<kFussy>(s, mine, j, mine.row, head, j);
        };
        if (kFussy && unseen(s, Here::votes(), kOther / 2, seen)) continue;
        Sums<kOther> scores, slopes;
        multiply_rows<kOwn, kD>(scores, Here::own(0), group, Here::other(buffer, 0));
        multiply_rows<kOwn, kD>(slopes, Here::own(1), group, Here::other(buffer, 1));
#pragma unroll
        for (int i = 0; i < kOther / 2; ++i) {
            const int h = i % 4 / 2;
            const int64_t j = first_key + sums_column(i);
            const float p = probability<kFussy>(s, scores.x[i], power[h], seen(i), own[h].row, head, j);
            const float kept = kFussy && p != 0 ? kept_of(s, draws, own[h].row, head, j, own[h].spot) : 1.0f;
            slopes.x[i] = p == 0 ? 0.0f : p * (slopes.x[i] * kept - delta[h]) * s.scale;
        }
        add_weighted(sums, slopes, Here::other(buffer, 0));
        if (!kFussy || !dbias.present()) continue;
        const Shared<float> all_slopes = Here::slopes();
        for (int i = 0; i < kOther / 2; ++i) all_slopes.put((static_cast<int>(threadIdx.x) / kWarp * 16 + sums_row(i)) * kSlopeStride + sums_column(i), slopes.x[i]);
        barrier();
        dbias.add<kOwn, kOther>(s, first_query / kOwn, head, first_query, first_key, [&](int row, int column) { return all_slopes.get(row * kSlopeStride + column); });
        barrier();
    }
    const float one[2] = {1, 1};
    write_rows<kD>(sums, one, dq, first_query, s.q_rows, head, s.size);
}

template <int kD, class T, bool kFussy>
__global__ void __launch_bounds__(kThreads, 1) key_kernel(Sight s, Given<T> g, Part<T> dk, Part<T> dv) {
    using Here = Room<kD, T>;
    const int64_t first_key = int64_t{blockIdx.x} * kOwn, kv_head = blockIdx.y;
    const int group = threadIdx.x / kGroupThreads;
    const Draws draws{s.draws.get(0), s.draws.get(1)};
    const Own own[2] = {own_key(s, own_row(first_key, 0)), own_key(s, own_row(first_key, 1))};
    load_tile<kD, kOwn>(Here::own(0), g.k, first_key, s.k_rows, kv_head, s.size);
    load_tile<kD, kOwn>(Here::own(1), g.v, first_key, s.k_rows, kv_head, s.size);
    const Range all = cover(own, Here::bounds());
    const auto load = [&](int64_t first_query, int64_t head, int buffer) {
        load_tile<kD, kOther>(Here::other(buffer, 0), g.q, first_query, s.q_rows, head, s.size);
        load_tile<kD, kOther>(Here::other(buffer, 1), g.dy, first_query, s.q_rows, head, s.size);
        const int row = threadIdx.x % kOther, which = threadIdx.x / kOther;
        if (which > 1) return;
        const Shared<float> to = Here::of_queries(buffer, which);
        if (first_query + row < s.q_rows) copy_async(to, row, which == 0 ? g.powers : g.delta, head * s.q_rows + first_query + row);
        else to.put(row, 0.0f);
    };
    const int tiles = all.begin < all.end ? static_cast<int>((all.end - all.begin + kOther - 1) / kOther) : 0, runs = tiles * static_cast<int>(s.group);
    if (runs > 0) load(all.begin, kv_head * s.group, 0);
    Sums<kD> dkey, dvalue;
    dkey.clear();
    dvalue.clear();
    int64_t head = kv_head * s.group, first_query = all.begin;
    for (int run = 0, buffer = 0; run < runs; ++run, buffer ^= 1) {
        const int64_t this_head = head, this_query = first_query;
        first_query += kOther;
        if (first_query >= all.end) first_query = all.begin, ++head;
        finish_tiles();
        barrier();
        if (run + 1 < runs) load(first_query, head, buffer ^ 1);
        const auto seen = [&](int n) {
            const Own& mine = own[n % 4 / 2];
            const int i = static_cast<int>(this_query) + sums_column(n);
            return sees_within<kFussy>(s, mine, i, i, this_head, mine.row);
        };
        if (kFussy && unseen(s, Here::votes(), kOther / 2, seen)) continue;
        Sums<kOther> weights, slopes;
        multiply_rows<kOwn, kD>(weights, Here::own(0), group, Here::other(buffer, 0));
        multiply_rows<kOwn, kD>(slopes, Here::own(1), group, Here::other(buffer, 1));
        const Shared<float> powers = Here::of_queries(buffer, 0), delta = Here::of_queries(buffer, 1);
#pragma unroll
        for (int n = 0; n < kOther / 2; ++n) {
            const Own& mine = own[n % 4 / 2];
            const int column = sums_column(n);
            const int64_t i = this_query + column;
            const float p = probability<kFussy>(s, weights.x[n], powers.get(column), seen(n), i, this_head, mine.row);
            const float kept = kFussy && p != 0 ? kept_of(s, draws, i, this_head, mine.row, mine.spot) : 1.0f;
            slopes.x[n] = p == 0 ? 0.0f : p * (slopes.x[n] * kept - delta.get(column)) * s.scale;
            weights.x[n] = p * kept;
        }
        add_weighted(dvalue, weights, Here::other(buffer, 1));
        add_weighted(dkey, slopes, Here::other(buffer, 0));
    }
    const float one[2] = {1, 1};
    write_rows<kD>(dkey, one, dk, first_key, s.k_rows, kv_head, s.size);
    write_rows<kD>(dvalue, one, dv, first_key, s.k_rows, kv_head, s.size);
}

GradRoom room_of(const Attention& a, const Tensor& q, const Tensor& bias) { return {a, q, bias, kOwn, kThreads, 2}; }

void run(const Call& c, Queue& queue) {
    const Tensor &dy = c.in[0], &q = c.in[1], &k = c.in[2], &v = c.in[3], &y = c.in[4], &lse = c.in[5], &bias = c.in[12];
    const GradRoom space = room_of(c.attr<Attention>(), q, bias);
    const Sight s = sight_of(c.attr<Attention>(), q, k, c.in + 6, queue, c.scratch + space.buckets);
    const int64_t kv_heads = s.heads / s.group, numbers = s.q_rows * s.heads;
    const Span<float> powers = scratch<float>(c, space.delta, numbers), delta = scratch<float>(c, space.delta + numbers * 4, numbers);
    with_kind(q.dtype, s, [&](auto element, auto width, auto is_fussy) {
        using T = decltype(element);
        constexpr int kD = decltype(width)::value;
        constexpr bool kFussy = decltype(is_fussy)::value;
        const Given<T> given{part_of<T>(dy, s.heads), part_of<T>(q, s.heads), part_of<T>(k, kv_heads), part_of<T>(v, kv_heads), {powers.data, numbers}, {delta.data, numbers}};
        const size_t of_queries = bias.present ? kBiasBytes<kD> : kBytes<kD>;
        allow_shared(queue, query_kernel<kD, T, kFussy>, of_queries);
        allow_shared(queue, key_kernel<kD, T, kFussy>, kBytes<kD>);
        if (s.q_rows > 0) {
            launch(queue, blocks_for(numbers * 8, 256, INT32_MAX), 256, 0, delta_kernel<T>, given.dy, part_of<T>(y, s.heads), span<const float>(lse), s.q_rows, s.heads, s.size, powers, delta);
            launch(queue, dim3(blocks_for(s.q_rows, kOwn), static_cast<unsigned>(s.heads)), kThreads, of_queries, query_kernel<kD, T, kFussy>, s, given, part_of<T>(c.out[0], s.heads), space.sums(c, bias));
        }
        if (s.k_rows > 0)
            launch(queue, dim3(blocks_for(s.k_rows, kOwn), static_cast<unsigned>(kv_heads)), kThreads, kBytes<kD>, key_kernel<kD, T, kFussy>, s, given, part_of<T>(c.out[1], kv_heads),
                   part_of<T>(c.out[2], kv_heads));
    });
    space.finish(c, queue, bias, c.out[3]);
}

}  // namespace

const char* backward_declines(const Request& r) {
    const Tensor* alike[] = {&r.in[0], &r.in[2], &r.in[3], &r.in[4], &r.out[0], &r.out[1], &r.out[2]};
    return declines(r.attr<Attention>(), r.in[1], alike, r, 6);
}
Result<Prepared> prepare_backward(const Request& r) { return Prepared{{queued<run>}, nullptr, room_of(r.attr<Attention>(), r.in[1], r.in[12]).bytes}; }

}  // namespace ds::cuda::mma
