// 8-bit floats: E4M3 (4 bits of exponent, 3 of mantissa, no infinity) and E5M2, as NVIDIA's GPUs and the OCP specification have them
// (Micikevicius et al. 2022, arXiv 2209.05433).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace ds {

inline constexpr float kMostE4M3 = 448, kMostE5M2 = 57344;

// Rounded to nearest even; what is larger than the largest number becomes that, a NaN stays one.
inline uint8_t to_f8(float x, bool e5m2) {
    const int mantissa = e5m2 ? 2 : 3, least = e5m2 ? -14 : -6;  // exponent of the smallest normal number
    const auto sign = static_cast<uint8_t>(std::signbit(x) ? 0x80 : 0);
    if (std::isnan(x)) return static_cast<uint8_t>(sign | 0x7f);
    const float size = std::min(std::abs(x), e5m2 ? kMostE5M2 : kMostE4M3);
    if (size == 0) return sign;
    const int exponent = std::max(std::ilogb(size), least);
    const auto units =
        static_cast<int>(std::nearbyint(std::ldexp(size, mantissa - exponent)));  // of the last place; may carry into the next exponent
    return static_cast<uint8_t>(sign | (((exponent - least) << mantissa) + units));
}

// What a tensor is multiplied with before it is rounded: its largest magnitude comes to lie at the format's.
inline float scale_of_f8(float most, bool e5m2) {
    const float scale = (e5m2 ? kMostE5M2 : kMostE4M3) / most;
    return most > 0 && std::isfinite(most) && std::isfinite(scale) ? scale : 1.0f;
}

}  // namespace ds
