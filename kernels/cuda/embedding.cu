// Rows of a table by id, and the table's gradient (+ into). An id outside the table is a row of zeros, and its gradient goes nowhere.
// The gradient adds up a row's tokens in their order, so its bits never change: tokens are put in order of their ids, and a warp adds up
// those of one id.
#include "kernels/cuda/device.cuh"
#include "ops/attrs.h"

namespace ds::cuda {
namespace {

constexpr int kThreads = 256;

// A row's blocks have as many threads as it has fours (or elements), within bounds.
unsigned threads_of(int64_t columns, bool fours) {
    return static_cast<unsigned>(std::clamp<int64_t>(round_up(fours ? columns / 4 : columns, kWarp), kWarp, kThreads));
}

__global__ void embedding_kernel(Rows table, Span<const int32_t> ids, Rows y, bool fours) {
    for (int64_t row = blockIdx.x; row < y.rows; row += gridDim.x) {
        const int64_t id = ids.get(row);
        const bool inside = id >= 0 && id < table.rows;
        if (fours)
            for (int64_t j = 4 * threadIdx.x; j < y.columns; j += 4 * blockDim.x)
                store4(y.memory, row * y.stride + j, inside ? load4(table.memory, id * table.stride + j) : Four{});
        else
            for (int64_t j = threadIdx.x; j < y.columns; j += blockDim.x) y.put(row, j, inside ? table.get(id, j) : 0.0f);
    }
}

__global__ void begin_kernel(Rows into, Rows y, bool fours) {
    for (int64_t row = blockIdx.x; row < y.rows; row += gridDim.x) {
        if (fours)
            for (int64_t j = 4 * threadIdx.x; j < y.columns; j += 4 * blockDim.x)
                store4(y.memory, row * y.stride + j, into.present() ? load4(into.memory, row * into.stride + j) : Four{});
        else
            for (int64_t j = threadIdx.x; j < y.columns; j += blockDim.x) y.put(row, j, into.present() ? into.get(row, j) : 0.0f);
    }
}

constexpr int kSlices = 16, kChunk = 8192;        // warps that share the comparing; ids that lie in shared memory at a time
constexpr uint32_t kNowhere = uint32_t{1} << 31;  // the key of tokens that give nothing: behind all ids

struct alignas(16) Keys {
    uint32_t x[4];
};

struct Order {
    Span<int32_t> tokens;
    Span<uint32_t> keys;
};

// How many keys of groups [begin, end) are below the limit; this warp's part of the groups.
DS_DEVICE int below(const Shared<Keys>& groups, int begin, int end, uint32_t limit) {
    int count = 0;
#pragma unroll 4
    for (int g = begin + static_cast<int>(threadIdx.x) / kWarp; g < end; g += kSlices) {
        const Keys keys = groups.get(g);
        for (int k = 0; k < 4; ++k) count += keys.x[k] < limit ? 1 : 0;
    }
    return count;
}

// A token's place among all, by id and, where ids are the same, by place: it is how many others come before it. A lane a token.
__global__ void __launch_bounds__(kSlices* kWarp) order_kernel(Span<const int32_t> ids, int64_t rows, int64_t padding, Order order) {
    DS_SHARED(Keys, groups, kChunk / 4);
    DS_SHARED(int, counts, kSlices* kWarp);
    const auto key_of = [&](int64_t token) {
        const int64_t id = token < ids.n ? ids.get(token) : -1;
        return id >= 0 && id < rows && id != padding ? static_cast<uint32_t>(id) : kNowhere;
    };
    const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
    const int64_t first = int64_t{blockIdx.x} * kWarp, token = first + lane;
    const uint32_t key = key_of(token);
    int count = 0;
    for (int64_t from = 0; from < ids.n; from += kChunk) {
        const int64_t left = ids.n - from;
        const int all = static_cast<int>(left < kChunk ? (left + 3) / 4 : kChunk / 4);
        for (int g = static_cast<int>(threadIdx.x); g < all; g += kSlices * kWarp) {
            Keys keys;
            for (int k = 0; k < 4; ++k) keys.x[k] = key_of(from + 4 * g + k);
            groups.put(g, keys);
        }
        barrier();
        // Before the block's own tokens the same id counts, behind them it doesn't; theirs are looked at one by one.
        const int64_t own = (first - from) / 4, behind = own + kWarp / 4;
        count += below(groups, 0, static_cast<int>(own < 0 ? 0 : own < all ? own : all), key + 1);
        count += below(groups, static_cast<int>(behind < 0 ? 0 : behind < all ? behind : all), all, key);
        if (warp == 0 && own >= 0 && own < all)
            for (int g = static_cast<int>(own); g < all && g < behind; ++g) {
                const Keys keys = groups.get(g);
                for (int k = 0; k < 4; ++k) count += keys.x[k] < key + (from + 4 * g + k < token ? 1 : 0) ? 1 : 0;
            }
        barrier();
    }
    counts.put(static_cast<int>(threadIdx.x), count);
    barrier();
    if (warp > 0 || token >= ids.n) return;
    int place = 0;
    for (int slice = 0; slice < kSlices; ++slice) place += counts.get(slice * kWarp + lane);
    order.tokens.put(place, static_cast<int32_t>(token));
    order.keys.put(place, key);
}

// kPack elements: four that lie well, or one.
template <int kPack, class T>
DS_DEVICE Four load(Span<T> s, int64_t i) {
    if constexpr (kPack == 4) return load4(s, i);
    else return {{to_f32(s.get(i))}};
}

// sum += the rows of the next tokens, `left` of them but at most kAhead (kAll: there are as many): all are loaded before any is added.
template <int kAhead, bool kAll, int kPack, class T>
DS_DEVICE void add_rows(const Rows& dy, int tokens, int next, int left, int64_t j, Four& sum) {
    Four rows[kAhead];
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
        const int64_t token = shuffle_from(tokens, next + k);
        if ((kAll || k < left) && j < dy.columns) rows[k] = load<kPack>(dy.memory.as<T>(), token * dy.stride + j);
    }
#pragma unroll
    for (int k = 0; k < kAhead; ++k)
        if ((kAll || k < left) && j < dy.columns)
            for (int i = 0; i < kPack; ++i) sum.x[i] += rows[k].x[i];
}

// A warp a place and a run of columns; it works where an id's tokens begin.
template <class T, int kPack>
__global__ void __launch_bounds__(128) gradient_kernel(Rows dy, Order order, Rows y) {
    constexpr int kSome = 4, kMany = 16;
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const int64_t place = int64_t{blockIdx.x} * (blockDim.x / kWarp) + threadIdx.x / kWarp, n = order.tokens.n;
    if (place >= n) return;
    const auto key_at = [&](int64_t i) { return i < n ? order.keys.get(i) : kNowhere; };
    const auto token_at = [&](int64_t i) { return i < n ? order.tokens.get(i) : 0; };
    const uint32_t first_keys = key_at(place + lane), before = place > 0 ? order.keys.get(place - 1) : kNowhere,
                   key = shuffle_from(first_keys, 0);
    const int32_t first_tokens = token_at(place + lane);
    if (key == kNowhere || key == before) return;
    const Span<float> out = y.memory.as<float>().from(int64_t{key} * y.stride);
    for (int64_t column = int64_t{blockIdx.y} * kWarp * kPack; column < y.columns; column += int64_t{gridDim.y} * kWarp * kPack) {
        const int64_t j = column + lane * kPack;
        Four sum{};
        if (j < y.columns) sum = load<kPack>(out, j);
        uint32_t keys = first_keys;
        int32_t tokens = first_tokens;
        int count = kWarp;
        for (int64_t from = place; count == kWarp; from += kWarp) {
            const int32_t these = tokens;
            count = sum_of_warp(keys == key ? 1 : 0);
            if (count == kWarp)
                keys = key_at(from + kWarp + lane), tokens = token_at(from + kWarp + lane);  // these come while rows are added
            int k = 0;
            for (; count - k >= kMany; k += kMany) add_rows<kMany, true, kPack, T>(dy, these, k, kMany, j, sum);
            for (; k < count; k += kSome) add_rows<kSome, false, kPack, T>(dy, these, k, count - k, j, sum);
        }
        if (j >= y.columns) continue;
        if constexpr (kPack == 4) store4(out, j, sum);
        else out.put(j, sum.x[0]);
    }
}

void forward(const Call& c, Queue& q) {
    const Tensor &table = c.in[0], &y = c.out[0];
    const bool fours = wide_rows(table) && wide_rows(y);
    if (y.count() > 0)
        launch(q, striding_blocks(y.rows(), 1), threads_of(y.columns(), fours), 0, embedding_kernel, rows_of(table),
               span<const int32_t>(c.in[1]), rows_of(y), fours);
}

template <class T>
void add_tokens(Queue& q, const Tensor& dy, const Order& order, const Tensor& y) {
    constexpr int kWarps = 4;
    const bool fours = wide_rows(dy) && wide_rows(y);
    const dim3 grid(blocks_for(order.tokens.n, kWarps), striding_blocks(y.columns(), fours ? 4 * kWarp : kWarp, 65535));
    launch(q, grid, kWarps * kWarp, 0, fours ? gradient_kernel<T, 4> : gradient_kernel<T, 1>, rows_of(dy), order, rows_of(y));
}

void backward(const Call& c, Queue& q) {
    const Tensor &dy = c.in[0], &ids = c.in[1], &into = c.in[2], &y = c.out[0];
    if (y.count() == 0) return;
    if (!into.present || into.data != y.data) {
        const bool fours = wide_rows(into) && wide_rows(y);
        launch(q, striding_blocks(y.rows(), 1), threads_of(y.columns(), fours), 0, begin_kernel, rows_of(into), rows_of(y), fours);
    }
    const int64_t n = ids.count();
    if (n == 0) return;
    const Order order{scratch<int32_t>(c, 0, n), scratch<uint32_t>(c, 4 * n, n)};
    launch(q, blocks_for(n, kWarp), kSlices * kWarp, 0, order_kernel, span<const int32_t>(ids), y.rows(), c.attr<ds::Rows>().padding,
           order);
    switch (dy.dtype) {
    case DType::f32: return add_tokens<float>(q, dy, order, y);
    case DType::bf16: return add_tokens<bf16>(q, dy, order, y);
    default: return add_tokens<f16>(q, dy, order, y);
    }
}

// i32 tables are indices: they move as they are, and f32 holds what any index is.
const char* declines(const Request& r) { return r.in[1].dtype != DType::i32 ? "ids are not i32" : accepts_floats(r); }
const char* declines_grad(const Request& r) {
    if (!is_number(r.in[0].dtype)) return "dy is neither f32, bf16 nor f16";
    return r.out[0].dtype != DType::f32 ? "the gradient is not f32" : declines(r);
}
Result<Prepared> prepare_grad(const Request& r) { return Prepared{{queued<backward>}, nullptr, 8 * r.in[1].count()}; }

constexpr KernelImpl kEmbedding[] = {{"cuda", declines, simple<queued<forward>>}},
                     kEmbeddingGrad[] = {{"cuda", declines_grad, prepare_grad}};

}  // namespace

extern const KernelList embedding{kEmbedding}, embedding_grad{kEmbeddingGrad};

}  // namespace ds::cuda
