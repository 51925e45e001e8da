// Gradient of attention on tensor cores: one kernel makes dq, a block walking over keys, one dk and dv, walking over queries; so no sum
// meets another in memory, and the bits are the same each time.
#include "kernels/cuda/attention_mma.cuh"

namespace ds::cuda::mma {
namespace {

// Three need more registers than there are for 128 columns: ptxas would make the products wait for each other.
template <int kD, bool kFussy>
inline constexpr int kQueryGroups = kFussy || kD == 128 ? 2 : 3;
constexpr int kKeyGroups = 2;
inline constexpr int kSlopeStride = kOther + 4;

// A block's shared memory: two tiles of its own side, pairs of the other's, bounds and votes, what is known of queries, and the slopes
// where a bias needs them.
template <int kD, class T, int kGroups>
struct Room {
    static constexpr int kOwnBytes = kTileBytes<kD, kOwn<kGroups>>, kOtherBytes = kTileBytes<kD, kOther>,
                         kTilesEnd = 2 * kOwnBytes + 2 * kRing * kOtherBytes;
    static constexpr int kQueries = kTilesEnd + 64 * 4, kEnd = kQueries + 2 * kRing * kOther * 4;
    static constexpr size_t bytes(bool bias) { return kEnd + (bias ? kOwn<kGroups> * kSlopeStride * 4 : 0); }

