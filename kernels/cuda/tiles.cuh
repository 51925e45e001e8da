// Tiles of 2-byte elements in shared memory, and products of them on tensor cores: wgmma on Hopper (where the compiler makes code for
// sm_90a), mma.sync elsewhere. Both keep sums in the same registers, so kernels are written once.
//
// A tile's rows are cut into panels of 64 elements: 128 bytes, whose eight pieces of 16 bytes are swapped by the row, as wgmma's 128-byte
// swizzle has it (PTX ISA, "Shared Memory Matrix Layout"). A tile begins at a multiple of 1024 bytes of shared memory.
//
// A group is four warps that work on 64 rows, a warp on 16 of them. Its products go on while its threads do; their operands and sums stay
// as they are until they are awaited:
//   start_rows<kRows, kWidth>(sums, a, group, b)   sums = the group's rows of a, a tile of kRows rows, times the rows of b, transposed
//   start_weighted(sums, weights, b)               sums += weights times b, which has a row for each of their columns
//   await_products<n>(), then settle(sums)         all but the n started last have come
#pragma once

#include "kernels/cuda/device.cuh"

namespace ds::cuda {

inline constexpr int kPanel = 64, kGroupRows = 64, kGroupThreads = 4 * kWarp;

// Where an element of a tile of so many rows lies.
DS_DEVICE int place_in_tile(int rows, int row, int column) {
    return (column / kPanel * rows + row) * kPanel + (((column % kPanel / 8) ^ (row % 8)) * 8) + column % 8;
}

// A warp's 16 rows of sums. Of a lane's numbers, number i lies in row sums_row(i), column sums_column(i).
template <int kColumns>
struct Sums {
    float x[kColumns / 2];
    DS_DEVICE void clear() {
#pragma unroll
        for (int i = 0; i < kColumns / 2; ++i) x[i] = 0;
    }
};
DS_DEVICE int sums_row(int i) { return threadIdx.x % kWarp / 4 + i % 4 / 2 * 8; }
DS_DEVICE int sums_column(int i) { return i / 4 * 8 + threadIdx.x % 4 * 2 + i % 2; }

}  // namespace ds::cuda

#ifdef DS_CUDA_EMULATED
#include "tests/cuda/emulate/tiles.h"
#else

