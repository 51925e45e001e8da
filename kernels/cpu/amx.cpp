#include "kernels/cpu/amx.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,amx-tile,amx-bf16")
#include <immintrin.h>

namespace ds::cpu::amx {
namespace {

// The compiler does not know that tile instructions touch memory: it must not move its own loads and stores across.
inline void memory_is_up_to_date() { asm volatile("" ::: "memory"); }

inline __mmask32 first(int64_t n) { return n >= 32 ? ~0u : n <= 0 ? 0u : (1u << n) - 1; }

// 32 and 8 elements of a source, rounded where they are f32; those that the mask leaves out are zero.
inline __m512i load32(const BF16* p, __mmask32 mask) { return _mm512_maskz_loadu_epi16(mask, p); }
inline __m512i load32(const float* p, __mmask32 mask) {
    return (__m512i)_mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps(static_cast<__mmask16>(mask >> 16), p + 16),
                                        _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), p));
}
inline __m128i load8(const BF16* p, __mmask8 mask) { return _mm_maskz_loadu_epi16(mask, p); }
inline __m128i load8(const float* p, __mmask8 mask) { return (__m128i)_mm256_cvtneps_pbh(_mm256_maskz_loadu_ps(mask, p)); }
inline __m128i load8(const BF16* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
inline __m128i load8(const float* p) { return (__m128i)_mm256_cvtneps_pbh(_mm256_loadu_ps(p)); }

// 16 rows of 4 units (4 bytes each, packed), `stride` elements apart, become 4 rows of 16 units, in a panel. Where `edge`, only `rows` x
// `count` elements are there.
template <bool edge, class T>
inline void transpose(const T* p, int64_t stride, BF16* to, int64_t rows = 16, int64_t count = 8) {
    const auto mask = static_cast<__mmask8>(first(count));
    const auto row = [&](int i) {
        const T* at = p + i * stride;
        if constexpr (edge) return load8(i < rows ? at : p, i < rows ? mask : __mmask8{0});
        else return load8(at);
    };
    __m512i r[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j)
        r[j] = _mm512_inserti32x4(_mm512_inserti32x4(_mm512_inserti32x4(_mm512_castsi128_si512(row(j)), row(4 + j), 1), row(8 + j), 2),
                                  row(12 + j), 3);
    const __m512i a = _mm512_unpacklo_epi32(r[0], r[1]), b = _mm512_unpackhi_epi32(r[0], r[1]);
    const __m512i c = _mm512_unpacklo_epi32(r[2], r[3]), d = _mm512_unpackhi_epi32(r[2], r[3]);
    _mm512_storeu_si512(to, _mm512_unpacklo_epi64(a, c));
    _mm512_storeu_si512(to + 64, _mm512_unpackhi_epi64(a, c));
    _mm512_storeu_si512(to + 128, _mm512_unpacklo_epi64(b, d));
    _mm512_storeu_si512(to + 192, _mm512_unpackhi_epi64(b, d));
}

constexpr int16_t kFirstHalf[32] = {0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
                                    8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
constexpr int16_t kSecondHalf[32] = {16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53, 22, 54, 23, 55,
                                     24, 56, 25, 57, 26, 58, 27, 59, 28, 60, 29, 61, 30, 62, 31, 63};

// Two rows of 32 elements become a row of pairs.
inline void pair_rows(__m512i a, __m512i b, BF16* to) {
    _mm512_storeu_si512(to, _mm512_permutex2var_epi16(a, _mm512_loadu_si512(kFirstHalf), b));
    _mm512_storeu_si512(to + 32, _mm512_permutex2var_epi16(a, _mm512_loadu_si512(kSecondHalf), b));
}

// The lines of 32 elements.
template <class T>
inline void fetch(const T* p) {
    for (int i = 0; i < 32; i += 64 / sizeof(T)) __builtin_prefetch(p + i, 0, 2);
}

}  // namespace

template <class T, bool k_major>
struct Pieces {
    // 256 bytes: columns of two pairs of k, or half of the columns of four pairs.
    static void next(Packer& p) {
        const Source& s = p.from_;
        const T* from = reinterpret_cast<const T*>(s.at);
        const int64_t step = p.piece_ / Packer::kPieces, part = p.piece_ % Packer::kPieces, columns = s.n - p.panel_ * kPanel,
                      ahead = p.ahead_ / static_cast<int64_t>(sizeof(T));
        BF16* to = p.to_ + p.panel_ * p.panel_stride_ + step * kStepSize;
        if constexpr (k_major) {
            const __mmask32 mask = first(columns);
#pragma GCC unroll 2
            for (int64_t u = 2 * part; u < 2 * part + 2; ++u) {
                const int64_t k = step * kStep + 2 * u;
                const T* at = from + k * s.stride + p.panel_ * kPanel;
                if (ahead) fetch(at + ahead), fetch(at + s.stride + ahead);
                pair_rows(load32(at, k < s.k ? mask : 0), load32(at + s.stride, k + 1 < s.k ? mask : 0), to + u * 64);
            }
            if (++p.panel_ == p.panels_) p.panel_ = 0, ++p.piece_;
        } else {
            // All quarters of a line one after the other.
            const int64_t half = part / 4, quarter = part % 4, k = step * kStep + 8 * quarter;
            const T* line = from + (p.panel_ * kPanel + 16 * half) * s.stride + step * kStep;
            if (ahead)
                for (int64_t row = 4 * quarter; row < 4 * quarter + 4; ++row) fetch(line + row * s.stride + ahead);
            to += half * 32 + quarter * 256;
            if (columns >= kPanel && k + 8 <= s.k) transpose<false>(line + 8 * quarter, s.stride, to);
            else transpose<true>(k < s.k ? line + 8 * quarter : from, s.stride, to, columns - 16 * half, s.k - k);
            if (++p.piece_ == p.of_panel_) p.piece_ = 0, ++p.panel_;
        }
        --p.left_;
    }
    static void some(Packer& p) {
        for (p.credit_ += p.all_; p.credit_ >= p.during_ && p.left_ > 0; p.credit_ -= p.during_) next(p);
    }
    static void rest(Packer& p) {
        while (p.left_ > 0) next(p);
    }
};

namespace {

// Calls f with the Pieces for a source.
template <class F>
void with_pieces(const Source& s, const F& f) {
    if (s.type == DType::f32) s.k_major ? f(Pieces<float, true>()) : f(Pieces<float, false>());
    else s.k_major ? f(Pieces<BF16, true>()) : f(Pieces<BF16, false>());
}
struct NoPieces {
    static void some(Packer&) {}
};

template <bool tall, bool wide, class Meanwhile>
void multiply_tiles(const BF16* left, const BF16* right, int64_t count, float* c, int64_t c_stride, bool accumulate, Packer* next) {
    const int64_t row = c_stride * 4;
    float* below = c + 16 * c_stride;
    memory_is_up_to_date();
    if (accumulate) {
        _tile_loadd(0, c, row);
        if (wide) _tile_loadd(1, c + 16, row);
        if (tall) _tile_loadd(2, below, row);
        if (tall && wide) _tile_loadd(3, below + 16, row);
    } else {
        _tile_zero(0);
        if (wide) _tile_zero(1);
        if (tall) _tile_zero(2);
        if (tall && wide) _tile_zero(3);
    }
    for (int64_t i = 0; i < count; ++i, left += kStepSize, right += kStepSize) {
        _tile_loadd(6, right, 128);
        if (wide) _tile_loadd(7, right + 32, 128);
        _tile_loadd(4, left, 64);
        if (tall) _tile_loadd(5, left + kStepSize / 2, 64);
        _tile_dpbf16ps(0, 4, 6);
        if (wide) _tile_dpbf16ps(1, 4, 7);
        if (tall) _tile_dpbf16ps(2, 5, 6);
        if (tall && wide) _tile_dpbf16ps(3, 5, 7);
        Meanwhile::some(*next);
    }
    _tile_stored(0, c, row);
    if (wide) _tile_stored(1, c + 16, row);
    if (tall) _tile_stored(2, below, row);
    if (tall && wide) _tile_stored(3, below + 16, row);
    memory_is_up_to_date();
}

template <class Meanwhile>
constexpr decltype(&multiply_tiles<true, true, Meanwhile>) kMultiply[2][2] = {
    {multiply_tiles<false, false, Meanwhile>, multiply_tiles<false, true, Meanwhile>},
    {multiply_tiles<true, false, Meanwhile>, multiply_tiles<true, true, Meanwhile>}};

inline __m512 load(const void* base, DType type, int64_t index, __mmask16 mask) {
    if (type == DType::f32) return _mm512_maskz_loadu_ps(mask, static_cast<const float*>(base) + index);
    const __m256i half = _mm256_maskz_loadu_epi16(mask, static_cast<const uint16_t*>(base) + index);
    if (type == DType::f16) return _mm512_cvtph_ps(half);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}
inline void store(__m512 v, void* base, DType type, int64_t index, __mmask16 mask) {
    if (type == DType::f32) return _mm512_mask_storeu_ps(static_cast<float*>(base) + index, mask, v);
    const __m256i half = type == DType::f16 ? _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT) : (__m256i)_mm512_cvtneps_pbh(v);
    _mm256_mask_storeu_epi16(static_cast<uint16_t*>(base) + index, mask, half);
}

}  // namespace

