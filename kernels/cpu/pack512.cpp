// Packing for tile.h with AVX-512: 16 rows x 16 units at a time, in registers. Operands lie along k or along rows, packed ones unit-major
// or (AMX) row by row; where the two differ, the 16 x 16 words are transposed on the way. Debian's Highway lacks AVX512_BF16: see
// tile_bf16.cpp.
#include <algorithm>

#include "kernels/cpu/tile.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")
#include <immintrin.h>

namespace ds::cpu::detail {
namespace {

constexpr int64_t kWords = 16;

__mmask16 first16(int64_t n) { return n >= 16 ? 0xffff : n <= 0 ? 0 : static_cast<__mmask16>((1u << n) - 1); }
__mmask32 first32(int64_t n) { return n >= 32 ? ~0u : n <= 0 ? 0 : (1u << n) - 1; }

// 16 units of one row, of which n elements of k exist.
template <int step>
__m512i along_k(const float* p, int64_t n) {
    if constexpr (step == 1) return _mm512_castps_si512(_mm512_maskz_loadu_ps(first16(n), p));
    else return (__m512i)_mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps(first16(n - 16), p + 16), _mm512_maskz_loadu_ps(first16(n), p));
}
template <int step>
__m512i along_k(const BF16* p, int64_t n) {
    return _mm512_maskz_loadu_epi16(first32(n), p);
}

// One unit of 16 rows: element k of each, and (step 2) that of the next k where there is one.
template <int step>
__m512i along_rows(const float* p, const float* next, __mmask16 rows) {
    if constexpr (step == 1) {
        return _mm512_castps_si512(_mm512_maskz_loadu_ps(rows, p));
    } else {
        const auto low = (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(rows, p));
        const auto high = (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(next ? rows : 0, next ? next : p));
        return _mm512_or_si512(_mm512_cvtepu16_epi32(low), _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16));
    }
}
template <int step>
__m512i along_rows(const BF16* p, const BF16* next, __mmask16 rows) {
    const __m256i low = _mm256_maskz_loadu_epi16(rows, p), high = _mm256_maskz_loadu_epi16(next ? rows : 0, next ? next : p);
    return _mm512_or_si512(_mm512_cvtepu16_epi32(low), _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16));
}

void transpose(__m512i r[kWords]) {
    __m512i t[kWords];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {  // 4 x 4 words within 128-bit lanes
        const __m512i a = _mm512_unpacklo_epi32(r[4 * i], r[4 * i + 1]), b = _mm512_unpackhi_epi32(r[4 * i], r[4 * i + 1]),
                      c = _mm512_unpacklo_epi32(r[4 * i + 2], r[4 * i + 3]), e = _mm512_unpackhi_epi32(r[4 * i + 2], r[4 * i + 3]);
        t[4 * i] = _mm512_unpacklo_epi64(a, c), t[4 * i + 1] = _mm512_unpackhi_epi64(a, c);
        t[4 * i + 2] = _mm512_unpacklo_epi64(b, e), t[4 * i + 3] = _mm512_unpackhi_epi64(b, e);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {  // then 4 x 4 lanes
        const __m512i a = _mm512_shuffle_i32x4(t[i], t[i + 4], 0x88), b = _mm512_shuffle_i32x4(t[i], t[i + 4], 0xdd),
                      c = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0x88), e = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0xdd);
        r[i] = _mm512_shuffle_i32x4(a, c, 0x88), r[i + 8] = _mm512_shuffle_i32x4(a, c, 0xdd);
        r[i + 4] = _mm512_shuffle_i32x4(b, e, 0x88), r[i + 12] = _mm512_shuffle_i32x4(b, e, 0xdd);
    }
}

enum class Order { units, rows };

template <class T, int step, Order order>
class Packing {
public:
    Packing(const void* src, int64_t stride, int64_t k, int64_t n, float* dst, int64_t width, int64_t panel_stride, int64_t units)
        : src_(static_cast<const T*>(src)),
          stride_(stride),
          k_(k),
          n_(n),
          dst_(dst),
          width_(width),
          panel_stride_(panel_stride),
          units_(units) {}

