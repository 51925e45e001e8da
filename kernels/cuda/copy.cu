// Ops that only move elements: copy, transpose, slice, split, concat, broadcast, fill, iota, inverse_rows. Elements move as they are; where
// types differ they are converted.
#include "kernels/cuda/walk.cuh"
#include "ops/attrs.h"

namespace ds::cuda {
namespace {

template <class T>
__global__ void move_kernel(Walk w, Span<T> y, Span<const T> x) {
    const int64_t step = int64_t{gridDim.x} * blockDim.x;
    for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < w.count; i += step) {
        const Offsets o = offsets(w, i);
        y.put(o.at[0], x.get(o.at[1]));
    }
}

template <class T>
void move(Queue& q, const Walk& w, const Tensor& y, const Tensor& x) {
    launch(q, blocks_of(w), kThreads, 0, move_kernel<T>, w, Span<T>{y.as<T>(), extent(y)}, Span<const T>{x.as<const T>(), extent(x)});
}

// w: operand 0 is y, operand 1 is x.
void run(Queue& q, const Walk& w, const Tensor& y, const Tensor& x) {
    if (w.count == 0) return;
    if (y.dtype != x.dtype) return convert(q, w, y, x);
    switch (size_of(y.dtype)) {
    case 1: return move<uint8_t>(q, w, y, x);
    case 2: return move<uint16_t>(q, w, y, x);
    case 4: return move<uint32_t>(q, w, y, x);
    default: return move<uint64_t>(q, w, y, x);
    }
}

// Elements y[i] = x[offset + sum of i_k * strides_k], both counted in memory.
Walk gather(const Tensor& y, int64_t offset, const int64_t* strides) {
    Walk w;
    w.rank = y.rank;
    memory_strides(y, w.strides[0]);
    for (int i = 0; i < y.rank; ++i) w.dims[i] = y.dims[i], w.strides[1][i] = strides[i];
    w.offset[1] = offset;
    return merged(w);
}

int axis_of(int64_t axis, const Tensor& t) { return static_cast<int>(axis < 0 ? axis + t.rank : axis); }

void copy_all(const Call& c, Queue& q) { run(q, walk(c.out[0], {&c.in[0]}), c.out[0], c.in[0]); }

// Reshaped copies: the same elements in row-major order, where rows lie apart on either side and have different lengths.
bool same_shape(const Tensor& a, const Tensor& b) { return a.rank == b.rank && std::equal(a.dims, a.dims + a.rank, b.dims); }

__global__ void relayout_kernel(Exact y, Exact x, int64_t count, int64_t y_columns, int64_t y_stride, int64_t x_columns, int64_t x_stride) {
    const int64_t step = int64_t{gridDim.x} * blockDim.x;
    for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += step)
        y.put(i / y_columns * y_stride + i % y_columns, x.get(i / x_columns * x_stride + i % x_columns));
}

void copy_any(const Call& c, Queue& q) {
    const Tensor &x = c.in[0], &y = c.out[0];
    if (same_shape(x, y)) return copy_all(c, q);
    if (x.dense() && y.dense()) {
        Tensor from = x, to = y;
        for (Tensor* t : {&from, &to}) t->dims[0] = t->row_stride = y.count(), t->rank = 1;
        return run(q, walk(to, {&from}), to, from);
    }
    if (y.count() > 0)
        launch(q, striding_blocks(y.count(), kThreads, 1 << 16), kThreads, 0, relayout_kernel, Exact{y.data, extent(y), y.dtype},
               Exact{x.data, extent(x), x.dtype}, y.count(), y.columns(), y.row_stride, x.columns(), x.row_stride);
}

void permute(const Call& c, Queue& q) {
    const Tensor &x = c.in[0], &y = c.out[0];
    const auto& perm = c.attr<Permute>().perm;
    int64_t strides[kMaxRank], permuted[kMaxRank];
    memory_strides(x, strides);
    for (int i = 0; i < y.rank; ++i) permuted[i] = strides[perm.empty() ? y.rank - 1 - i : axis_of(perm[static_cast<size_t>(i)], x)];
    run(q, gather(y, 0, permuted), y, x);
}

void cut(const Call& c, Queue& q) {
    const Tensor& x = c.in[0];
    const Slice& a = c.attr<Slice>();
    const int axis = axis_of(a.axis, x);
    const int64_t n = x.dims[axis];
    int64_t strides[kMaxRank];
    memory_strides(x, strides);
    run(q, gather(c.out[0], std::clamp<int64_t>(a.begin < 0 ? a.begin + n : a.begin, 0, n) * strides[axis], strides), c.out[0], x);
}

