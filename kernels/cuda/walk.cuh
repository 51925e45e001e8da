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

// Elements of any type there is, as f64: what the host's convert does where f32 would not do.
struct Exact {
    void* data;
    int64_t n;
    DType type;

    template <class T> DS_DEVICE Span<T> as() const { return {static_cast<T*>(data), n}; }
    DS_DEVICE double get(int64_t i) const {
        switch (type) {
        case DType::f64: return as<double>().get(i);
        case DType::i64: return static_cast<double>(as<int64_t>().get(i));
        case DType::i32: return as<int32_t>().get(i);
        case DType::i8: return as<int8_t>().get(i);
        default: return Any{data, n, type}.get(i);
        }
    }
    DS_DEVICE void put(int64_t i, double x) const {
        switch (type) {
        case DType::f64: return as<double>().put(i, x);
        case DType::i64: return as<int64_t>().put(i, static_cast<int64_t>(x));
        case DType::i32: return as<int32_t>().put(i, static_cast<int32_t>(x));
        case DType::i8: return as<int8_t>().put(i, static_cast<int8_t>(x));
        default: return Any{data, n, type}.put(i, static_cast<float>(x));
        }
    }
};

template <class Memory>
__global__ void convert_kernel(Walk w, Memory y, Memory x) {
    const int64_t step = int64_t{gridDim.x} * blockDim.x;
    for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < w.count; i += step) {
        const Offsets o = offsets(w, i);
        y.put(o.at[0], x.get(o.at[1]));
    }
}

inline bool is_plain(DType t) { return is_number(t) || t == DType::u8 || t == DType::boolean; }

// w: operand 0 is y, operand 1 is x; elements are converted.
inline void convert(Queue& q, const Walk& w, const Tensor& y, const Tensor& x) {
    if (w.count == 0) return;
    if (is_plain(y.dtype) && is_plain(x.dtype)) return launch(q, blocks_of(w), kThreads, 0, convert_kernel<Any>, w, any(y), any(x));
    launch(q, blocks_of(w), kThreads, 0, convert_kernel<Exact>, w, Exact{y.data, extent(y), y.dtype}, Exact{x.data, extent(x), x.dtype});
}

inline const char* has_float8(const Request& r) {
    for (const auto& list : {r.in, r.out})
        for (const Tensor& t : list)
            if (t.present && (t.dtype == DType::f8e4m3 || t.dtype == DType::f8e5m2)) return "an operand is an 8-bit float";
    return nullptr;
}

}  // namespace ds::cuda
