// Base64 (RFC 4648), as tokenizer.json holds its binary parts.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace ds::tokenizer {

inline constexpr std::string_view kBase64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

inline std::optional<std::string> from_base64(std::string_view text) {
    int8_t digit[256];
    for (auto& d : digit) d = -1;
    for (size_t i = 0; i < kBase64.size(); ++i) digit[static_cast<unsigned char>(kBase64[i])] = static_cast<int8_t>(i);
    while (!text.empty() && text.back() == '=') text.remove_suffix(1);
    if (text.size() % 4 == 1) return std::nullopt;
    std::string bytes;
    bytes.reserve(text.size() * 3 / 4);
    uint32_t bits = 0;
    int n = 0;
    for (const char c : text) {
        const int d = digit[static_cast<unsigned char>(c)];
        if (d < 0) return std::nullopt;
        bits = bits << 6 | static_cast<uint32_t>(d);
        n += 6;
        if (n < 8) continue;
        n -= 8;
        bytes.push_back(static_cast<char>(bits >> n & 0xFF));
    }
    return bytes;
}

inline std::string to_base64(std::string_view bytes) {
    std::string text;
    text.reserve((bytes.size() + 2) / 3 * 4);
    for (size_t i = 0; i < bytes.size(); i += 3) {
        uint32_t bits = 0;
        for (size_t k = 0; k < 3; ++k) bits = bits << 8 | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0u);
        for (size_t k = 0; k < 4; ++k) text.push_back(i + k > bytes.size() ? '=' : kBase64[bits >> (18 - 6 * k) & 63]);
    }
    return text;
}

}  // namespace ds::tokenizer