namespace ds::cuda {

// Copies of 16 or 4 bytes that go on while the thread does; both sides lie at multiples of that. A thread sees its own after waiting,
// others behind a barrier.
template <class T>
DS_DEVICE void copy8_async(Shared<T> to, int at, Span<T> from, int64_t i) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(static_cast<uint32_t>(__cvta_generic_to_shared(to.data + at))),
                 "l"(from.data + i)
                 : "memory");
}
DS_DEVICE void copy_async(Shared<float> to, int at, Span<const float> from, int64_t i) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(static_cast<uint32_t>(__cvta_generic_to_shared(to.data + at))),
                 "l"(from.data + i)
                 : "memory");
}
// What this thread wrote to tiles and copied there can be read by products of the block behind the next barrier.
DS_DEVICE void finish_tiles() {
    asm volatile("cp.async.wait_all;" ::: "memory");
#if __CUDA_ARCH__ >= 900
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

// One for a whole warp, which the compiler can't know by itself.
DS_DEVICE int uniform(int x) { return __shfl_sync(0xffffffffu, x, 0); }

// 2^x, its error below 2^-22 of it
DS_DEVICE float fast_exp2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

template <class T>
DS_DEVICE uint32_t pair_of(float low, float high);
template <>
DS_DEVICE uint32_t pair_of<bf16>(float low, float high) {
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}
template <>
DS_DEVICE uint32_t pair_of<f16>(float low, float high) {
    uint32_t pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}
// Two neighbours; they lie at a multiple of 4 bytes.
template <class T>
DS_DEVICE void put_pair(Span<T> to, int64_t i, float low, float high) {
    *reinterpret_cast<uint32_t*>(to.data + i) = pair_of<T>(low, high);
}

// Weights as left operands: four registers for each 16 columns.
template <class T, int kColumns>
struct Operands {
    uint32_t a[kColumns / 4];
    DS_DEVICE void take(const Sums<kColumns>& w) {
#pragma unroll
        for (int i = 0; i < kColumns / 4; ++i) a[i] = pair_of<T>(w.x[i * 2], w.x[i * 2 + 1]);
    }
};

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

// The descriptor by which wgmma finds a matrix in a tile: groups of eight rows 1024 bytes apart, 128-byte swizzle.
DS_DEVICE uint64_t descriptor_of(const void* at) {
    const uint64_t address = static_cast<uint32_t>(__cvta_generic_to_shared(at));
    return (address & 0x3FFFF) >> 4 | uint64_t{1} << 16 | uint64_t{1024 >> 4} << 32 | uint64_t{1} << 62;
}

#define DS_8(x, i) \
    "+f"(x[i]), "+f"(x[i + 1]), "+f"(x[i + 2]), "+f"(x[i + 3]), "+f"(x[i + 4]), "+f"(x[i + 5]), "+f"(x[i + 6]), "+f"(x[i + 7])
#define DS_32(x, i) DS_8(x, i), DS_8(x, i + 8), DS_8(x, i + 16), DS_8(x, i + 24)
#define DS_NAMES_32 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define DS_NAMES_64 \
    DS_NAMES_32     \
    ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define DS_WGMMA(columns, type) "wgmma.mma_async.sync.aligned.m64n" columns "k16.f32." type "." type " "
// x (+)= a b^T, both in tiles
#define DS_ROWS_64(type)                                                                                                      \
    asm volatile("{.reg .pred p; setp.ne.b32 p, %34, 0; " DS_WGMMA("64", type) "{" DS_NAMES_32 "}, %32, %33, p, 1, 1, 0, 0;}" \
                 : DS_32(x, 0)                                                                                                \
                 : "l"(a), "l"(b), "r"(adds))
#define DS_ROWS_128(type)                                                                                                      \
    asm volatile("{.reg .pred p; setp.ne.b32 p, %66, 0; " DS_WGMMA("128", type) "{" DS_NAMES_64 "}, %64, %65, p, 1, 1, 0, 0;}" \
                 : DS_32(x, 0), DS_32(x, 32)                                                                                   \
                 : "l"(a), "l"(b), "r"(adds))
// x += a b, a in registers
#define DS_WEIGHTED_64(type)                                                                   \
    asm volatile(DS_WGMMA("64", type) "{" DS_NAMES_32 "}, {%32,%33,%34,%35}, %36, 1, 1, 1, 1;" \
                 : DS_32(x, 0)                                                                 \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))

template <class T, int kColumns>
DS_DEVICE void wgmma_rows(float* x, uint64_t a, uint64_t b, int adds) {
    constexpr bool kIsBf16 = std::is_same_v<T, bf16>;
    if constexpr (kColumns == 64 && kIsBf16) DS_ROWS_64("bf16");
    else if constexpr (kColumns == 64) DS_ROWS_64("f16");
    else if constexpr (kIsBf16) DS_ROWS_128("bf16");
    else DS_ROWS_128("f16");
}
template <class T>
DS_DEVICE void wgmma_weighted(float* x, const uint32_t* a, uint64_t b) {
    if constexpr (std::is_same_v<T, bf16>) DS_WEIGHTED_64("bf16");
    else DS_WEIGHTED_64("f16");
}

DS_DEVICE void before_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DS_DEVICE void after_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

template <int kRows, int kWidth, int kColumns, class T>
DS_DEVICE void start_rows(Sums<kColumns>& sums, Shared<T> a, int group, Shared<T> b) {
    const uint64_t left = descriptor_of(a.data + group * kGroupRows * kPanel), right = descriptor_of(b.data);
    before_products();
#pragma unroll
    for (int k = 0; k < kWidth / 16; ++k) {
        const int in_panel = k % 4 * 32, panel = k / 4 * kPanel * 2;
        wgmma_rows<T, kColumns>(sums.x, left + (panel * kRows + in_panel) / 16, right + (panel * kColumns + in_panel) / 16, k > 0);
    }
    after_products();
}

