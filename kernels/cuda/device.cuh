// What kernel code is written with: memory that knows its bounds, element types, sums over warps and blocks, random numbers, launches.
//
// The same sources compile with nvcc for GPUs, where all of this is plain pointers, and for the host (tests/cuda/emulate), where every
// access is checked. So kernels touch memory through Span, Any and Shared only, and threads exchange values through shuffle and barrier
// only.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "kernels/kernel.h"

namespace ds::cuda {
inline constexpr int kTileAlign = 32;  // what tensor cores' loads ask for
}

#ifdef DS_CUDA_EMULATED
#include "tests/cuda/emulate/emulate.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <mma.h>
#endif

#include "kernels/cuda/queue.h"

namespace ds::cuda {

inline constexpr int kWarp = 32;

#ifndef DS_CUDA_EMULATED
#define DS_DEVICE __device__ __forceinline__
#define DS_CALLED static __device__ __noinline__  // of what is long, and called at many places

// n elements of global memory.
template <class T>
struct Span {
    T* data;
    int64_t n;
    DS_DEVICE T get(int64_t i) const { return data[i]; }
    DS_DEVICE void put(int64_t i, T x) const { data[i] = x; }
    DS_DEVICE Span from(int64_t i) const { return {data + i, n - i}; }
};

// n elements of a block's shared memory.
template <class T>
struct Shared {
    T* data;
    DS_DEVICE T get(int i) const { return data[i]; }
    DS_DEVICE void put(int i, T x) const { data[i] = x; }
    DS_DEVICE Shared from(int i) const { return {data + i}; }
};
extern __shared__ __align__(1024) unsigned char ds_dynamic_shared[];
// The launch's dynamic shared memory from byte `offset` on, as n elements.
template <class T>
DS_DEVICE Shared<T> dynamic_shared(int64_t offset, int) {
    return {reinterpret_cast<T*>(ds_dynamic_shared + offset)};
}
// A fixed array of shared memory: DS_SHARED(float, sums, 32). DS_SHARED_TILE: one at a multiple of kTileAlign.
#define DS_SHARED(type, name, count)      \
    __shared__ type name##_memory[count]; \
    const ::ds::cuda::Shared<type> name { name##_memory }
#define DS_SHARED_TILE(type, name, count)                                   \
    __shared__ __align__(::ds::cuda::kTileAlign) type name##_memory[count]; \
    const ::ds::cuda::Shared<type> name { name##_memory }

// Products of 16 x 16 matrices by a warp on tensor cores, f32 sums. The operands lie in shared memory at multiples of 32 bytes, rows a
// multiple of 16 bytes apart; a block's barrier stands between writing there and reading here.
template <class T>
struct LeftMatrix {  // row-major
    nvcuda::wmma::fragment<nvcuda::wmma::matrix_a, 16, 16, 16, T, nvcuda::wmma::row_major> f;
    DS_DEVICE void load(Shared<T> m, int at, int stride) { nvcuda::wmma::load_matrix_sync(f, m.data + at, stride); }
};
template <class T>
struct LeftTransposed {  // a left operand that lies as its transpose
    nvcuda::wmma::fragment<nvcuda::wmma::matrix_a, 16, 16, 16, T, nvcuda::wmma::col_major> f;
    DS_DEVICE void load(Shared<T> m, int at, int stride) { nvcuda::wmma::load_matrix_sync(f, m.data + at, stride); }
};
template <class T>
struct RightMatrix {  // row-major
    nvcuda::wmma::fragment<nvcuda::wmma::matrix_b, 16, 16, 16, T, nvcuda::wmma::row_major> f;
    DS_DEVICE void load(Shared<T> m, int at, int stride) { nvcuda::wmma::load_matrix_sync(f, m.data + at, stride); }
};
template <class T>
struct TransposedMatrix {  // a right operand that lies as its transpose
    nvcuda::wmma::fragment<nvcuda::wmma::matrix_b, 16, 16, 16, T, nvcuda::wmma::col_major> f;
    DS_DEVICE void load(Shared<T> m, int at, int stride) { nvcuda::wmma::load_matrix_sync(f, m.data + at, stride); }
};
struct SumMatrix {
    nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 16, 16, 16, float> f;
    DS_DEVICE void clear() { nvcuda::wmma::fill_fragment(f, 0.0f); }
    DS_DEVICE void load(Shared<float> m, int at, int stride) {
        nvcuda::wmma::load_matrix_sync(f, m.data + at, stride, nvcuda::wmma::mem_row_major);
    }
    DS_DEVICE void store(Shared<float> m, int at, int stride) const {
        nvcuda::wmma::store_matrix_sync(m.data + at, f, stride, nvcuda::wmma::mem_row_major);
    }
    template <class A, class B>
    DS_DEVICE void add_product(const A& a, const B& b) {
        nvcuda::wmma::mma_sync(f, a.f, b.f, f);
    }
};

// Eight neighbours at once; both sides lie at multiples of 16 bytes.
template <class T>
DS_DEVICE void copy8(Shared<T> to, int at, Span<T> from, int64_t i) {
    *reinterpret_cast<uint4*>(to.data + at) = *reinterpret_cast<const uint4*>(from.data + i);
}

DS_DEVICE void barrier() { __syncthreads(); }
template <class T>
DS_DEVICE T shuffle_xor(T x, int distance) {
    return __shfl_xor_sync(0xffffffffu, x, distance);
}
DS_DEVICE float fast_exp(float x) {
    return __expf(x);
}  // of x <= 0: rounding x log2(e) adds a relative error of |x| / 2^24, as much as rounding x does
template <class T>
DS_DEVICE T shuffle_from(T x, int lane) {
    return __shfl_sync(0xffffffffu, x, lane);
}

DS_DEVICE float to_f32(__nv_bfloat16 x) { return __bfloat162float(x); }
DS_DEVICE float to_f32(__half x) { return __half2float(x); }
DS_DEVICE float to_f32(float x) { return x; }
using bf16 = __nv_bfloat16;
using f16 = __half;
template <class T>
DS_DEVICE T from_f32(float x);
template <>
DS_DEVICE float from_f32<float>(float x) {
    return x;
}
template <>
DS_DEVICE bf16 from_f32<bf16>(float x) {
    return __float2bfloat16_rn(x);
}
template <>
DS_DEVICE f16 from_f32<f16>(float x) {
    return __float2half_rn(x);
}

// Four neighbours in f32. load4 and store4 move them in one access, 16 bytes of f32 and 8 of bf16 and f16, at an address that is a multiple
// of that (wide_rows).
struct Four {
    float x[4];
};
template <class T>
using Pair = std::conditional_t<std::is_same_v<T, bf16>, __nv_bfloat162, __half2>;
template <class T>
DS_DEVICE Four load4(Span<T> s, int64_t i) {
    using Element = std::remove_const_t<T>;
    if constexpr (std::is_same_v<Element, float>) {
        const float4 v = *reinterpret_cast<const float4*>(s.data + i);
        return {{v.x, v.y, v.z, v.w}};
    } else {
        const uint2 bits = *reinterpret_cast<const uint2*>(s.data + i);
        const auto low = reinterpret_cast<const Pair<Element>&>(bits.x), high = reinterpret_cast<const Pair<Element>&>(bits.y);
        return {{to_f32(low.x), to_f32(low.y), to_f32(high.x), to_f32(high.y)}};
    }
}
template <class T>
DS_DEVICE void store4(Span<T> s, int64_t i, const Four& v) {  // the compiler may make four stores of an assignment
    if constexpr (std::is_same_v<T, float>) {
        asm volatile("st.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(s.data + i)), "f"(v.x[0]), "f"(v.x[1]),
                     "f"(v.x[2]), "f"(v.x[3])
                     : "memory");
    } else {
        const Pair<T> low{from_f32<T>(v.x[0]), from_f32<T>(v.x[1])}, high{from_f32<T>(v.x[2]), from_f32<T>(v.x[3])};
        asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(s.data + i)),
                     "r"(reinterpret_cast<const uint32_t&>(low)), "r"(reinterpret_cast<const uint32_t&>(high))
                     : "memory");
    }
}

// The block's whole grid runs kernel(args...) after what was queued before.
template <class... P, class... A>
void launch(Queue& queue, dim3 grid, dim3 block, size_t shared, void (*kernel)(P...), A&&... args) {
    if (queue.failed()) return;
    kernel<<<grid, block, shared, queue.stream>>>(P(args)...);
    queue.note(cudaGetLastError(), "launching a kernel");
}
#endif

template <class T>
DS_DEVICE T sum_of_warp(T x) {
    for (int d = kWarp / 2; d > 0; d /= 2) x += shuffle_xor(x, d);
    return x;
}
DS_DEVICE float max_of_warp(float x) {
    for (int d = kWarp / 2; d > 0; d /= 2) x = fmaxf(x, shuffle_xor(x, d));
    return x;
}

// The sum over the block's threads, in all of them; `memory` has room for one number a warp and is free before and after. Always the same
// order.
template <class T>
DS_DEVICE T sum_of_block(T x, Shared<T> memory) {
    const int warps = blockDim.x / kWarp, warp = threadIdx.x / kWarp;
    x = sum_of_warp(x);
    if (threadIdx.x % kWarp == 0) memory.put(warp, x);
    barrier();
    T total = 0;
    for (int i = 0; i < warps; ++i) total += memory.get(i);
    barrier();
    return total;
}
DS_DEVICE float max_of_block(float x, Shared<float> memory) {
    const int warps = blockDim.x / kWarp, warp = threadIdx.x / kWarp;
    x = max_of_warp(x);
    if (threadIdx.x % kWarp == 0) memory.put(warp, x);
    barrier();
    float most = memory.get(0);
    for (int i = 1; i < warps; ++i) most = fmaxf(most, memory.get(i));
    barrier();
    return most;
}

// Global memory of a type that is known at run time only; every thread of a warp takes the same way through the switch.
struct Any {
    void* data;
    int64_t n;
    DType type;

