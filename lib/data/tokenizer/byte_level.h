// GPT-2's printable stand-ins for bytes: each byte is one code point that is no blank and no control character.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "data/tokenizer/unicode.h"

namespace ds::tokenizer {

// '!'..'~', 0xA1..0xAC and 0xAE..0xFF stand for themselves, the others for 256, 257 ... in order.
constexpr std::array<char32_t, 256> byte_level_table() {
    std::array<char32_t, 256> table{};
    char32_t next = 256;
    for (char32_t b = 0; b < 256; ++b) {
        const bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
        table[b] = printable ? b : next++;
    }
    return table;
}
inline constexpr auto kByteLevel = byte_level_table();

// The byte that a code point stands for, or -1.
constexpr std::array<int16_t, 324> byte_level_inverse() {
    std::array<int16_t, 324> inverse{};
    for (auto& byte : inverse) byte = -1;
    for (size_t b = 0; b < 256; ++b) inverse[kByteLevel[b]] = static_cast<int16_t>(b);
    return inverse;
}
inline constexpr auto kByteLevelInverse = byte_level_inverse();

// The bytes that a token stands for, unless it holds something that stands for no byte.
inline std::optional<std::string> bytes_of_token(std::string_view token) {
    std::string bytes;
    for (size_t i = 0; i < token.size();) {
        const char32_t c = next_code_point(token, i);
        if (c >= kByteLevelInverse.size() || kByteLevelInverse[c] < 0) return std::nullopt;
        bytes.push_back(static_cast<char>(kByteLevelInverse[c]));
    }
    return bytes;
}

}  // namespace ds::tokenizer
