// A layer of long short-term memory (ops/lstm.cpp has the formulas) and its gradient back through time. A block takes a group of
// neighbouring sequences through time together, so that a weight that was read serves all of them; the gradient of the weight is one
// product over all tokens at the end.
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/products.h"
#include "ops/attrs.h"

namespace ds::cuda {
namespace {

constexpr int kThreads = 256, kGroup = 8;  // sequences of a block

DS_DEVICE float logistic(float x) { return 1 / (1 + expf(-x)); }

// Where sequences lie.
struct Sequences {
    Span<const int32_t> segments;
    int64_t rows, length, count;
    bool reverse;
    DS_DEVICE int64_t clamped(int64_t i) const {
        const int64_t at = segments.get(i);
        return at < 0 ? 0 : at < rows ? at : rows;
    }
    DS_DEVICE int64_t first(int64_t s) const { return segments.data ? clamped(s) : s * length; }
    DS_DEVICE int64_t end(int64_t s) const { return first(s + 1); }
};

// The block's group: the row of each of its sequences at a time, -1 where it has ended.
struct Group {
    Shared<int64_t> firsts, lengths;
    bool reverse;
    DS_DEVICE int64_t row(int s, int64_t time) const {
        const int64_t length = lengths.get(s);
        return time < 0 || time >= length ? -1 : firsts.get(s) + (reverse ? length - 1 - time : time);
    }
    DS_DEVICE int64_t longest() const {
        int64_t most = 0;
        for (int s = 0; s < kGroup; ++s)
            if (lengths.get(s) > most) most = lengths.get(s);
        return most;
    }
};
DS_DEVICE void meet(const Sequences& all, const Group& g) {
    const int64_t s = int64_t{blockIdx.x} * kGroup + threadIdx.x;
    if (threadIdx.x < kGroup) {
        const int64_t first = s < all.count ? all.first(s) : 0, end = s < all.count ? all.end(s) : 0;
        g.firsts.put(static_cast<int>(threadIdx.x), first);
        g.lengths.put(static_cast<int>(threadIdx.x), end > first ? end - first : 0);
    }
    barrier();
}

// A warp makes a unit of all the group's sequences: its lanes share the sums over the states before, then each of the first lanes finishes
// one sequence.
__global__ void __launch_bounds__(kThreads) forward_kernel(Sequences all, Rows x, Rows weight, Rows y, Rows cells, Rows gates) {
    DS_SHARED(int64_t, firsts, kGroup);
    DS_SHARED(int64_t, lengths, kGroup);
    const Group group{firsts, lengths, all.reverse};
    meet(all, group);
    const int64_t h = y.columns, longest = group.longest();
    const auto lane = static_cast<int>(threadIdx.x % kWarp);
    for (int64_t time = 0; time < longest; ++time) {
        int64_t before[kGroup];
#pragma unroll
        for (int s = 0; s < kGroup; ++s) before[s] = group.row(s, time) < 0 ? -1 : group.row(s, time - 1);
        const int64_t row = lane < kGroup ? group.row(lane, time) : -1, row_before = lane < kGroup ? group.row(lane, time - 1) : -1;
        for (int64_t j = threadIdx.x / kWarp; j < h; j += kThreads / kWarp) {
            float sums[4][kGroup] = {};
            for (int64_t i = lane; i < h && time > 0; i += kWarp) {
                float w[4];
#pragma unroll
                for (int gate = 0; gate < 4; ++gate) w[gate] = weight.get(gate * h + j, i);
#pragma unroll
                for (int s = 0; s < kGroup; ++s) {
                    const float state = before[s] < 0 ? 0.0f : y.get(before[s], i);
#pragma unroll
                    for (int gate = 0; gate < 4; ++gate) sums[gate][s] = fmaf(w[gate], state, sums[gate][s]);
                }
            }
            float own[4] = {};
#pragma unroll
            for (int s = 0; s < kGroup; ++s)
#pragma unroll
                for (int gate = 0; gate < 4; ++gate) {
                    const float sum = sum_of_warp(sums[gate][s]);
                    if (lane == s) own[gate] = sum;
                }
            if (row < 0) continue;
            float g[4];
#pragma unroll
            for (int gate = 0; gate < 4; ++gate) {
                const float a = own[gate] + x.get(row, gate * h + j);
                g[gate] = gate == 2 ? tanhf(a) : logistic(a);
                gates.put(row, gate * h + j, g[gate]);
            }
            const float cell = g[0] * g[2] + (row_before < 0 ? 0.0f : g[1] * cells.get(row_before, j));
            cells.put(row, j, cell);
            y.put(row, j, g[3] * tanhf(cell));
        }
        barrier();
    }
}

// What the gradient keeps: of every row, the gradients of the gates' sums [4 h] and the state before it [h]; of every sequence, those of
// its state and its cell, which go from step to step.
struct Kept {
    Span<float> sums, before, state, cell;
};

__global__ void __launch_bounds__(kThreads)
    backward_kernel(Sequences all, Rows dy, Rows y, Rows cells, Rows gates, Rows weight, Rows dx, Kept kept) {
    DS_SHARED(int64_t, firsts, kGroup);
    DS_SHARED(int64_t, lengths, kGroup);
    const Group group{firsts, lengths, all.reverse};
    meet(all, group);
    const int64_t h = y.columns, first = int64_t{blockIdx.x} * kGroup;
    for (int64_t i = threadIdx.x; i < kGroup * h; i += kThreads)
        if (first + i / h < all.count) kept.state.put(first * h + i, 0.0f), kept.cell.put(first * h + i, 0.0f);
    barrier();
    for (int64_t time = group.longest() - 1; time >= 0; --time) {
        for (int64_t i = threadIdx.x; i < kGroup * h; i += kThreads) {
            const auto s = static_cast<int>(i / h);
            const int64_t j = i % h, row = group.row(s, time), before = group.row(s, time - 1);
            if (row < 0) continue;
            const float in = gates.get(row, j), forget = gates.get(row, h + j), made = gates.get(row, 2 * h + j),
                        out = gates.get(row, 3 * h + j);
            const float t = tanhf(cells.get(row, j)), d = dy.get(row, j) + kept.state.get(first * h + i),
                        dc = d * out * (1 - t * t) + kept.cell.get(first * h + i);
            const float a[4] = {dc * made * in * (1 - in), before < 0 ? 0.0f : dc * cells.get(before, j) * forget * (1 - forget),
                                dc * in * (1 - made * made), d * t * out * (1 - out)};
#pragma unroll
            for (int gate = 0; gate < 4; ++gate) {
                kept.sums.put(row * 4 * h + gate * h + j, a[gate]);
                dx.put(row, gate * h + j, a[gate]);
            }
            kept.cell.put(first * h + i, dc * forget);
            kept.before.put(row * h + j, before < 0 ? 0.0f : y.get(before, j));
        }
        barrier();
        int64_t rows[kGroup];
#pragma unroll
        for (int s = 0; s < kGroup; ++s) rows[s] = group.row(s, time);
        for (int64_t i = threadIdx.x; i < h && time > 0; i += kThreads) {
            float sums[kGroup] = {};
            for (int64_t j = 0; j < 4 * h; ++j) {
                const float w = weight.get(j, i);
#pragma unroll
                for (int s = 0; s < kGroup; ++s)
                    if (rows[s] >= 0) sums[s] = fmaf(w, kept.sums.get(rows[s] * 4 * h + j), sums[s]);
            }
#pragma unroll
            for (int s = 0; s < kGroup; ++s)
                if (rows[s] >= 0) kept.state.put((first + s) * h + i, sums[s]);
        }
        barrier();
    }
}

// Rows behind the last sequence.
__global__ void rest_kernel(Sequences all, Rows y) {
    const int64_t begin = all.first(all.count) * y.columns, step = int64_t{gridDim.x} * blockDim.x;
    for (int64_t i = begin + int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < y.rows * y.columns; i += step)
        y.put(i / y.columns, i % y.columns, 0.0f);
}
void clear_rest(Queue& q, const Sequences& all, std::initializer_list<Rows> list) {
    for (const Rows& y : list)
        if (all.segments.data && y.rows > 0)
            launch(q, striding_blocks(y.rows * y.columns, kThreads, 1 << 12), kThreads, 0, rest_kernel, all, y);
}

Sequences sequences(const Tensor& gates, const Tensor& segments, bool reverse) {
    const int64_t rows = gates.rows(), length = gates.rank == 3 ? gates.dims[1] : 1;
    return {span<const int32_t>(segments), rows, length, segments.present ? segments.count() - 1 : rows / std::max<int64_t>(length, 1),
            reverse};
}

void forward(const Call& c, Queue& q) {
    const Tensor &x = c.in[0], &y = c.out[0];
    if (y.count() == 0) return;
    const Sequences all = sequences(x, c.in[2], c.attr<Lstm>().reverse);
    launch(q, blocks_for(all.count, kGroup), kThreads, 0, forward_kernel, all, rows_of(x), rows_of(c.in[1]), rows_of(y), rows_of(c.out[1]),
           rows_of(c.out[2]));
    clear_rest(q, all, {rows_of(y), rows_of(c.out[1]), rows_of(c.out[2])});
}

struct State {
    int64_t rows = 0, h = 0, sequences = 0;
    std::shared_ptr<Products::Product> product;
    int64_t bytes() const { return 4 * (rows * 5 * h + sequences * 2 * h); }
    Kept kept(const Call& c) const {
        const int64_t sums = 0, before = sums + 16 * rows * h, state = before + 4 * rows * h, cell = state + 4 * sequences * h;
        return {scratch<float>(c, sums, 4 * rows * h), scratch<float>(c, before, rows * h), scratch<float>(c, state, sequences * h),
                scratch<float>(c, cell, sequences * h)};
    }
};

void backward(const Call& c, Queue& q) {
    const auto& s = *static_cast<const State*>(c.state);
    const Tensor &y = c.in[1], &gates = c.in[3], &dx = c.out[0], &dweight = c.out[1];
    if (!s.product) {  // no rows: no gradient either
        if (dweight.count() > 0)
            q.note(cudaMemsetAsync(dweight.data, 0, static_cast<size_t>(extent(dweight)) * 4, q.stream), "clearing memory");
        return;
    }
    const Sequences all = sequences(gates, c.in[5], c.attr<Lstm>().reverse);
    const Kept kept = s.kept(c);
    launch(q, blocks_for(all.count, kGroup), kThreads, 0, backward_kernel, all, rows_of(c.in[0]), rows_of(y), rows_of(c.in[2]),
           rows_of(gates), rows_of(c.in[4]), rows_of(dx), kept);
    const auto dense = [&](Span<float> m, int64_t columns) { return Rows{{m.data, m.n, DType::f32}, s.rows, columns, columns}; };
    clear_rest(q, all, {rows_of(dx), dense(kept.sums, 4 * s.h), dense(kept.before, s.h)});
    q.note(s.product->run(q, kept.sums.data, kept.before.data, 0, dweight.data, dweight.data, nullptr));
}

Result<Prepared> prepare_backward(const Request& r) {
    const Tensor &y = r.in[1], &gates = r.in[3], &dweight = r.out[1];
    auto s = std::make_shared<State>();
    s->rows = y.rows(), s->h = y.columns(), s->sequences = sequences(gates, r.in[5], false).count;
    if (s->rows > 0 && s->h > 0) {
        const Operand to{DType::f32, 4 * s->h, s->h, dweight.row_stride, 0};
        DS_TRY(s->product,
               static_cast<Queue*>(r.queue)->products->prepare(
                   {{DType::f32, s->rows, 4 * s->h, 4 * s->h, 0}, {DType::f32, s->rows, s->h, s->h, 0}, to, to, true, false, false, 1}));
    }
    const int64_t bytes = s->bytes();
    return Prepared{{queued<backward>}, std::move(s), bytes};
}

const char* declines_backward(const Request& r) {
    return r.out[1].dtype != DType::f32 ? "the weight's gradient is not f32" : accepts_floats(r);
}

constexpr KernelImpl kLstm[] = {{"groups", accepts_floats, simple<queued<forward>>}},
                     kLstmGrad[] = {{"groups", declines_backward, prepare_backward}};

}  // namespace

extern const KernelList lstm{kLstm}, lstm_grad{kLstmGrad};

}  // namespace ds::cuda