void Packer::rest() {
    with_pieces(from_, [this](auto pieces) { pieces.rest(*this); });
}

void multiply(const BF16* left, const BF16* right, int64_t steps, int64_t rows, int64_t columns, float* c, int64_t c_stride,
              bool accumulate, Packer* next) {
    const auto by = [&](auto meanwhile) {
        kMultiply<decltype(meanwhile)>[rows > 16][columns > 16](left, right, steps, c, c_stride, accumulate, next);
    };
    next ? with_pieces(next->source(), by) : by(NoPieces());
}

void begin(float* sums, int64_t sums_stride, int64_t rows, int64_t columns, const Into& into) {
    for (int64_t j = 0; j < columns; j += 16) {
        const auto mask = static_cast<__mmask16>(first(columns - j));
        for (int64_t i = 0; i < rows; ++i)
            _mm512_storeu_ps(sums + i * sums_stride + j, load(into.from, into.type, i * into.stride + j, mask));
    }
}

void streams_are_done() { _mm_sfence(); }

void finish(const float* sums, int64_t sums_stride, int64_t rows, int64_t columns, const Finish& f) {
    for (int64_t j = 0; j < columns; j += 16) {
        const auto mask = static_cast<__mmask16>(first(columns - j));
        const __m512 bias = f.bias ? _mm512_maskz_loadu_ps(mask, f.bias + j) : _mm512_setzero_ps();
        for (int64_t i = 0; i < rows; ++i) {
            __m512 v = _mm512_loadu_ps(sums + i * sums_stride + j);
            if (f.bias) v = _mm512_add_ps(v, bias);
            if (f.past_caches && columns - j >= 16) _mm512_stream_ps(static_cast<float*>(f.to) + i * f.stride + j, v);
            else store(v, f.to, f.type, i * f.stride + j, mask);
        }
    }
}

}  // namespace ds::cpu::amx
#pragma GCC pop_options
