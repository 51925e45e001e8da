// How an elementwise kernel walks: over the elements of its result, row-major, with an offset into each operand's memory. Dimensions that lie behind
// each other in all of them are merged, so that most walks are a line.
#pragma once

#include "kernels/cuda/device.cuh"

namespace ds::cuda {

inline constexpr int kOperands = 3;

struct Walk {
    int rank = 0;
    int64_t count = 0;
    int64_t dims[kMaxRank] = {}, strides[kOperands][kMaxRank] = {};  // elements
    int64_t offset[kOperands] = {};
};

// The row-major strides of a tensor's dimensions in its memory.
inline void memory_strides(const Tensor& t, int64_t* strides) {
    for (int i = t.rank - 1; i >= 0; --i) strides[i] = i == t.rank - 1 ? 1 : i == t.rank - 2 ? t.row_stride : strides[i + 1] * t.dims[i + 1];
}

// Drops dimensions of one element and merges neighbours.
inline Walk merged(const Walk& w) {
    Walk m;
    m.count = 1;
    for (int k = 0; k < kOperands; ++k) m.offset[k] = w.offset[k];
    for (int i = 0; i < w.rank; ++i) {
        m.count *= w.dims[i];
        if (w.dims[i] == 1) continue;
        bool joins = m.rank > 0;
        for (int k = 0; k < kOperands && joins; ++k) joins = m.strides[k][m.rank - 1] == w.strides[k][i] * w.dims[i];
        if (!joins) ++m.rank;
        m.dims[m.rank - 1] = joins ? m.dims[m.rank - 1] * w.dims[i] : w.dims[i];
        for (int k = 0; k < kOperands; ++k) m.strides[k][m.rank - 1] = w.strides[k][i];
    }
    return m;
}

// operands: of y's shape, or what numpy broadcasts to it. The result is operand 0.
inline Walk walk(const Tensor& y, std::initializer_list<const Tensor*> operands) {
    Walk w;
    w.rank = y.rank;
    for (int i = 0; i < y.rank; ++i) w.dims[i] = y.dims[i];
    memory_strides(y, w.strides[0]);
    int k = 1;
    for (const Tensor* t : operands) {
        int64_t own[kMaxRank];
        memory_strides(*t, own);
        for (int i = y.rank - 1, j = t->rank - 1; i >= 0 && j >= 0; --i, --j) w.strides[k][i] = t->dims[j] == 1 && y.dims[i] != 1 ? 0 : own[j];
        ++k;
    }
    return merged(w);
}

struct Offsets {
    int64_t at[kOperands];
};

DS_DEVICE Offsets offsets(const Walk& w, int64_t i) {
    Offsets o;
    for (int k = 0; k < kOperands; ++k) o.at[k] = w.offset[k];
    if (w.rank == 1) {
        for (int k = 0; k < kOperands; ++k) o.at[k] += i * w.strides[k][0];
        return o;
    }
    const bool small = w.count < (int64_t{1} << 32);  // 64-bit division costs several times as much
    for (int d = w.rank - 1; d >= 0; --d) {
        const int64_t next = small ? static_cast<int64_t>(static_cast<uint32_t>(i) / static_cast<uint32_t>(w.dims[d])) : i / w.dims[d];
        const int64_t place = i - next * w.dims[d];
        for (int k = 0; k < kOperands; ++k) o.at[k] += place * w.strides[k][d];
        i = next;
    }
    return o;
}

inline constexpr int kThreads = 256;
inline unsigned blocks_of(const Walk& w) { return blocks_for(w.count, kThreads, 1 << 16); }

}  // namespace ds::cuda
