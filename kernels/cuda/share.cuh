// Shares: what one rank of several has of a dense tensor, and kernels that copy between the two. The mapping is that of base/stripes.h.
#pragma once

#include "base/stripes.h"
#include "comm/communicator.h"
#include "kernels/cuda/walk.cuh"
#include "ops/attrs.h"

namespace ds::cuda {

struct ShareMap {
    int64_t inner = 1, full = 1, held = 1;  // elements behind the cut dimension; the dimension, and what the rank has of it
    // Of each whole period the rank has [begin, begin + size), behind them [rest_begin, rest_begin + rest_size).
    int64_t period = 1, periods = 1, begin = 0, size = 1, rest_begin = 0, rest_size = 0;
    int64_t count = 0;  // elements of the share

    // Where in the whole the share's entry `index` is, along the dimension.
    DS_DEVICE int64_t place(int64_t index) const {
        const int64_t gone = size > 0 && index < periods * size ? index / size : periods;
        return gone * period + (gone < periods ? begin : rest_begin) + index - gone * size;
    }
    // How many of the first `index` of the whole are in the share.
    DS_DEVICE int64_t held_before(int64_t index) const {
        const int64_t gone = index / period < periods ? index / period : periods;
        const int64_t from = gone < periods ? begin : rest_begin, most = gone < periods ? size : rest_size,
                      in = index - gone * period - from;
        return gone * size + (in < 0 ? 0 : in < most ? in : most);
    }
    DS_DEVICE bool holds(int64_t index) const { return held_before(index + 1) > held_before(index); }
    // Of the share's element i, in the whole tensor.
    DS_DEVICE int64_t place_in_whole(int64_t i) const {
        const int64_t line = i / inner, outer = line / held;
        return (outer * full + place(line - outer * held)) * inner + i % inner;
    }
};

inline Cut cut_of(const Share& s) { return {static_cast<int>(s.dim), s.period, s.units}; }

// The entries that a rank has of a dimension of `full`.
inline ShareMap entries_of(const Cut& cut, int64_t full, int64_t rank, int64_t ranks) {
    ShareMap m;
    const auto r = static_cast<int>(rank), n = static_cast<int>(ranks);
    const Interval part = cut.part(r, n), rest = rest_of(cut, full, r, n);
    m.full = full;
    m.held = held(cut, full, r, n);
    m.period = cut.period, m.periods = full / cut.period, m.begin = part.begin, m.size = part.size(), m.rest_begin = rest.begin,
    m.rest_size = rest.size();
    return m;
}

inline ShareMap share_map(const Tensor& whole, const Cut& cut, int64_t full, int64_t rank, int64_t ranks) {
    if (cut.whole()) return {.inner = std::max<int64_t>(whole.count(), 1), .count = whole.count()};
    ShareMap m = entries_of(cut, full, rank, ranks);
    for (int i = cut.dim + 1; i < whole.rank; ++i) m.inner *= whole.dims[i];
    m.count = full ? whole.count() / full * m.held : 0;
    return m;
}

template <class T>
static __global__ void share_kernel(ShareMap m, Span<T> whole, Span<T> share, bool to_share) {
    const int64_t step = int64_t{gridDim.x} * blockDim.x;
    for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < m.count; i += step) {
        const int64_t at = m.place_in_whole(i);
        if (to_share) share.put(i, whole.get(at));
        else whole.put(at, share.get(i));
    }
}

inline void move_share(Queue& q, const Tensor& whole, void* share, const ShareMap& m, bool to_share) {
    if (m.count == 0) return;
    const auto move = [&](auto zero) {
        using T = decltype(zero);
        launch(q, striding_blocks(m.count, kThreads, 1 << 16), kThreads, 0, share_kernel<T>, m, Span<T>{whole.as<T>(), whole.count()},
               Span<T>{static_cast<T*>(share), m.count}, to_share);
    };
    switch (size_of(whole.dtype)) {
    case 1: return move(uint8_t{});
    case 2: return move(uint16_t{});
    case 4: return move(uint32_t{});
    default: return move(uint64_t{});
    }
}

inline int64_t bytes_of(const Tensor& t) { return t.count() * size_of(t.dtype); }
// Each rank's share of `whole`, one behind the other.
inline std::vector<Block> blocks_of(std::byte* base, const Tensor& whole, const Cut& cut, int64_t full, int64_t ranks) {
    std::vector<Block> blocks;
    for (int64_t r = 0; r < ranks; ++r) {
        blocks.push_back({base, share_map(whole, cut, full, r, ranks).count * size_of(whole.dtype)});
        base += blocks.back().bytes;
    }
    return blocks;
}

inline constexpr Team kAlone{0, 1};  // one thread a rank queues
inline Communicator* group_of(const Call& c, int64_t group) { return c.runtime->links ? (*c.runtime->links)[group] : nullptr; }

inline void copy_bytes(Queue& q, void* to, const void* from, int64_t bytes) {
    if (q.failed() || to == from || bytes <= 0) return;
    q.note(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice, q.stream), "copying");
}
inline void clear_bytes(Queue& q, void* to, int64_t bytes) {
    if (q.failed() || bytes <= 0) return;
    q.note(cudaMemsetAsync(to, 0, static_cast<size_t>(bytes), q.stream), "clearing memory");
}

}  // namespace ds::cuda
