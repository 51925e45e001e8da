// Four 32-bit words in a register, as pack.cpp moves them about: SSE2's on x86-64, elsewhere the compiler's vectors. (Debian's Highway has
// nothing of 128 bits below AVX2.)
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <emmintrin.h>

namespace ds::cpu {

using Words4 = __m128i;
inline Words4 zero4() { return _mm_setzero_si128(); }
inline Words4 load4(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
inline Words4 load2(const void* p) { return _mm_loadl_epi64(static_cast<const __m128i*>(p)); }  // and zeros
inline Words4 words_of(float a, float b, float c, float d) { return _mm_castps_si128(_mm_setr_ps(a, b, c, d)); }
inline void store4(Words4 v, void* p) { _mm_storeu_si128(static_cast<__m128i*>(p), v); }
inline void store2(Words4 v, void* p) { _mm_storel_epi64(static_cast<__m128i*>(p), v); }
inline Words4 widen4(const void* halves) {
    return _mm_unpacklo_epi16(zero4(), _mm_loadl_epi64(static_cast<const __m128i*>(halves)));
}  // each is the upper half of a word
// The lower and the upper halves of a and b, mixed word by word or pair by pair.
inline Words4 low_words(Words4 a, Words4 b) { return _mm_unpacklo_epi32(a, b); }
inline Words4 high_words(Words4 a, Words4 b) { return _mm_unpackhi_epi32(a, b); }
inline Words4 low_pairs(Words4 a, Words4 b) { return _mm_unpacklo_epi64(a, b); }
inline Words4 high_pairs(Words4 a, Words4 b) { return _mm_unpackhi_epi64(a, b); }

}  // namespace ds::cpu
#else

namespace ds::cpu {

typedef uint32_t Words4 __attribute__((vector_size(16)));
inline Words4 zero4() { return Words4{}; }
inline Words4 load4(const void* p) {
    Words4 v;
    std::memcpy(&v, p, sizeof(v));
    return v;
}
inline Words4 load2(const void* p) {
    Words4 v{};
    std::memcpy(&v, p, sizeof(v) / 2);
    return v;
}
inline Words4 words_of(float a, float b, float c, float d) {
    const float v[4] = {a, b, c, d};
    return load4(v);
}
inline void store4(Words4 v, void* p) { std::memcpy(p, &v, sizeof(v)); }
inline void store2(Words4 v, void* p) { std::memcpy(p, &v, sizeof(v) / 2); }
inline Words4 widen4(const void* halves) {
    uint16_t h[4];
    std::memcpy(h, halves, sizeof(h));
    return Words4{uint32_t{h[0]} << 16, uint32_t{h[1]} << 16, uint32_t{h[2]} << 16, uint32_t{h[3]} << 16};
}
inline Words4 low_words(Words4 a, Words4 b) { return __builtin_shufflevector(a, b, 0, 4, 1, 5); }
inline Words4 high_words(Words4 a, Words4 b) { return __builtin_shufflevector(a, b, 2, 6, 3, 7); }
inline Words4 low_pairs(Words4 a, Words4 b) { return __builtin_shufflevector(a, b, 0, 1, 4, 5); }
inline Words4 high_pairs(Words4 a, Words4 b) { return __builtin_shufflevector(a, b, 2, 3, 6, 7); }

}  // namespace ds::cpu
#endif
