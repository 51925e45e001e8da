// What a rank does alone with its share of a dimension, which may lie in stripes (base/stripes.h): take it from the whole, put it into
// zeros, find where rows and ends of sequences of the whole are in it.
#include "kernels/cuda/share.cuh"
#include "ops/attrs_parallel.h"

namespace ds::cuda {
namespace {

__global__ void rows_kernel(ShareMap s, Span<const int32_t> x, Span<int32_t> y) {
    const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
    if (i >= x.n) return;
    const int64_t row = x.get(i);
    y.put(i, row >= 0 && row < s.full && s.holds(row) ? static_cast<int32_t>(s.held_before(row)) : -1);
}

__global__ void segments_kernel(ShareMap s, Span<const int32_t> x, Span<int32_t> y) {
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

ShareMap map_of(const Share& s, const Tensor& whole) { return share_map(whole, cut_of(s), s.full, s.rank, s.ranks); }

void take(const Call& c, Queue& q) { move_share(q, c.in[0], c.out[0].data, map_of(c.attr<Share>(), c.in[0]), true); }
void pad(const Call& c, Queue& q) {
    clear_bytes(q, c.out[0].data, bytes_of(c.out[0]));
    move_share(q, c.out[0], c.in[0].data, map_of(c.attr<Share>(), c.out[0]), false);
}
// Of indices into the dimension, which are no tensor that is cut.
ShareMap entries(const Share& s) { return entries_of(cut_of(s), s.full, s.rank, s.ranks); }
template <auto kernel>
void find(const Call& c, Queue& q) {
    if (c.in[0].count() > 0)
        launch(q, blocks_for(c.in[0].count(), kThreads), kThreads, 0, kernel, entries(c.attr<Share>()), span<const int32_t>(c.in[0]),
               span<int32_t>(c.out[0]));
}
void find_first(const Call& c, Queue& q) {
    if (c.out[0].count() > 0)
        launch(q, blocks_for(c.out[0].count(), kThreads), kThreads, 0, first_kernel, span<const int32_t>(c.in[0]),
               span<const int32_t>(c.in[1]), span<int32_t>(c.out[0]));
}
void count_labels(const Call& c, Queue& q) {
    launch(q, 1, 1024, 0, labels_kernel, span<const int32_t>(c.in[0]), span<const int32_t>(c.in[1]),
           static_cast<int32_t>(c.attr<CrossEntropy>().ignore), span<float>(c.out[0]));
}

const char* declines(const Request& r) {
    for (const auto& list : {r.in, r.out})
        for (const Tensor& t : list)
            if (t.present && !t.dense()) return "rows lie apart";
    return has_float8(r);
}

template <void (*f)(const Call&, Queue&)>
constexpr KernelImpl alone() {
    return {"cuda", declines, simple<queued<f>>};
}

constexpr KernelImpl kTake[] = {alone<take>()}, kPad[] = {alone<pad>()}, kRows[] = {alone<find<rows_kernel>>()},
                     kSegments[] = {alone<find<segments_kernel>>()}, kFirst[] = {alone<find_first>()}, kLabels[] = {alone<count_labels>()};

}  // namespace

extern const KernelList take_share{kTake}, pad_share{kPad}, local_rows{kRows}, local_segments{kSegments}, first_tokens{kFirst},
    label_share{kLabels};

}  // namespace ds::cuda
