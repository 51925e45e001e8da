// What a rank does alone with its share of a dimension, which may lie in stripes (base/stripes.h): take it from the whole, put it into zeros, find where
// rows and ends of sequences of the whole are in it.
#include "base/stripes.h"
#include "kernels/cuda/walk.cuh"
#include "ops/attrs_parallel.h"

namespace ds::cuda {
namespace {

// A rank's elements [begin, begin + size) of every whole period, and of the rest behind the last.
struct Stripes {
    int64_t full, period, begin, size, rest_begin, rest_size, inner;  // inner: elements behind the dimension
    DS_DEVICE int64_t periods() const { return full / period; }
    DS_DEVICE int64_t held() const { return periods() * size + rest_size; }
    // How many of the first `index` are held.
    DS_DEVICE int64_t held_before(int64_t index) const {
        const int64_t gone = index / period < periods() ? index / period : periods();
        const int64_t from = gone < periods() ? begin : rest_begin, most = gone < periods() ? size : rest_size, in = index - gone * period - from;
        return gone * size + (in < 0 ? 0 : in < most ? in : most);
    }
    DS_DEVICE bool holds(int64_t index) const { return held_before(index + 1) > held_before(index); }
    // Where in the whole the held element `index` is.
    DS_DEVICE int64_t place(int64_t index) const {
        const int64_t gone = size > 0 && index < periods() * size ? index / size : periods();
        return gone * period + (gone < periods() ? begin : rest_begin) + index - gone * size;
    }
};

Stripes stripes(const Share& s, const Tensor& t) {
    const Cut cut{static_cast<int>(s.dim), s.period, s.units};
    const Interval part = cut.part(static_cast<int>(s.rank), static_cast<int>(s.ranks)), rest = rest_of(cut, s.full, static_cast<int>(s.rank), static_cast<int>(s.ranks));
    int64_t inner = 1;
    for (int i = static_cast<int>(s.dim) + 1; i < t.rank; ++i) inner *= t.dims[i];
    return {s.full, s.period, part.begin, part.size(), rest.begin, rest.size(), inner};
}

__global__ void take_kernel(Stripes s, Exact whole, Exact share, int64_t count) {
    const int64_t step = int64_t{gridDim.x} * blockDim.x;
    for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += step) {
        const int64_t line = i / s.inner, outer = line / s.held();
        share.put(i, whole.get((outer * s.full + s.place(line - outer * s.held())) * s.inner + i % s.inner));
    }
}

__global__ void pad_kernel(Stripes s, Exact share, Exact whole, int64_t count) {
    const int64_t step = int64_t{gridDim.x} * blockDim.x;
    for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += step) {
        const int64_t line = i / s.inner, outer = line / s.full, at = line - outer * s.full;
        whole.put(i, s.holds(at) ? share.get((outer * s.held() + s.held_before(at)) * s.inner + i % s.inner) : 0.0);
    }
}

__global__ void rows_kernel(Stripes s, Span<const int32_t> x, Span<int32_t> y) {
    const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
    if (i >= x.n) return;
    const int64_t row = x.get(i);
    y.put(i, row >= 0 && row < s.full && s.holds(row) ? static_cast<int32_t>(s.held_before(row)) : -1);
}

__global__ void segments_kernel(Stripes s, Span<const int32_t> x, Span<int32_t> y) {
    const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
    if (i >= x.n) return;
    const int64_t end = x.get(i);
    y.put(i, static_cast<int32_t>(s.held_before(end < 0 ? 0 : end < s.full ? end : s.full)));
}

__global__ void first_kernel(Span<const int32_t> tokens, Span<const int32_t> rows, Span<int32_t> y) {
    const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
    if (i >= y.n) return;
    const int64_t row = rows.get(i);
    y.put(i, tokens.get(row < 0 ? 0 : row < tokens.n ? row : tokens.n - 1));
}

// The share of labels that are ours.
__global__ void labels_kernel(Span<const int32_t> own, Span<const int32_t> all, int32_t ignore, Span<float> y) {
    DS_SHARED(int64_t, memory, 32);
    int64_t ours = 0, total = 0;
    for (int64_t i = threadIdx.x; i < own.n; i += blockDim.x) ours += own.get(i) != ignore;
    for (int64_t i = threadIdx.x; i < all.n; i += blockDim.x) total += all.get(i) != ignore;
    ours = sum_of_block(ours, memory);
    total = sum_of_block(total, memory);
    if (threadIdx.x == 0) y.put(0, total > 0 ? static_cast<float>(static_cast<double>(ours) / static_cast<double>(total)) : 0.0f);
}

Exact exact(const Tensor& t) { return {t.data, t.count(), t.dtype}; }

void take(const Call& c, Queue& q) {
    const Tensor &whole = c.in[0], &share = c.out[0];
    if (share.count() > 0) launch(q, blocks_for(share.count(), kThreads, 1 << 16), kThreads, 0, take_kernel, stripes(c.attr<Share>(), whole), exact(whole), exact(share), share.count());
}
void pad(const Call& c, Queue& q) {
    const Tensor &share = c.in[0], &whole = c.out[0];
    if (whole.count() > 0) launch(q, blocks_for(whole.count(), kThreads, 1 << 16), kThreads, 0, pad_kernel, stripes(c.attr<Share>(), whole), exact(share), exact(whole), whole.count());
}
template <auto kernel>
void find(const Call& c, Queue& q) {
    if (c.in[0].count() > 0) launch(q, blocks_for(c.in[0].count(), kThreads, INT32_MAX), kThreads, 0, kernel, stripes(c.attr<Share>(), c.in[0]), span<const int32_t>(c.in[0]), span<int32_t>(c.out[0]));
}
void find_first(const Call& c, Queue& q) {
    if (c.out[0].count() > 0) launch(q, blocks_for(c.out[0].count(), kThreads, INT32_MAX), kThreads, 0, first_kernel, span<const int32_t>(c.in[0]), span<const int32_t>(c.in[1]), span<int32_t>(c.out[0]));
}
void count_labels(const Call& c, Queue& q) {
    launch(q, 1, 1024, 0, labels_kernel, span<const int32_t>(c.in[0]), span<const int32_t>(c.in[1]), static_cast<int32_t>(c.attr<CrossEntropy>().ignore), span<float>(c.out[0]));
}

const char* declines(const Request& r) {
    for (const auto& list : {r.in, r.out})
        for (const Tensor& t : list)
            if (t.present && !t.dense()) return "rows lie apart";
    return has_float8(r);
}

template <void (*f)(const Call&, Queue&)>
constexpr KernelImpl alone() { return {"cuda", declines, simple<queued<f>>}; }

constexpr KernelImpl kTake[] = {alone<take>()}, kPad[] = {alone<pad>()}, kRows[] = {alone<find<rows_kernel>>()}, kSegments[] = {alone<find<segments_kernel>>()}, kFirst[] = {alone<find_first>()},
                     kLabels[] = {alone<count_labels>()};

}  // namespace

extern const KernelList take_share{kTake}, pad_share{kPad}, local_rows{kRows}, local_segments{kSegments}, first_tokens{kFirst}, label_share{kLabels};

}  // namespace ds::cuda