    DS_DEVICE static Shared<T> own(int which) { return dynamic_shared<T>(which * kOwnBytes, kOwn<kGroups> * kD); }
    DS_DEVICE static Shared<T> other(int slot, int which) {
        return dynamic_shared<T>(2 * kOwnBytes + (2 * slot + which) * kOtherBytes, kOther * kD);
    }
    DS_DEVICE static Shared<int> bounds() { return dynamic_shared<int>(kTilesEnd, 32); }
    DS_DEVICE static Shared<float> votes() { return dynamic_shared<float>(kTilesEnd + 32 * 4, 32); }
    DS_DEVICE static Shared<float> of_queries(int slot, int which) {
        return dynamic_shared<float>(kQueries + (2 * slot + which) * kOther * 4, kOther);
    }
    DS_DEVICE static Shared<float> slopes() { return dynamic_shared<float>(kEnd, kOwn<kGroups> * kSlopeStride); }
};

// By head and query: lse in powers of two, and delta_i = dy_i . y_i; eight lanes a row and head.
template <class T>
__global__ void delta_kernel(Part<T> dy, Part<T> y, Span<const float> lse, int64_t rows, int64_t heads, int size, Span<float> powers,
                             Span<float> delta) {
    const int64_t at = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / 8, row = at / heads, head = at % heads;
    float sum = 0;
    if (row < rows) {
        const int64_t of_dy = dy.at(row, head), of_y = y.at(row, head);
        for (int c = threadIdx.x % 8; c < size; c += 8) sum += to_f32(dy.memory.get(of_dy + c)) * to_f32(y.memory.get(of_y + c));
    }
    for (int d = 4; d > 0; d /= 2) sum += shuffle_xor(sum, d);
    if (row >= rows || threadIdx.x % 8 != 0) return;
    powers.put(head * rows + row, lse.get(at) == -INFINITY ? 0.0f : lse.get(at) * kLog2E);  // a row that sees nothing has no exponents
    delta.put(head * rows + row, sum);
}

// What both kernels get.
template <class T>
struct Given {
    Part<T> dy, q, k, v;
    Span<const float> powers, delta;  // [heads][queries]
};

template <int kD, class T, bool kFussy>
__global__ void __launch_bounds__(kThreads<kQueryGroups<kD, kFussy>>, 1)
    query_kernel(const __grid_constant__ Sight s, Given<T> g, Part<T> dq, BiasSums dbias) {
    constexpr int kAll = kThreads<kQueryGroups<kD, kFussy>>, kRows = kOwn<kQueryGroups<kD, kFussy>>;
    using Here = Room<kD, T, kQueryGroups<kD, kFussy>>;
    const int64_t tile_of_queries = gridDim.x - 1 - blockIdx.x, first_query = tile_of_queries * kRows, head = blockIdx.y,
                  kv_head = head / s.group;
    const int group = uniform(threadIdx.x / kGroupThreads);
    const Own own[2] = {own_query(s, own_row(first_query, 0)), own_query(s, own_row(first_query, 1))};
    if (kFussy && dbias.present()) dbias.clear(tile_of_queries, head);
    load_tile<kD, kRows, kAll>(Here::own(0), g.q, first_query, s.q_rows, head, s.size);
    load_tile<kD, kRows, kAll>(Here::own(1), g.dy, first_query, s.q_rows, head, s.size);
    const Range all = cover(own, Here::bounds());
    const int first_key = static_cast<int>(all.begin),
              tiles = all.begin < all.end ? static_cast<int>(all.end - all.begin + kOther - 1) / kOther : 0;
    float power[2] = {}, delta[2] = {};
    for (int h = 0; h < 2; ++h)
        if (own[h].row < s.q_rows)
            power[h] = g.powers.get(head * s.q_rows + own[h].row), delta[h] = g.delta.get(head * s.q_rows + own[h].row);
    const float unit = unit_of<kFussy>(s);
    Sums<kD> sums;
    Sums<kOther> scores, slopes;
    Operands<T, kOther> weights;
    sums.clear();
    walk_tiles<1>(
        tiles, [&](int t) { return is_seen<kFussy>(s, Here::votes(), own, head, first_key + t * kOther, OfQuery()); },
        [&](int t, int slot) {
            load_tile<kD, kOther, kAll>(Here::other(slot, 0), g.k, first_key + t * kOther, s.k_rows, kv_head, s.size);
            load_tile<kD, kOther, kAll>(Here::other(slot, 1), g.v, first_key + t * kOther, s.k_rows, kv_head, s.size);
        },
        [&](int slot) {
            start_rows<kRows, kD>(scores, Here::own(0), group, Here::other(slot, 0));
            start_rows<kRows, kD>(slopes, Here::own(1), group, Here::other(slot, 1));
        },
        [&](int t, int) {
            settle(scores);
            settle(slopes);
            mask<kFussy>(s, scores, own, head, first_key + t * kOther, OfQuery());
#pragma unroll
            for (int i = 0; i < kOther / 2; ++i) {
                const int h = i % 4 / 2;
                const float p = fast_exp2(fmaf(scores.x[i], unit, -power[h]));
                const float kept =
                    kFussy && p != 0 ? kept_called(s, own[h].row, head, first_key + t * kOther + sums_column(i), own[h].spot.origin) : 1.0f;
                slopes.x[i] = p * ((slopes.x[i] * kept - delta[h]) * s.scale);
            }
            if (!kFussy || !dbias.present()) return;
            const Shared<float> all_slopes = Here::slopes();
            for (int i = 0; i < kOther / 2; ++i)
                all_slopes.put((static_cast<int>(threadIdx.x) / kWarp * 16 + sums_row(i)) * kSlopeStride + sums_column(i), slopes.x[i]);
            barrier();
            dbias.add<kRows, kOther>(s, tile_of_queries, head, first_query, first_key + t * kOther,
                                     [&](int row, int column) { return all_slopes.get(row * kSlopeStride + column); });
            barrier();
        },
        [&] { weights.take(slopes); }, [&](int slot) { start_weighted(sums, weights, Here::other(slot, 0)); }, [&] { settle(sums); });
    const float one[2] = {1, 1};
    write_rows<kD>(sums, one, dq, first_query, s.q_rows, head, s.size);
}

template <int kD, class T, bool kFussy>
__global__ void __launch_bounds__(kThreads<kKeyGroups>, 1) key_kernel(const __grid_constant__ Sight s, Given<T> g, Part<T> dk, Part<T> dv) {
    constexpr int kAll = kThreads<kKeyGroups>, kRows = kOwn<kKeyGroups>;
    using Here = Room<kD, T, kKeyGroups>;
    const int64_t first_key = int64_t{blockIdx.x} * kRows, kv_head = blockIdx.y, first_head = kv_head * s.group;
    const int group = uniform(threadIdx.x / kGroupThreads);
    const Own own[2] = {own_key(s, own_row(first_key, 0)), own_key(s, own_row(first_key, 1))};
    load_tile<kD, kRows, kAll>(Here::own(0), g.k, first_key, s.k_rows, kv_head, s.size);
    load_tile<kD, kRows, kAll>(Here::own(1), g.v, first_key, s.k_rows, kv_head, s.size);
    const Range all = cover(own, Here::bounds());
    const int begin = static_cast<int>(all.begin),
              tiles = all.begin < all.end ? static_cast<int>(all.end - all.begin + kOther - 1) / kOther : 0;  // of each head
    const auto head_of = [&](int t) { return first_head + t / tiles; };
    const auto query_of = [&](int t) { return begin + t % tiles * kOther; };
    const float unit = unit_of<kFussy>(s);
    Sums<kD> dkey, dvalue;
    Sums<kOther> weights, slopes;
    Operands<T, kOther> of_values, of_keys;
    dkey.clear();
    dvalue.clear();
    walk_tiles<2>(
        tiles * static_cast<int>(s.group), [&](int t) { return is_seen<kFussy>(s, Here::votes(), own, head_of(t), query_of(t), OfKey()); },
        [&](int t, int slot) {
            const int64_t head = head_of(t), first_query = query_of(t);
            load_tile<kD, kOther, kAll>(Here::other(slot, 0), g.q, first_query, s.q_rows, head, s.size);
            load_tile<kD, kOther, kAll>(Here::other(slot, 1), g.dy, first_query, s.q_rows, head, s.size);
            const int row = threadIdx.x % kOther, which = threadIdx.x / kOther;
            if (which > 1) return;
            const Shared<float> to = Here::of_queries(slot, which);
            if (first_query + row < s.q_rows) copy_async(to, row, which == 0 ? g.powers : g.delta, head * s.q_rows + first_query + row);
            else to.put(row, 0.0f);
        },
        [&](int slot) {
            start_rows<kRows, kD>(weights, Here::own(0), group, Here::other(slot, 0));
            start_rows<kRows, kD>(slopes, Here::own(1), group, Here::other(slot, 1));
        },
        [&](int t, int slot) {
            settle(weights);
            settle(slopes);
            mask<kFussy>(s, weights, own, head_of(t), query_of(t), OfKey());
            const Shared<float> powers = Here::of_queries(slot, 0), delta = Here::of_queries(slot, 1);
#pragma unroll
            for (int i = 0; i < kOther / 2; ++i) {
                const Own& mine = own[i % 4 / 2];
                const int column = sums_column(i);
                const float p = fast_exp2(fmaf(weights.x[i], unit, -powers.get(column)));
                const float kept = kFussy && p != 0 ? kept_called(s, query_of(t) + column, head_of(t), mine.row, mine.spot.origin) : 1.0f;
                slopes.x[i] = p * ((slopes.x[i] * kept - delta.get(column)) * s.scale);
                weights.x[i] = p * kept;
            }
        },
        [&] {
            of_values.take(weights);
            of_keys.take(slopes);
        },
        [&](int slot) {
            start_weighted(dvalue, of_values, Here::other(slot, 1));
            start_weighted(dkey, of_keys, Here::other(slot, 0));
        },
        [&] {
            settle(dvalue);
            settle(dkey);
        });
    const float one[2] = {1, 1};
    write_rows<kD>(dkey, one, dk, first_key, s.k_rows, kv_head, s.size);
    write_rows<kD>(dvalue, one, dv, first_key, s.k_rows, kv_head, s.size);
}

GradRoom room_of(const Attention& a, const Tensor& q, const Tensor& bias) {
    return {a, q, bias, kOwn<kQueryGroups<128, true>>, kThreads<kQueryGroups<128, true>>, 2};
}  // a bias makes a call fussy

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
        const Given<T> given{part_of<T>(dy, s.heads), part_of<T>(q, s.heads), part_of<T>(k, kv_heads),
                             part_of<T>(v, kv_heads), {powers.data, numbers}, {delta.data, numbers}};
        using OfQueries = Room<kD, T, kQueryGroups<kD, kFussy>>;
        using OfKeys = Room<kD, T, kKeyGroups>;
        const size_t of_queries = OfQueries::bytes(bias.present), of_keys = OfKeys::bytes(false);
        allow_shared(queue, query_kernel<kD, T, kFussy>, of_queries);
        allow_shared(queue, key_kernel<kD, T, kFussy>, of_keys);
        if (s.q_rows > 0) {
            launch(queue, blocks_for(numbers * 8, 256), 256, 0, delta_kernel<T>, given.dy, part_of<T>(y, s.heads), span<const float>(lse),
                   s.q_rows, s.heads, s.size, powers, delta);
            launch(queue, dim3(blocks_for(s.q_rows, kOwn<kQueryGroups<kD, kFussy>>), static_cast<unsigned>(s.heads)),
                   kThreads<kQueryGroups<kD, kFussy>>, of_queries, query_kernel<kD, T, kFussy>, s, given, part_of<T>(c.out[0], s.heads),
                   space.sums(c, bias));
        }
        if (s.k_rows > 0)
            launch(queue, dim3(blocks_for(s.k_rows, kOwn<kKeyGroups>), static_cast<unsigned>(kv_heads)), kThreads<kKeyGroups>, of_keys,
                   key_kernel<kD, T, kFussy>, s, given, part_of<T>(c.out[1], kv_heads), part_of<T>(c.out[2], kv_heads));
    });
    space.finish(c, queue, bias, c.out[3]);
}

}  // namespace

const char* backward_declines(const Request& r) {
    const Tensor* alike[] = {&r.in[0], &r.in[2], &r.in[3], &r.in[4], &r.out[0], &r.out[1], &r.out[2]};
    return declines(r.attr<Attention>(), r.in[1], alike, r, 6);
}
Result<Prepared> prepare_backward(const Request& r) {
    return Prepared{{queued<run>}, nullptr, room_of(r.attr<Attention>(), r.in[1], r.in[12]).bytes};
}

}  // namespace ds::cuda::mma