template <int kWidth, int kColumns, class T>
DS_DEVICE void start_weighted(Sums<kWidth>& sums, const Operands<T, kColumns>& weights, Shared<T> b) {
    const uint64_t right = descriptor_of(b.data);
    before_products();
#pragma unroll
    for (int k = 0; k < kColumns / 16; ++k)
#pragma unroll
        for (int panel = 0; panel < kWidth / kPanel; ++panel)
            wgmma_weighted<T>(sums.x + panel * 32, weights.a + 4 * k, right + (panel * kColumns + k * 16) * kPanel * 2 / 16);
    after_products();
}

template <int kUnderWay>
DS_DEVICE void await_products() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kUnderWay) : "memory");
}
// The compiler reads no sum before what was awaited.
template <int kColumns>
DS_DEVICE void settle(Sums<kColumns>& sums) {
#pragma unroll
    for (int i = 0; i < kColumns / 2; ++i) asm volatile("" : "+f"(sums.x[i])::"memory");
}

#undef DS_8
#undef DS_32
#undef DS_NAMES_32
#undef DS_NAMES_64
#undef DS_WGMMA
#undef DS_ROWS_64
#undef DS_ROWS_128
#undef DS_WEIGHTED_64

#else

// Four matrices of 8 x 8; a lane brings the place of a row.
template <bool kTransposed, class T>
DS_DEVICE void load_matrices(uint32_t* to, Shared<T> tile, int at) {
    const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(tile.data + at));
    if constexpr (kTransposed)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                     : "r"(address)
                     : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                     : "r"(address)
                     : "memory");
}
// x, 16 x 8, += a, 16 x 16, times b, 16 x 8
template <class T>
DS_DEVICE void add_product(float* x, const uint32_t* a, const uint32_t* b) {
    if constexpr (std::is_same_v<T, bf16>)
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                     : "+f"(x[0]), "+f"(x[1]), "+f"(x[2]), "+f"(x[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    else
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                     : "+f"(x[0]), "+f"(x[1]), "+f"(x[2]), "+f"(x[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

template <int kRows, int kWidth, int kColumns, class T>
DS_DEVICE void start_rows(Sums<kColumns>& sums, Shared<T> a, int group, Shared<T> b) {
    const int lane = threadIdx.x % kWarp, row = group * kGroupRows + threadIdx.x % kGroupThreads / kWarp * 16;
    sums.clear();
#pragma unroll
    for (int k = 0; k < kWidth; k += 16) {
        uint32_t left[4];
        load_matrices<false>(left, a, place_in_tile(kRows, row + lane % 16, k + lane / 16 * 8));
#pragma unroll
        for (int n = 0; n < kColumns; n += 16) {
            uint32_t right[4];
            load_matrices<false>(right, b, place_in_tile(kColumns, n + lane / 16 * 8 + lane % 8, k + lane / 8 % 2 * 8));
            add_product<T>(sums.x + n / 2, left, right);
            add_product<T>(sums.x + n / 2 + 4, left, right + 2);
        }
    }
}

template <int kWidth, int kColumns, class T>
DS_DEVICE void start_weighted(Sums<kWidth>& sums, const Operands<T, kColumns>& weights, Shared<T> b) {
    const int lane = threadIdx.x % kWarp;
#pragma unroll
    for (int k = 0; k < kColumns; k += 16)
#pragma unroll
        for (int n = 0; n < kWidth; n += 16) {
            uint32_t right[4];
            load_matrices<true>(right, b, place_in_tile(kColumns, k + lane / 8 % 2 * 8 + lane % 8, n + lane / 16 * 8));
            add_product<T>(sums.x + n / 2, weights.a + k / 4, right);
            add_product<T>(sums.x + n / 2 + 4, weights.a + k / 4, right + 2);
        }
}

template <int kUnderWay>
DS_DEVICE void await_products() {}
template <int kColumns>
DS_DEVICE void settle(Sums<kColumns>&) {}

#endif

}  // namespace ds::cuda
#endif
