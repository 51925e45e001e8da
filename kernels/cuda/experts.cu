// Mixture of experts around the products: the choice of experts, tokens sorted by expert (as kernels/experts.h has it), weighted sums back
// to tokens.
#include "kernels/cuda/device.cuh"
#include "ops/attrs.h"

namespace ds::cuda {
namespace {

constexpr int kThreads = 256;

// A warp a row. The i-th largest is the largest of those that come after the (i-1)-th: smaller, or equal and further right.
__global__ void top_k_kernel(Rows x, int64_t k, Rows y, Span<int32_t> ids, int64_t ids_stride) {
    const int64_t row = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / kWarp;
    const auto lane = static_cast<int>(threadIdx.x % kWarp), columns = static_cast<int>(x.columns);
    float before = INFINITY;
    int before_at = -1;
    for (int64_t i = 0; i < k; ++i) {
        float best = -INFINITY;
        int at = INT32_MAX;
        for (int j = lane; j < columns && row < x.rows; j += kWarp) {
            const float value = x.get(row, j);
            const bool follows = value < before || (value == before && j > before_at);
            if (follows && (value > best || at == INT32_MAX)) best = value, at = j;
        }
        for (int d = kWarp / 2; d > 0; d /= 2) {
            const float other = shuffle_xor(best, d);
            const int other_at = shuffle_xor(at, d);
            if (other_at != INT32_MAX && (at == INT32_MAX || other > best || (other == best && other_at < at))) best = other, at = other_at;
        }
        if (at == INT32_MAX) at = static_cast<int>(i);  // not numbers: any column that is one
        before = best, before_at = at;
        if (lane != 0 || row >= x.rows) continue;
        y.put(row, i, x.get(row, at));
        ids.put(row * ids_stride + i, at);
    }
}

__global__ void top_k_grad_kernel(Rows dy, Span<const int32_t> ids, int64_t ids_stride, Rows dx) {
    const int64_t step = int64_t{gridDim.x} * blockDim.x;
    for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < dx.rows * dx.columns; i += step) {
        const int64_t row = i / dx.columns, column = i % dx.columns;
        float g = 0;
        for (int64_t j = 0; j < dy.columns; ++j)
            if (ids.get(row * ids_stride + j) == column) g = dy.get(row, j);
        dx.put(row, column, g);
    }
}

// The choices of tokens, in their order; a block takes kThreads of them.
struct Choices {
    Span<const int32_t> ids;
    Span<const float> real;
    int64_t tokens, k, stride, experts;
    bool all_go;  // tokens that are not real take rows too, where no expert can be full
    DS_DEVICE int64_t count() const { return tokens * k; }
    DS_DEVICE bool is_real(int64_t choice) const { return !real.data || real.get(choice / k) != 0; }
    // Its expert; -1: it goes to none.
    DS_DEVICE int of(int64_t choice) const {
        if (choice >= count()) return -1;
        const int id = ids.get(choice / k * stride + choice % k);
        return id >= 0 && id < experts ? id : -1;
    }
};

// Of each block of choices: how many go to each expert, and how many of those are real.
__global__ void count_kernel(Choices c, Span<int32_t> going, Span<int32_t> real) {
    DS_SHARED(int, going_to, kThreads);
    DS_SHARED(int, real_to, kThreads);
    const int64_t first = int64_t{blockIdx.x} * kThreads, choice = first + threadIdx.x;
    const int expert = c.of(choice);
    const bool counts = expert >= 0 && c.is_real(choice);
    going_to.put(threadIdx.x, counts || c.all_go ? expert : -1);
    real_to.put(threadIdx.x, counts ? expert : -1);
    barrier();
    for (int64_t e = threadIdx.x; e < c.experts; e += kThreads) {
        int goes = 0, is_real = 0;
        for (int i = 0; i < kThreads; ++i) goes += going_to.get(i) == e, is_real += real_to.get(i) == e;
        going.put(blockIdx.x * c.experts + e, goes);
        real.put(blockIdx.x * c.experts + e, is_real);
    }
}

// One block. `going` becomes how many of an expert's choices lie in earlier blocks; `left` is how many rows it has.
__global__ void ends_kernel(Choices c, double capacity_factor, int64_t min_capacity, int64_t blocks, Span<int32_t> going,
                            Span<const int32_t> real, Span<int32_t> left, Span<int32_t> ends, Span<float> counts) {
    DS_SHARED(float, memory, 32);
    float tokens = 0;
    for (int64_t t = threadIdx.x; t < c.tokens; t += blockDim.x) tokens += c.is_real(t * c.k) ? 1.0f : 0.0f;
    const auto all = static_cast<int64_t>(sum_of_block(tokens, memory));
    int64_t capacity = INT32_MAX;
    if (capacity_factor > 0) {
        capacity = static_cast<int64_t>(ceil(capacity_factor * static_cast<double>(c.k * all) / static_cast<double>(c.experts)));
        if (capacity < min_capacity) capacity = min_capacity;
    }
    for (int64_t e = threadIdx.x; e < c.experts; e += blockDim.x) {
        int before = 0, reals = 0;
        for (int64_t b = 0; b < blocks; ++b) {
            const int own = going.get(b * c.experts + e);
            going.put(b * c.experts + e, before);
            before += own;
            reals += real.get(b * c.experts + e);
        }
        left.put(e, static_cast<int32_t>(before < capacity ? before : capacity));
        counts.put(e, static_cast<float>(reals));
    }
    barrier();
    if (threadIdx.x != 0) return;
    int at = 0;
    for (int64_t e = 0; e < c.experts; ++e) {
        ends.put(e, at);
        at += left.get(e);
    }
    ends.put(c.experts, at);
}

__global__ void place_kernel(Choices c, Span<const int32_t> going, Span<const int32_t> left, Span<const int32_t> ends, Span<int32_t> rows,
                             Span<int32_t> places) {
    DS_SHARED(int, going_to, kThreads);
    const int64_t choice = int64_t{blockIdx.x} * kThreads + threadIdx.x;
    const int chosen = c.of(choice), expert = chosen >= 0 && (c.all_go || c.is_real(choice)) ? chosen : -1;
    going_to.put(threadIdx.x, expert);
    barrier();
    if (choice >= c.count()) return;
    if (choice >= ends.get(c.experts)) rows.put(choice, -1);  // rows of no expert
    int place = -1;
    if (expert >= 0) {
        int before = going.get(blockIdx.x * c.experts + expert);
        for (unsigned i = 0; i < threadIdx.x; ++i) before += going_to.get(static_cast<int>(i)) == expert;
        if (before < left.get(expert)) place = ends.get(expert) + before;
    }
    places.put(choice, place);
    if (place >= 0) rows.put(place, static_cast<int32_t>(choice / c.k));
}

void sort_rows(const Call& call, Queue& q) {
    const Tensor &ids = call.in[0], &real = call.in[1];
    const Routing& r = call.attr<Routing>();
    const Choices c{span<const int32_t>(ids), span<const float>(real), ids.rows(), ids.columns(), ids.row_stride, r.experts,
                    r.capacity_factor == 0};
    const int64_t blocks = (ids.count() + kThreads - 1) / kThreads, table = blocks * r.experts;
    const Span<int32_t> going = scratch<int32_t>(call, 0, table), reals = scratch<int32_t>(call, 4 * table, table),
                        left = scratch<int32_t>(call, 8 * table, r.experts);
    const auto read = [](Span<int32_t> m) { return Span<const int32_t>{m.data, m.n}; };
    if (blocks > 0) launch(q, static_cast<unsigned>(blocks), kThreads, 0, count_kernel, c, going, reals);
    launch(q, 1, 1024, 0, ends_kernel, c, r.capacity_factor, r.min_capacity, blocks, going, read(reals), left, span<int32_t>(call.out[1]),
           span<float>(call.out[3]));
    if (blocks > 0)
        launch(q, static_cast<unsigned>(blocks), kThreads, 0, place_kernel, c, read(going), read(left), span<const int32_t>(call.out[1]),
               span<int32_t>(call.out[0]), span<int32_t>(call.out[2]));
}

Result<Prepared> prepare_sort(const Request& r) {
    const int64_t experts = r.attr<Routing>().experts;
    return Prepared{{queued<sort_rows>}, nullptr, 8 * ((r.in[0].count() + kThreads - 1) / kThreads) * experts + 4 * experts};
}

// A block a token.
__global__ void combine_kernel(Rows x, Rows weights, Span<const int32_t> places, int64_t k, Rows y) {
    for (int64_t t = blockIdx.x; t < y.rows; t += gridDim.x)
        for (int64_t j = threadIdx.x; j < y.columns; j += blockDim.x) {
            float sum = 0;
            for (int64_t i = 0; i < k; ++i) {
                const int64_t row = places.get(t * k + i);
                if (row >= 0) sum += weights.get(t, i) * x.get(row, j);
            }
            y.put(t, j, sum);
        }
}

__global__ void clear_kernel(Rows y) {
    const int64_t step = int64_t{gridDim.x} * blockDim.x;
    for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < y.rows * y.columns; i += step)
        y.put(i / y.columns, i % y.columns, 0.0f);
}

