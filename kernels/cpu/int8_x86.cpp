// int8.h's sums by AMX (AMX-INT8) and by AVX512_VNNI.
#include "kernels/cpu/int8.h"

#include <algorithm>

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512vnni,amx-tile,amx-int8")
#include <immintrin.h>

namespace ds::cpu::detail {
namespace {

// Registers: sums 0 and 1 of the first 16 rows, 2 and 3 of the others; rows 4, 5; panels 6, 7.
template <bool two_down, bool two_across>
void by_tiles(int64_t steps, const int8_t* a, int64_t stride, const uint8_t* b, int64_t panel_stride, int32_t* sums) {
    constexpr int64_t kRow = kInt8Columns * 4, kStep = 1024;
    _tile_zero(0);
    if (two_across) _tile_zero(1);
    if (two_down) _tile_zero(2);
    if (two_down && two_across) _tile_zero(3);
    for (int64_t s = 0; s < steps; ++s, a += 64, b += kStep) {
        _tile_loadd(6, b, 64);
        if (two_across) _tile_loadd(7, b + panel_stride, 64);
        _tile_loadd(4, a, stride);
        if (two_down) _tile_loadd(5, a + 16 * stride, stride);
        _tile_dpbssd(0, 4, 6);
        if (two_across) _tile_dpbssd(1, 4, 7);
        if (two_down) _tile_dpbssd(2, 5, 6);
        if (two_down && two_across) _tile_dpbssd(3, 5, 7);
    }
    _tile_stored(0, sums, kRow);
    if (two_across) _tile_stored(1, sums + 16, kRow);
    if (two_down) _tile_stored(2, sums + 16 * kInt8Columns, kRow);
    if (two_down && two_across) _tile_stored(3, sums + 16 * kInt8Columns + 16, kRow);
}

template <int rows, int panels>
void by_vectors(int64_t steps, const int8_t* a, int64_t stride, const uint8_t* b, int64_t panel_stride, int32_t* sums) {
    __m512i sum[rows][panels];
    for (auto& row : sum)
        for (auto& s : row) s = _mm512_setzero_si512();
    for (int64_t group = 0; group < 16 * steps; ++group) {
        __m512i weight[panels];
#pragma GCC unroll 2
        for (int p = 0; p < panels; ++p) weight[p] = _mm512_loadu_si512(b + p * panel_stride + 64 * group);
#pragma GCC unroll 8
        for (int r = 0; r < rows; ++r) {
            const __m512i four = _mm512_set1_epi32(*reinterpret_cast<const int32_t*>(a + r * stride + 4 * group));
#pragma GCC unroll 2
            for (int p = 0; p < panels; ++p) sum[r][p] = _mm512_dpbusd_epi32(sum[r][p], four, weight[p]);
        }
    }
    for (int r = 0; r < rows; ++r)
        for (int p = 0; p < panels; ++p) _mm512_storeu_si512(sums + r * kInt8Columns + 16 * p, sum[r][p]);
}

using Vectors = void (*)(int64_t, const int8_t*, int64_t, const uint8_t*, int64_t, int32_t*);
constexpr Vectors kVectors[2][8] = {{by_vectors<1, 1>, by_vectors<2, 1>, by_vectors<3, 1>, by_vectors<4, 1>, by_vectors<5, 1>,
                                     by_vectors<6, 1>, by_vectors<7, 1>, by_vectors<8, 1>},
                                    {by_vectors<1, 2>, by_vectors<2, 2>, by_vectors<3, 2>, by_vectors<4, 2>, by_vectors<5, 2>,
                                     by_vectors<6, 2>, by_vectors<7, 2>, by_vectors<8, 2>}};

}  // namespace

void int8_amx(int64_t rows, int64_t steps, const int8_t* a, int64_t stride, const uint8_t* b, int64_t panels, int64_t panel_stride,
              int32_t* sums) {
    const bool down = rows > 16, across = panels > 1;
    asm volatile("" ::: "memory");  // GCC does not know that tiles touch memory
    (down     ? across ? by_tiles<true, true> : by_tiles<true, false>
         : across ? by_tiles<false, true>
              : by_tiles<false, false>)(steps, a, stride, b, panel_stride, sums);
    asm volatile("" ::: "memory");
}

void int8_vnni(int64_t rows, int64_t steps, const int8_t* a, int64_t stride, const uint8_t* b, int64_t panels, int64_t panel_stride,
               int32_t* sums) {
    for (int64_t r = 0; r < rows; r += 8)
        kVectors[panels - 1][std::min<int64_t>(rows - r, 8) - 1](steps, a + r * stride, stride, b, panel_stride, sums + r * kInt8Columns);
}

}  // namespace ds::cpu::detail
#pragma GCC pop_options