    void from_rows() const {
        for (int64_t panel = 0; panel < n_; panel += width_)
            for (int64_t i = 0; i < width_; i += kWords)
                for (int64_t u = 0; u < units_; u += kWords) row_block(panel, i, u);
    }
    // A few panels at a time, so that whole lines of the source are used while the cache holds them. What the next units read and write
    // is fetched meanwhile: rows lie too far apart for the processor to foresee.
    void from_k() const {
        const int64_t group = (512 + width_ - 1) / width_ * width_;
        for (int64_t first = 0; first < n_; first += group)
            for (int64_t u = 0; u < units_; u += kWords)
                for (int64_t panel = first; panel < n_ && panel < first + group; panel += width_)
                    for (int64_t i = 0; i < width_; i += kWords) unit_block(panel, i, u);
    }

private:
    void row_block(int64_t panel, int64_t i, int64_t u) const {
        const int64_t rows = std::min(n_ - panel, width_) - i, elements = k_ - u * step;
        const T* p = src_ + (panel + i) * stride_ + u * step;
        __m512i r[kWords];
#pragma GCC unroll 16
        for (int64_t j = 0; j < kWords; ++j)
            r[j] = j < rows && elements > 0 ? along_k<step>(p + j * stride_, elements) : _mm512_setzero_si512();
        if (order == Order::units) transpose(r);
        store(panel, i, u, r);
    }
    void unit_block(int64_t panel, int64_t i, int64_t u) const {
        const __mmask16 rows = first16(std::min(n_ - panel, width_) - i);
        const int64_t elements = k_ - u * step;
        const T* p = src_ + u * step * stride_ + panel + i;
        __m512i r[kWords];
#pragma GCC unroll 16
        for (int64_t j = 0; j < kWords; ++j, p += step * stride_) {
            r[j] = j * step < elements ? along_rows<step>(p, step == 2 && j * step + 1 < elements ? p + stride_ : nullptr, rows)
                                       : _mm512_setzero_si512();
            for (int64_t row = 0; row < step; ++row) __builtin_prefetch(p + (kWords * step + row) * stride_, 0, 2);
        }
        if (order == Order::rows) transpose(r);
        store(panel, i, u, r);
    }
    void store(int64_t panel, int64_t i, int64_t u, const __m512i r[kWords]) const {
        float* to = dst_ + panel / width_ * panel_stride_ + u * width_;
        if (i == 0)
            for (int64_t line = 0; line < width_; ++line) __builtin_prefetch(to + (width_ + line) * kWords, 1, 2);
        const __mmask16 words = first16(width_ - i);
        if constexpr (order == Order::rows) {  // whole blocks: AMX's grain
#pragma GCC unroll 16
            for (int64_t j = 0; j < kWords; ++j) _mm512_storeu_si512(to + (i + j) * kWords, r[j]);
        } else if (units_ - u >= kWords) {
#pragma GCC unroll 16
            for (int64_t j = 0; j < kWords; ++j) _mm512_mask_storeu_epi32(to + j * width_ + i, words, r[j]);
        } else {
            for (int64_t j = 0; j < units_ - u; ++j) _mm512_mask_storeu_epi32(to + j * width_ + i, words, r[j]);
        }
    }

    const T* src_;
    int64_t stride_, k_, n_;
    float* dst_;
    int64_t width_, panel_stride_, units_;
};

template <class T, int step, Order order>
void pack(const void* src, int64_t stride, bool k_major, int64_t k, int64_t n, float* dst, int64_t width, int64_t panel_stride,
          int64_t grain) {
    const int64_t units = ((k + step - 1) / step + grain - 1) / grain * grain;
    const Packing<T, step, order> p(src, stride, k, n, dst, width, panel_stride, units);
    if (k_major) p.from_k();
    else p.from_rows();
}

template <Order order>
void pack_pairs(DType type, const void* src, int64_t stride, bool k_major, int64_t k, int64_t n, float* dst, int64_t width,
                int64_t panel_stride, int64_t grain) {
    if (type == DType::bf16) pack<BF16, 2, order>(src, stride, k_major, k, n, dst, width, panel_stride, grain);
    else pack<float, 2, order>(src, stride, k_major, k, n, dst, width, panel_stride, grain);
}

