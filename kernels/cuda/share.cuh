// Shares: what one rank of several has of a dense tensor, and kernels that copy between the two. The mapping is that of base/stripes.h.
#pragma once

#include "base/stripes.h"
#include "comm/communicator.h"
#include "kernels/cuda/walk.cuh"
#include "ops/attrs.h"

namespace ds::cuda {

struct ShareMap {
    int64_t inner = 1, full = 1, held = 1;  // elements behind the cut dimension; the dimension, and what the rank has of it
    int64_t period = 1, periods = 1, begin = 0, size = 1, rest = 0;  // of each whole period the rank has [begin, begin + size), behind them it has from `rest` on
    int64_t count = 0;                      // elements of the share
};

inline ShareMap share_map(const Tensor& whole, const Cut& cut, int64_t full, int64_t rank, int64_t ranks) {
    ShareMap m;
    m.count = whole.count();
    if (cut.whole()) {
        m.inner = std::max<int64_t>(m.count, 1);
        return m;
    }
    const auto r = static_cast<int>(rank), n = static_cast<int>(ranks);
    const Interval part = cut.part(r, n);
    for (int i = cut.dim + 1; i < whole.rank; ++i) m.inner *= whole.dims[i];
    m.full = full;
    m.held = held(cut, full, r, n);
    m.period = cut.period, m.periods = full / cut.period, m.begin = part.begin, m.size = part.size();
    m.rest = m.periods * cut.period + rest_of(cut, full, r, n).begin;
    m.count = full ? m.count / full * m.held : 0;
    return m;
}

DS_DEVICE int64_t place_in_whole(const ShareMap& m, int64_t i) {
    const int64_t in = i % m.inner, line = i / m.inner, j = line % m.held, outer = line / m.held;
    const int64_t whole = m.size > 0 && j < m.periods * m.size ? j / m.size * m.period + m.begin + j % m.size : m.rest + j - m.periods * m.size;
    return (outer * m.full + whole) * m.inner + in;
}

template <class T>
static __global__ void share_kernel(ShareMap m, Span<T> whole, Span<T> share, bool to_share) {
    const int64_t step = int64_t{gridDim.x} * blockDim.x;
    for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < m.count; i += step) {
        const int64_t at = place_in_whole(m, i);
        if (to_share) share.put(i, whole.get(at));
        else whole.put(at, share.get(i));
    }
}

inline void move_share(Queue& q, const Tensor& whole, void* share, const ShareMap& m, bool to_share) {
    if (m.count == 0) return;
    const auto move = [&](auto zero) {
        using T = decltype(zero);
        launch(q, blocks_for(m.count, kThreads, 1 << 16), kThreads, 0, share_kernel<T>, m, Span<T>{whole.as<T>(), whole.count()}, Span<T>{static_cast<T*>(share), m.count}, to_share);
    };
    switch (size_of(whole.dtype)) {
    case 1: return move(uint8_t{});
    case 2: return move(uint16_t{});
    case 4: return move(uint32_t{});
    default: return move(uint64_t{});
    }
}

inline Cut cut_of(const Share& s) { return {static_cast<int>(s.dim), s.period, s.units}; }
inline int64_t bytes_of(const Tensor& t) { return t.count() * size_of(t.dtype); }
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