// A block a choice: its row, which no other choice has, and its weight.
__global__ void combine_grad_kernel(Rows dy, Rows x, Rows weights, Span<const int32_t> places, int64_t k, Rows dx, Rows dweights) {
    DS_SHARED(float, memory, 32);
    for (int64_t choice = blockIdx.x; choice < places.n; choice += gridDim.x) {
        const int64_t row = places.get(choice), token = choice / k;
        const float weight = weights.get(token, choice % k);
        float dot = 0;
        for (int64_t j = threadIdx.x; j < x.columns && row >= 0; j += blockDim.x) {
            const float g = dy.get(token, j);
            dot = fmaf(g, x.get(row, j), dot);
            dx.put(row, j, g * weight);
        }
        dot = sum_of_block(dot, memory);
        if (threadIdx.x == 0) dweights.put(token, choice % k, dot);
    }
}

void largest(const Call& c, Queue& q) {
    const Tensor &x = c.in[0], &ids = c.out[1];
    if (ids.count() > 0)
        launch(q, blocks_for(x.rows(), kThreads / kWarp), kThreads, 0, top_k_kernel, rows_of(x), ids.columns(), rows_of(c.out[0]),
               span<int32_t>(ids), ids.row_stride);
}
void largest_grad(const Call& c, Queue& q) {
    const Tensor &dx = c.out[0], &ids = c.in[1];
    if (dx.count() > 0)
        launch(q, striding_blocks(dx.count(), kThreads, 1 << 16), kThreads, 0, top_k_grad_kernel, rows_of(c.in[0]),
               span<const int32_t>(ids), ids.row_stride, rows_of(dx));
}
void add_weighted(const Call& c, Queue& q) {
    const Tensor &places = c.in[2], &y = c.out[0];
    if (y.count() > 0)
        launch(q, striding_blocks(y.rows(), 1), kThreads, 0, combine_kernel, rows_of(c.in[0]), rows_of(c.in[1]),
               span<const int32_t>(places), places.columns(), rows_of(y));
}
void add_weighted_grad(const Call& c, Queue& q) {
    const Tensor &places = c.in[3], &dx = c.out[0];
    if (dx.count() > 0) launch(q, striding_blocks(dx.count(), kThreads, 1 << 16), kThreads, 0, clear_kernel, rows_of(dx));
    if (places.count() > 0)
        launch(q, striding_blocks(places.count(), 1), kThreads, 0, combine_grad_kernel, rows_of(c.in[0]), rows_of(c.in[1]),
               rows_of(c.in[2]), span<const int32_t>(places), places.columns(), rows_of(dx), rows_of(c.out[1]));
}

const char* apart(const Tensor& ids) { return ids.dense() ? nullptr : "integers lie apart"; }
template <int kPlaces>
const char* declines_combine(const Request& r) {
    return apart(r.in[kPlaces]) ? apart(r.in[kPlaces]) : accepts_floats(r);
}

constexpr KernelImpl kTopK[] = {plain<largest>()}, kTopKGrad[] = {plain<largest_grad>()},
                     kExpertRows[] = {{"cuda", accepts_floats, prepare_sort}};
constexpr KernelImpl kCombine[] = {{"cuda", declines_combine<2>, simple<queued<add_weighted>>}},
                     kCombineGrad[] = {{"cuda", declines_combine<3>, simple<queued<add_weighted_grad>>}};

}  // namespace

extern const KernelList top_k{kTopK}, top_k_grad{kTopKGrad}, expert_rows{kExpertRows}, combine{kCombine}, combine_grad{kCombineGrad};

}  // namespace ds::cuda