// 8 columns of 32 k, which become rows of 64 bytes. Loads bring every eighth k into one register's quarters, so that only 8 x 8 words
// within quarters remain to be transposed.
void columns8(const BF16* src, int64_t stride, BF16* to) {
    __m512i r[8], t[8];
#pragma GCC unroll 8
    for (int64_t j = 0; j < 8; ++j) {
        const auto quarter = [&](int64_t q) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(src + (8 * q + j) * stride)); };
        r[j] = _mm512_inserti32x4(_mm512_inserti32x4(_mm512_inserti32x4(_mm512_castsi128_si512(quarter(0)), quarter(1), 1), quarter(2), 2),
                                  quarter(3), 3);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) t[i] = _mm512_unpacklo_epi16(r[i], r[i + 1]), t[i + 1] = _mm512_unpackhi_epi16(r[i], r[i + 1]);
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4)
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half) {  // columns 4 half + {0, 1}, then {2, 3}, of four k
            r[i + 2 * half] = _mm512_unpacklo_epi32(t[i + half], t[i + 2 + half]);
            r[i + 2 * half + 1] = _mm512_unpackhi_epi32(t[i + half], t[i + 2 + half]);
        }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
        _mm512_storeu_si512(to + 2 * i * 32, _mm512_unpacklo_epi64(r[i], r[i + 4]));
        _mm512_storeu_si512(to + (2 * i + 1) * 32, _mm512_unpackhi_epi64(r[i], r[i + 4]));
    }
}

// The transposed left operand of AMX, in panels of 32.
void pack_columns(const BF16* src, int64_t stride, int64_t k, int64_t n, float* dst, int64_t panel_stride) {
    constexpr int64_t panel = 2 * kWords, step = 2 * kWords;
    const int64_t whole_k = k / step * step, whole_n = n / panel * panel;
    constexpr int64_t group = 512;  // whole lines of the source are used while the cache holds them
    for (int64_t first = 0; first < whole_n; first += group)
        for (int64_t at = 0; at < whole_k; at += step)
            for (int64_t i = first; i < std::min(whole_n, first + group); i += 8)
                columns8(src + at * stride + i, stride,
                         reinterpret_cast<BF16*>(dst + i / panel * panel_stride) + at * panel + i % panel * step);
    const auto rest = [&](int64_t k0, int64_t ks, int64_t i0, int64_t count) {
        if (ks > 0 && count > 0)
            pack<BF16, 2, Order::rows>(src + k0 * stride + i0, stride, true, ks, count, dst + i0 / panel * panel_stride + k0 * panel / 2,
                                       panel, panel_stride, kWords);
    };
    rest(0, k, whole_n, n - whole_n);
    rest(whole_k, k - whole_k, 0, whole_n);
}

}  // namespace

void pack512_f32(DType type, const void* src, int64_t stride, bool k_major, int64_t k, int64_t n, float* dst, int64_t width,
                 int64_t panel_stride) {
    if (type == DType::f32) pack<float, 1, Order::units>(src, stride, k_major, k, n, dst, width, panel_stride, 1);
    else pack_f32(type, src, stride, k_major, k, n, dst, width, panel_stride);
}
void pack512_bf16(DType type, const void* src, int64_t stride, bool k_major, int64_t k, int64_t n, float* dst, int64_t width,
                  int64_t panel_stride) {
    pack_pairs<Order::units>(type, src, stride, k_major, k, n, dst, width, panel_stride, 1);
}
void pack512_amx_a(DType type, const void* src, int64_t stride, bool k_major, int64_t k, int64_t n, float* dst, int64_t width,
                   int64_t panel_stride) {
    if (type == DType::bf16 && k_major && width == 2 * kWords)
        return pack_columns(static_cast<const BF16*>(src), stride, k, n, dst, panel_stride);
    pack_pairs<Order::rows>(type, src, stride, k_major, k, n, dst, width, panel_stride, kWords);
}
void pack512_amx_b(DType type, const void* src, int64_t stride, bool k_major, int64_t k, int64_t n, float* dst, int64_t width,
                   int64_t panel_stride) {
    pack_pairs<Order::units>(type, src, stride, k_major, k, n, dst, width, panel_stride, kWords);
}

}  // namespace ds::cpu::detail
#pragma GCC pop_options
