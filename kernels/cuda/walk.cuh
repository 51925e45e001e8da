// How an elementwise kernel walks: over the elements of its result, row-major, with an offset into each operand's memory. Dimensions that
// lie behind each other in all of them are merged, so that most walks are a line. Where all operands lie for it, four neighbours are one
// item of the walk.
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
    for (int i = t.rank - 1; i >= 0; --i)
        strides[i] = i == t.rank - 1 ? 1 : i == t.rank - 2 ? t.row_stride : strides[i + 1] * t.dims[i + 1];
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
        for (int i = y.rank - 1, j = t->rank - 1; i >= 0 && j >= 0; --i, --j)
            w.strides[k][i] = t->dims[j] == 1 && y.dims[i] != 1 ? 0 : own[j];
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
inline unsigned blocks_of(const Walk& w) { return striding_blocks(w.count, kThreads, 1 << 16); }

// The walk over fours of the tensors that w goes over by elements, in its order; of no items where one of them does not lie so.
inline Walk walk_of_fours(const Walk& w, std::initializer_list<const Tensor*> tensors) {
    const int inner = w.rank - 1;
    if (w.rank == 0 || w.dims[inner] % 4 != 0) return {};
    int k = 0;
    for (const Tensor* t : tensors) {
        bool lies = begins_wide(t->data, t->dtype) && w.offset[k] % 4 == 0 && w.strides[k][inner] == 1;
        for (int i = 0; i < inner; ++i) lies = lies && w.strides[k][i] % 4 == 0;
        if (!lies) return {};
        ++k;
    }
    Walk fours = w;
    fours.count /= 4;
    fours.dims[inner] /= 4;
    for (auto& strides : fours.strides) strides[inner] *= 4;
    return fours;
}

// Two fours, the second where there is one. The type is asked for once, so that both are on their way together.
struct TwoFours {
    Four of[2];
};
template <class T>
DS_DEVICE TwoFours load_two(Span<T> m, int64_t first, int64_t second, bool both) {
    return {{load4(m, first), both ? load4(m, second) : Four{}}};
}
DS_DEVICE TwoFours load_two(const Any& m, int64_t first, int64_t second, bool both) {
    switch (m.type) {
    case DType::f32: return load_two(m.as<float>(), first, second, both);
    case DType::bf16: return load_two(m.as<bf16>(), first, second, both);
    default: return load_two(m.as<f16>(), first, second, both);
    }
}

// y = F::of(a, b, constant); w walks over fours. A thread has two of them, a block's threads apart.
template <class F, bool kTwo>
__global__ void map_fours_kernel(Walk w, Any y, Any a, Any b, float constant) {
    const int64_t a_block = 2 * int64_t{blockDim.x};
    for (int64_t i = blockIdx.x * a_block + threadIdx.x; i < w.count; i += gridDim.x * a_block) {
        const bool both = i + blockDim.x < w.count;
        const Offsets at[2] = {offsets(w, i), offsets(w, both ? i + blockDim.x : i)};
        const TwoFours p = load_two(a, at[0].at[1], at[1].at[1], both), q = kTwo ? load_two(b, at[0].at[2], at[1].at[2], both) : TwoFours{};
#pragma unroll
        for (int k = 0; k < 2; ++k) {
            Four r;
#pragma unroll
            for (int j = 0; j < 4; ++j) r.x[j] = F::of(p.of[k].x[j], q.of[k].x[j], constant);
            if (k == 0 || both) store4(y, at[k].at[0], r);
        }
    }
}

// False: the operands do not lie so, or w is empty.
template <class F, bool kTwo>
bool map_fours(Queue& q, const Walk& w, const Tensor& y, const Tensor& a, const Tensor& b, float constant) {
    const Walk fours = kTwo ? walk_of_fours(w, {&y, &a, &b}) : walk_of_fours(w, {&y, &a});
    if (fours.count == 0) return false;
    launch(q, striding_blocks(fours.count, 2 * kThreads), kThreads, 0, map_fours_kernel<F, kTwo>, fours, any(y), any(a),
           kTwo ? any(b) : Any{}, constant);
    return true;
}

// Elements of any type there is, as f64: what the host's convert does where f32 would not do.
struct Exact {
    void* data;
    int64_t n;
    DType type;

    template <class T>
    DS_DEVICE Span<T> as() const {
        return {static_cast<T*>(data), n};
    }
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

struct Same {
    static DS_DEVICE float of(float x, float, float) { return x; }
};

inline bool is_plain(DType t) { return is_number(t) || t == DType::u8 || t == DType::boolean; }

// w: operand 0 is y, operand 1 is x; elements are converted.
inline void convert(Queue& q, const Walk& w, const Tensor& y, const Tensor& x) {
    if (w.count == 0 || map_fours<Same, false>(q, w, y, x, x, 0)) return;
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
