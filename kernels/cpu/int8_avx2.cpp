// int8.h's sums by AVX2.
#include "kernels/cpu/int8.h"

#include <algorithm>

#pragma GCC push_options
#pragma GCC target("avx2")
#include <immintrin.h>

namespace ds::cpu::detail {
namespace {

constexpr int64_t kDeep = 512;  // inputs of a that are made wide at a time

// Codes become 16 bits wide, so that sums of two products fit; each output's four inputs leave two sums, which are added at the end.
template <int rows>
void by_pairs(int64_t steps, const int8_t* a, int64_t stride, const uint8_t* b, int32_t* sums) {
    constexpr int kQuarters = 4;  // of a panel, four outputs each
    alignas(32) int16_t wide[rows][kDeep];
    __m256i sum[rows][kQuarters];
    for (auto& row : sum)
        for (auto& s : row) s = _mm256_setzero_si256();
    for (int64_t from = 0; from < 64 * steps; from += kDeep) {
        const int64_t deep = std::min(kDeep, 64 * steps - from);
        for (int r = 0; r < rows; ++r)
            for (int64_t i = 0; i < deep; i += 16) {
                const auto* codes = reinterpret_cast<const __m128i*>(a + r * stride + from + i);
                _mm256_store_si256(reinterpret_cast<__m256i*>(wide[r] + i), _mm256_cvtepi8_epi16(_mm_loadu_si128(codes)));
            }
        for (int64_t i = 0; i < deep; i += 4, b += 64) {
            __m256i four[rows];
#pragma GCC unroll 2
            for (int r = 0; r < rows; ++r) four[r] = _mm256_broadcastq_epi64(_mm_loadu_si64(wide[r] + i));
#pragma GCC unroll 4
            for (int q = 0; q < kQuarters; ++q) {
                const __m256i weight = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(b + 16 * q)));
#pragma GCC unroll 2
                for (int r = 0; r < rows; ++r) sum[r][q] = _mm256_add_epi32(sum[r][q], _mm256_madd_epi16(four[r], weight));
            }
        }
    }
    for (int r = 0; r < rows; ++r)
        for (int q = 0; q < kQuarters; q += 2) {
            const __m256i two = _mm256_hadd_epi32(sum[r][q], sum[r][q + 1]);
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums + r * kInt8Columns + 4 * q), _mm256_permute4x64_epi64(two, 0xD8));
        }
}

}  // namespace

void int8_avx2(int64_t rows, int64_t steps, const int8_t* a, int64_t stride, const uint8_t* b, int64_t panels, int64_t panel_stride,
               int32_t* sums) {
    for (int64_t r = 0; r < rows; r += 2)  // more rows' sums would not fit the registers
        for (int64_t p = 0; p < panels; ++p)
            (rows - r == 1 ? by_pairs<1> : by_pairs<2>)(steps, a + r * stride, stride, b + p * panel_stride,
                                                        sums + r * kInt8Columns + 16 * p);
}

}  // namespace ds::cpu::detail
#pragma GCC pop_options