void divide(const Call& c, Queue& q) {
    const Tensor& x = c.in[0];
    const Split& a = c.attr<Split>();
    const int axis = axis_of(a.axis, x);
    int64_t strides[kMaxRank], begin = 0;
    memory_strides(x, strides);
    for (size_t i = 0; i < a.sizes.size(); ++i) {
        run(q, gather(c.out[i], begin * strides[axis], strides), c.out[i], x);
        begin += a.sizes[i];
    }
}

// Inputs follow each other until the axis is full.
void join(const Call& c, Queue& q) {
    const Tensor& y = c.out[0];
    const int axis = axis_of(c.attr<Axis>().axis, y);
    int64_t strides[kMaxRank], begin = 0;
    memory_strides(y, strides);
    for (int input = 0; input < *static_cast<const int*>(c.state); ++input) {
        const Tensor& x = c.in[input];
        Walk w;
        w.rank = x.rank;
        memory_strides(x, w.strides[1]);
        for (int i = 0; i < x.rank; ++i) w.dims[i] = x.dims[i], w.strides[0][i] = strides[i];
        w.offset[0] = begin * strides[axis];
        run(q, merged(w), y, x);
        begin += x.dims[axis];
    }
}
Result<Prepared> prepare_join(const Request& request) {
    return Prepared{{queued<join>}, std::make_shared<int>(static_cast<int>(request.in.size())), 0};
}

__global__ void fill_kernel(Exact y, int64_t count, int64_t columns, int64_t stride, double value, bool index) {
    const int64_t step = int64_t{gridDim.x} * blockDim.x;
    for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += step)
        y.put(i / columns * stride + i % columns, index ? static_cast<double>(i % columns) : value);
}
void fill_with(const Tensor& y, Queue& q, double value, bool index) {
    if (y.count() > 0)
        launch(q, striding_blocks(y.count(), kThreads, 1 << 16), kThreads, 0, fill_kernel, Exact{y.data, extent(y), y.dtype}, y.count(),
               y.columns(), y.row_stride, value, index);
}
void fill_all(const Call& c, Queue& q) { fill_with(c.out[0], q, c.attr<Fill>().value, false); }
void count_up(const Call& c, Queue& q) { fill_with(c.out[0], q, 0, true); }

__global__ void inverse_kernel(Span<int32_t> y, Span<const int32_t> ids) {
    DS_SHARED(float, places, 32);
    const auto row = static_cast<int32_t>(blockIdx.x);
    int64_t first = ids.n;
    for (int64_t i = threadIdx.x; i < ids.n && first == ids.n; i += blockDim.x)
        if (ids.get(i) == row) first = i;
    first = -static_cast<int64_t>(max_of_block(-static_cast<float>(first), places));
    if (threadIdx.x == 0) y.put(row, first < ids.n ? static_cast<int32_t>(first) : -1);
}
void inverse(const Call& c, Queue& q) {
    if (c.out[0].count() > 0)
        launch(q, static_cast<unsigned>(c.out[0].count()), 128, 0, inverse_kernel, span<int32_t>(c.out[0]), span<const int32_t>(c.in[0]));
}
const char* exact_places(const Request& r) { return r.in[0].count() >= (1 << 24) ? "more than 2^24 ids" : nullptr; }

const char* movable(const Request& r) {
    for (const Tensor& x : r.in)
        for (const Tensor& y : r.out)
            if (x.present && y.present && x.dtype != y.dtype) return has_float8(r);
    return nullptr;
}

template <void (*f)(const Call&, Queue&)>
constexpr KernelImpl moves() {
    return {"cuda", movable, simple<queued<f>>};
}

constexpr KernelImpl kCopy[] = {moves<copy_any>()}, kTranspose[] = {moves<permute>()}, kSlice[] = {moves<cut>()},
                     kSplit[] = {moves<divide>()}, kBroadcast[] = {moves<copy_all>()};
constexpr KernelImpl kConcat[] = {{"cuda", movable, prepare_join}};
constexpr KernelImpl kFill[] = {{"cuda", has_float8, simple<queued<fill_all>>}}, kIota[] = {{"cuda", has_float8, simple<queued<count_up>>}},
                     kInverse[] = {{"cuda", exact_places, simple<queued<inverse>>}};

}  // namespace

extern const KernelList copy{kCopy}, transpose{kTranspose}, slice{kSlice}, split{kSplit}, concat{kConcat}, broadcast{kBroadcast},
    fill{kFill}, iota{kIota}, inverse_rows{kInverse};

}  // namespace ds::cuda
