// Register tiles over pairs of bf16 with AVX512_BF16's dot product. Debian's Highway 1.0.3 lacks it, so its intrinsics stand here alone;
// tiles(true) hands these out only where the processor has them.
#include <algorithm>

#include "kernels/cpu/tile.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")
#include <immintrin.h>

namespace ds::cpu::detail {
namespace {

// A unit: a pair of columns of a times a pair of rows of b.
template <int rows, int vectors, class A>
inline __attribute__((always_inline)) void add_unit(const A& a, const float* b, __m512 (&sum)[rows][vectors]) {
    __m512bh columns[vectors];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) columns[v] = (__m512bh)_mm512_loadu_ps(b + 16 * v);
#pragma GCC unroll 12
    for (int i = 0; i < rows; ++i) {
        const __m512bh row = (__m512bh)_mm512_set1_ps(a(i));
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) sum[i][v] = _mm512_dpbf16_ps(sum[i][v], row, columns[v]);
    }
}

template <int rows, int vectors, class A>
void tile(int64_t, int64_t units, const float* from_a, int64_t a_stride, const float* b, int64_t b_stride, float* c, int64_t c_stride,
          bool add, const Ahead& ahead) {
    __m512 sum[rows][vectors];
#pragma GCC unroll 12
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) sum[i][v] = _mm512_setzero_ps();
    A a(from_a, a_stride);
    Fetching fetching(ahead);
    int64_t u = 0;
    for (const int64_t lines = std::min(ahead.lines * ahead.rows, units); u < lines; ++u, a.next(), b += b_stride) {
        fetching.next();
        add_unit(a, b, sum);
    }
    for (; u < units; ++u, a.next(), b += b_stride) add_unit(a, b, sum);
#pragma GCC unroll 12
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) {
            float* to = c + i * c_stride + 16 * v;
            _mm512_storeu_ps(to, add ? _mm512_add_ps(sum[i][v], _mm512_loadu_ps(to)) : sum[i][v]);
        }
}

template <int rows>
constexpr void fill(Bf16Tiles& set) {
    if constexpr (rows > 0) {
        set.tile[0][rows - 1] = tile<rows, 1, PackedRows>, set.tile[1][rows - 1] = tile<rows, 2, PackedRows>;
        set.row_tile[0][rows - 1] = tile<rows, 1, RowsAsTheyLie>, set.row_tile[1][rows - 1] = tile<rows, 2, RowsAsTheyLie>;
        fill<rows - 1>(set);
    }
}

}  // namespace

// A constant: no code of this file may run where these instructions are lacking.
constinit const Bf16Tiles kBf16Tiles = [] {
    Bf16Tiles set;
    fill<Bf16Tiles::kRows>(set);
    return set;
}();

void store_rows_bf16(const float* src, int64_t src_stride, int64_t rows, int64_t columns, uint16_t* dst, int64_t dst_stride) {
    for (int64_t i = 0; i < rows; ++i, src += src_stride, dst += dst_stride)
        for (int64_t j = 0; j < columns; j += 16) {
            const __mmask16 mask = columns - j >= 16 ? 0xffff : static_cast<__mmask16>((1u << (columns - j)) - 1);
            _mm256_mask_storeu_epi16(dst + j, mask, (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, src + j)));
        }
}

}  // namespace ds::cpu::detail
#pragma GCC pop_options
