// What ranks with pieces of one stream, or of a vocabulary, exchange, and how parts of attention and of the loss are put together; as
// kernels/ref/sequence.cpp and vocabulary.cpp.
#include "kernels/cuda/share.cuh"
#include "ops/attrs_parallel.h"

namespace ds::cuda {
namespace {

// One side of a recut: each rank's share of a tensor that is whole along the dimension that is cut elsewhere.
struct Side {
    const Tensor& whole;
    Cut cut;
    int64_t full, ranks;

    std::vector<Block> blocks(std::byte* base) const { return blocks_of(base, whole, cut, full, ranks); }
    void move(Queue& q, const std::vector<Block>& blocks, bool to_share) const {
        for (int64_t r = 0; r < ranks; ++r)
            move_share(q, whole, blocks[static_cast<size_t>(r)].data, share_map(whole, cut, full, r, ranks), to_share);
    }
};

void recut_all(const Call& c, Queue& q) {
    const auto& r = c.attr<Recut>();
    const Side sent{c.in[0], {static_cast<int>(r.to_dim), r.to_period, r.to_units}, r.to_full, r.ranks},
        received{c.out[0], {static_cast<int>(r.dim), r.period, r.units}, r.full, r.ranks};
    const auto to = sent.blocks(c.scratch), from = received.blocks(c.scratch + bytes_of(c.in[0]));
    sent.move(q, to, true);
    if (Communicator* group = group_of(c, r.group)) {
        if (!q.failed()) q.note_link(group->all_to_all(to, from, kAlone));
    } else {
        for (size_t i = 0; i < from.size(); ++i) copy_bytes(q, from[i].data, to[i].data, std::min(to[i].bytes, from[i].bytes));
    }
    received.move(q, from, false);
}
Result<Prepared> prepare_recut(const Request& r) { return Prepared{{queued<recut_all>}, nullptr, bytes_of(r.in[0]) + bytes_of(r.out[0])}; }

void shift(const Call& c, Queue& q) {
    const auto& r = c.attr<Ring>();
    Communicator* group = group_of(c, r.group);
    if (!group) return copy_bytes(q, c.out[0].data, c.in[0].data, std::min(bytes_of(c.in[0]), bytes_of(c.out[0])));
    std::vector<Block> to(static_cast<size_t>(r.ranks)), from(to.size());
    to[static_cast<size_t>((r.rank + r.ranks - 1) % r.ranks)] = {c.in[0].data, bytes_of(c.in[0])};
    from[static_cast<size_t>((r.rank + 1) % r.ranks)] = {c.out[0].data, bytes_of(c.out[0])};
    if (!q.failed()) q.note_link(group->all_to_all(to, from, kAlone));
}

// y of more keys is the mean of both parts' by exp(lse). A warp has one row of one head.
__global__ void merge_kernel(Rows y, Rows lse, Rows y2, Rows lse2, Rows out, Rows merged, int64_t size, bool last) {
    const int64_t item = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / kWarp, lane = threadIdx.x % kWarp;
    if (item >= lse.rows * lse.columns) return;
    const int64_t row = item / lse.columns, head = item % lse.columns;
    const float a = lse.get(row, head), b = lse2.present() ? lse2.get(row, head) : -INFINITY, most = fmaxf(a, b);
    const bool seen = a != -INFINITY || b != -INFINITY;  // or is a NaN, which goes on as one
    const float wa = seen ? expf(a - most) : 0, wb = seen ? expf(b - most) : 0, total = wa + wb, fa = seen ? wa / total : 0,
                fb = seen ? wb / total : 0;
    for (int64_t k = head * size + lane; k < (head + 1) * size; k += kWarp) {
        const float more = y2.present() && fb != 0 ? fb * y2.get(row, k) : 0;
        out.put(row, k, fa * y.get(row, k) + more);
    }
    if (lane == 0) merged.put(row, head, seen ? most + logf(total) : last ? 0 : -INFINITY);
}
void merge(const Call& c, Queue& q) {
    const int64_t items = c.in[1].count();
    if (items > 0)
        launch(q, blocks_for(items * kWarp, 128), 128, 0, merge_kernel, rows_of(c.in[0]), rows_of(c.in[1]), rows_of(c.in[2]),
               rows_of(c.in[3]), rows_of(c.out[0]), rows_of(c.out[1]), c.in[0].columns() / c.in[1].columns(), c.attr<Merge>().last);
}

__global__ void local_labels_kernel(Span<const int32_t> labels, int64_t begin, int64_t end, int32_t ignore, Span<int32_t> y) {
    const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
    if (i >= y.n) return;
    const int32_t label = labels.get(i);
    y.put(i, label == ignore ? kIgnoredLabel : label >= begin && label < end ? static_cast<int32_t>(label - begin) : -1);
}
void find_labels(const Call& c, Queue& q) {
    const auto& a = c.attr<ShardedCrossEntropy>();
    const Interval mine = Cut{0, a.share.period, a.share.units}.part(static_cast<int>(a.share.rank), static_cast<int>(a.share.ranks));
    if (c.out[0].count() > 0)
        launch(q, blocks_for(c.out[0].count(), kThreads), kThreads, 0, local_labels_kernel, span<const int32_t>(c.in[0]), mine.begin,
               mine.end, static_cast<int32_t>(a.of.ignore), span<int32_t>(c.out[0]));
}

// all: of each rank the loss of its own words, then their lse. mean(lse - logit) over labels = mean(lse) + the ranks' own losses - the
// means of their own lse.
__global__ void vocabulary_kernel(Span<const float> all, int64_t ranks, Span<const int32_t> labels, int32_t ignore, Span<float> loss,
                                  Span<float> merged) {
    DS_SHARED(double, memory, 32);
    const int64_t n = labels.n + 1;
    double sum = 0, counted = 0;
    for (int64_t i = threadIdx.x; i + 1 < n; i += blockDim.x) {
        double most = -INFINITY, total = 0, parts = 0;
        for (int64_t r = 0; r < ranks; ++r) most = fmax(most, static_cast<double>(all.get(r * n + 1 + i)));
        for (int64_t r = 0; r < ranks; ++r) total += exp(all.get(r * n + 1 + i) - most), parts += all.get(r * n + 1 + i);
        const double lse = most + log(total);
        merged.put(i, static_cast<float>(lse));
        if (labels.get(i) == ignore) continue;
        sum += lse - parts;
        ++counted;
    }
    sum = sum_of_block(sum, memory);
    counted = sum_of_block(counted, memory);
    if (threadIdx.x != 0) return;
    double losses = 0;
    for (int64_t r = 0; r < ranks; ++r) losses += all.get(r * n);
    loss.put(0, counted > 0 ? static_cast<float>(losses + sum / counted) : 0.0f);
}
void merge_vocabulary(const Call& c, Queue& q) {
    const auto& a = c.attr<ShardedCrossEntropy>();
    Communicator* group = group_of(c, a.share.group);
    const int64_t n = c.in[1].count() + 1, ranks = group ? a.share.ranks : 1;
    auto* all = reinterpret_cast<float*>(c.scratch);
    float* own = all + (group ? a.share.rank * n : 0);
    copy_bytes(q, own, c.in[0].data, 4);
    copy_bytes(q, own + 1, c.in[1].data, (n - 1) * 4);
    std::vector<Block> from;
    for (int64_t r = 0; r < ranks; ++r) from.push_back({all + r * n, n * 4});
    if (group && !q.failed()) q.note_link(group->all_gather({own, n * 4}, from, kAlone));
    launch(q, 1, 1024, 0, vocabulary_kernel, Span<const float>{all, ranks * n}, ranks, span<const int32_t>(c.in[2]),
           static_cast<int32_t>(a.of.ignore), span<float>(c.out[0]), span<float>(c.out[1]));
}
Result<Prepared> prepare_vocabulary(const Request& r) {
    return Prepared{{queued<merge_vocabulary>}, nullptr, r.attr<ShardedCrossEntropy>().share.ranks * (r.in[1].count() + 1) * 4};
}

constexpr KernelImpl kRecut[] = {{"exchange", accepts_all, prepare_recut, true}},
                     kShift[] = {{"exchange", accepts_all, simple<queued<shift>>, true}}, kMerge[] = {plain<merge>()},
                     kLabels[] = {{"cuda", accepts_all, simple<queued<find_labels>>}},
                     kVocabulary[] = {{"exchange", accepts_all, prepare_vocabulary, true}};

}  // namespace

extern const KernelList recut{kRecut}, ring_shift{kShift}, attention_merge{kMerge}, local_labels{kLabels}, vocabulary_merge{kVocabulary};

}  // namespace ds::cuda