    template <class T>
    DS_DEVICE Span<T> as() const {
        return {static_cast<T*>(data), n};
    }
    DS_DEVICE float get(int64_t i) const {
        switch (type) {
        case DType::f32: return as<float>().get(i);
        case DType::bf16: return to_f32(as<bf16>().get(i));
        case DType::f16: return to_f32(as<f16>().get(i));
        case DType::i32: return static_cast<float>(as<int32_t>().get(i));
        case DType::u8:
        case DType::boolean: return static_cast<float>(as<uint8_t>().get(i));
        default: return 0;
        }
    }
    DS_DEVICE void put(int64_t i, float x) const {
        switch (type) {
        case DType::f32: return as<float>().put(i, x);
        case DType::bf16: return as<bf16>().put(i, from_f32<bf16>(x));
        case DType::f16: return as<f16>().put(i, from_f32<f16>(x));
        case DType::i32: return as<int32_t>().put(i, static_cast<int32_t>(x));
        case DType::u8: return as<uint8_t>().put(i, static_cast<uint8_t>(x));
        case DType::boolean: return as<uint8_t>().put(i, static_cast<uint8_t>(x != 0));
        default: return;
        }
    }
};

// Of a type that wide_rows accepts.
DS_DEVICE Four load4(const Any& m, int64_t i) {
    switch (m.type) {
    case DType::f32: return load4(m.as<float>(), i);
    case DType::bf16: return load4(m.as<bf16>(), i);
    default: return load4(m.as<f16>(), i);
    }
}
DS_DEVICE void store4(const Any& m, int64_t i, const Four& v) {
    switch (m.type) {
    case DType::f32: return store4(m.as<float>(), i, v);
    case DType::bf16: return store4(m.as<bf16>(), i, v);
    default: return store4(m.as<f16>(), i, v);
    }
}

// Rows that may lie apart; absent where data is null.
struct Rows {
    Any memory;
    int64_t rows, columns, stride;
    DS_DEVICE bool present() const { return memory.data != nullptr; }
    DS_DEVICE float get(int64_t row, int64_t column) const { return memory.get(row * stride + column); }
    DS_DEVICE void put(int64_t row, int64_t column, float x) const { memory.put(row * stride + column, x); }
};

inline int64_t extent(const Tensor& t) { return t.count() == 0 ? 0 : (t.rows() - 1) * t.row_stride + t.columns(); }
inline Any any(const Tensor& t) { return {t.data, extent(t), t.dtype}; }
inline Rows rows_of(const Tensor& t) {
    return t.present ? Rows{any(t), t.rows(), t.columns(), t.row_stride} : Rows{{nullptr, 0, DType::f32}, 0, 0, 0};
}

inline bool is_number(DType t) { return t == DType::f32 || t == DType::bf16 || t == DType::f16; }
// Whether load4 and store4 take what begins here.
inline bool begins_wide(const void* data, DType type) {
    return is_number(type) && reinterpret_cast<uintptr_t>(data) % (4 * static_cast<uintptr_t>(size_of(type))) == 0;
}
// Every row is whole fours that load4 and store4 take, by address, stride and length; so is an absent tensor. Asked where the kernel is
// queued: addresses are known there.
inline bool wide_rows(const Rows& r) {
    if (!r.memory.data || r.rows * r.columns == 0) return true;
    return begins_wide(r.memory.data, r.memory.type) && r.columns % 4 == 0 && (r.rows == 1 || r.stride % 4 == 0);
}
inline bool wide_rows(const Tensor& t) { return wide_rows(rows_of(t)); }

template <class T>
Span<T> span(const Tensor& t) {
    return {t.present ? static_cast<T*>(t.data) : nullptr, t.present ? extent(t) : 0};
}
template <class T>
Span<T> scratch(const Call& c, int64_t offset_bytes, int64_t n) {
    return {reinterpret_cast<T*>(c.scratch + offset_bytes), n};
}

// What a kernel accepts whose operands are all of these.
inline const char* accepts_floats(const Request& r) {
    for (const auto& list : {r.in, r.out})
        for (const Tensor& t : list)
            if (t.present && !is_number(t.dtype) && t.dtype != DType::i32 && t.dtype != DType::u8 && t.dtype != DType::boolean)
                return "an operand is neither f32, bf16 nor f16";
    return nullptr;
}

inline Queue& queue_of(const Call& c) { return *static_cast<Queue*>(c.runtime->queue); }
// Blocks that have a_block items each: all of them. A grid has at most 2^31 - 1 (65535 but along x); more are refused by the launch.
inline unsigned blocks_for(int64_t items, int64_t a_block) {
    return static_cast<unsigned>(std::clamp<int64_t>((items + a_block - 1) / a_block, 1, UINT32_MAX));
}
// The same, but at most so many: only for kernels that go on by gridDim until all is done.
inline unsigned striding_blocks(int64_t items, int64_t a_block, int64_t most = 1 << 20) {
#ifdef DS_CUDA_EMULATED
    most = std::min(most, emu::most_blocks());  // tests let every such kernel go on
#endif
    return static_cast<unsigned>(std::min<int64_t>(blocks_for(items, a_block), most));
}

// Phases queue work from one thread.
template <void (*run)(const Call&, Queue&)>
void queued(const Call& call, Team team) {
    if (team.rank == 0) run(call, queue_of(call));
}
template <void (*run)(const Call&, Queue&)>
constexpr KernelImpl plain(const char* name = "cuda") {
    return {name, accepts_floats, simple<queued<run>>};
}

// Philox-4x32-10 as in kernels/ref/random.cpp: the same numbers on every device. Draws 4 block to 4 block + 3.
DS_DEVICE Four uniform_block(const Draws& draws, uint64_t salt, uint64_t block) {
    uint32_t counter[4] = {static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), static_cast<uint32_t>(draws.step),
                           static_cast<uint32_t>(salt)};
    uint32_t key0 = static_cast<uint32_t>(draws.seed),
             key1 = static_cast<uint32_t>(draws.seed >> 32) ^ static_cast<uint32_t>(draws.step >> 32);
    for (int round = 0; round < 10; ++round) {
        const uint64_t p0 = uint64_t{0xD2511F53} * counter[0], p1 = uint64_t{0xCD9E8D57} * counter[2];
        const uint32_t c0 = static_cast<uint32_t>(p1 >> 32) ^ counter[1] ^ key0, c2 = static_cast<uint32_t>(p0 >> 32) ^ counter[3] ^ key1;
        counter[0] = c0, counter[1] = static_cast<uint32_t>(p1), counter[2] = c2, counter[3] = static_cast<uint32_t>(p0);
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    Four drawn;
    for (int i = 0; i < 4; ++i) drawn.x[i] = static_cast<float>(counter[i] >> 8) * 0x1p-24f;
    return drawn;
}
DS_DEVICE float uniform_draw(const Draws& draws, uint64_t salt, uint64_t index) {
    const Four drawn = uniform_block(draws, salt, index / 4);
    const int word = static_cast<int>(index % 4);
    return word == 0 ? drawn.x[0] : word == 1 ? drawn.x[1] : word == 2 ? drawn.x[2] : drawn.x[3];
}

}  // namespace ds::cuda
