// Buckets of gradients and gathered weights, as kernels/ref/zero.cpp. Without links (one rank) they are copies.
#include "kernels/cuda/share.cuh"
#include "ops/attrs_zero.h"

namespace ds::cuda {
namespace {

// Where memory is planned well the inputs lie in the bucket already.
void fill_bucket(const Call& c, Queue& q) {
    const Bucket& b = c.attr<Bucket>();
    auto* y = c.out[0].as<float>();
    for (size_t i = 0; i < b.starts.size(); ++i) {
        const int64_t count = c.in[i].count(), end = i + 1 < b.starts.size() ? b.starts[i + 1] : b.size;
        copy_bytes(q, y + b.starts[i], c.in[i].data, count * 4);
        clear_bytes(q, y + b.starts[i] + count, (end - b.starts[i] - count) * 4);
    }
}

std::vector<Block> blocks_of(std::byte* base, int64_t element_bytes, const Parts& p) {
    std::vector<Block> blocks;
    for (int64_t r = 0; r < static_cast<int64_t>(p.ends.size()); ++r)
        blocks.push_back({base + p.begin(r) * element_bytes, p.size(r) * element_bytes});
    return blocks;
}

__global__ void to_wire_kernel(Any from, Any to) {
    const int64_t step = int64_t{gridDim.x} * blockDim.x;
    for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < to.n; i += step) to.put(i, from.get(i));
}
__global__ void add_kernel(Any sums, Span<const float> into, Span<float> y) {
    const int64_t step = int64_t{gridDim.x} * blockDim.x;
    for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < y.n; i += step)
        y.put(i, (into.data ? into.get(i) : 0.0f) + sums.get(i));
}

int64_t summands_bytes(const Parts& p) { return p.wire == DType::f32 ? 0 : round_up(p.ends.back() * size_of(p.wire), 256); }

// In scratch: where the wire's type is another, all summands in that, then this rank's sum.
void reduce(const Call& c, Queue& q) {
    const Parts& p = c.attr<Parts>();
    const bool plain = p.wire == DType::f32, apart = !plain || c.in[1].present;
    std::byte* summands = plain ? c.in[0].as<std::byte>() : c.scratch;
    std::byte* sum = apart ? c.scratch + summands_bytes(p) : c.out[0].as<std::byte>();
    if (!plain)
        launch(q, striding_blocks(p.ends.back(), kThreads, 1 << 16), kThreads, 0, to_wire_kernel,
               Any{c.in[0].data, p.ends.back(), DType::f32}, Any{summands, p.ends.back(), p.wire});
    const int64_t size = size_of(p.wire), n = p.size(p.rank);
    if (Communicator* group = group_of(c, p.group)) {
        if (!q.failed()) q.note_link(group->reduce_scatter(blocks_of(summands, size, p), {sum, n * size}, p.wire, kAlone));
    } else {
        copy_bytes(q, sum, summands + p.begin(p.rank) * size, n * size);
    }
    if (apart && n > 0)
        launch(q, striding_blocks(n, kThreads, 1 << 16), kThreads, 0, add_kernel, Any{sum, n, p.wire},
               Span<const float>{c.in[1].present ? c.in[1].as<const float>() : nullptr, n}, Span<float>{c.out[0].as<float>(), n});
}
Result<Prepared> prepare_reduce(const Request& r) {
    const Parts& p = r.attr<Parts>();
    const bool apart = p.wire != DType::f32 || r.in[1].present;
    return Prepared{{queued<reduce>}, nullptr, summands_bytes(p) + (apart ? p.size(p.rank) * size_of(p.wire) : 0)};
}

void gather(const Call& c, Queue& q) {
    const Parts& p = c.attr<Parts>();
    const int64_t size = size_of(c.out[0].dtype);
    const std::vector<Block> blocks = blocks_of(c.out[0].as<std::byte>(), size, p);
    const Block mine{c.in[0].data, p.size(p.rank) * size};
    if (Communicator* group = group_of(c, p.group)) {
        if (!q.failed()) q.note_link(group->all_gather(mine, blocks, kAlone));
    } else {
        copy_bytes(q, blocks[static_cast<size_t>(p.rank)].data, mine.data, mine.bytes);
    }
}

constexpr KernelImpl kBucket[] = {{"in_place", accepts_all, simple<queued<fill_bucket>>}},
                     kReduce[] = {{"exchange", accepts_all, prepare_reduce, true}},
                     kGather[] = {{"exchange", accepts_all, simple<queued<gather>>, true}};

}  // namespace

extern const KernelList bucket{kBucket}, reduce_bucket{kReduce}, gather_parts{kGather};

}  // namespace ds::cuda
