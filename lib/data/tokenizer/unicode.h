// UTF-8 and the character classes that tokenizers split on.
//
// Everything here takes valid UTF-8; `repair_utf8` makes it so at the door. Categories come from utf8proc (Unicode 15).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace ds::tokenizer {

inline int utf8_bytes(char lead) {
    const auto c = static_cast<unsigned char>(lead);
    return c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
}

// Reads the code point at `at` and moves behind it.
inline char32_t next_code_point(std::string_view text, size_t& at) {
    const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[at + i]); };
    const int n = utf8_bytes(text[at]);
    char32_t c = byte(0);
    if (n == 2) c = ((c & 0x1F) << 6) | (byte(1) & 0x3F);
    else if (n == 3) c = ((c & 0x0F) << 12) | (static_cast<char32_t>(byte(1) & 0x3F) << 6) | (byte(2) & 0x3F);
    else if (n == 4)
        c = ((c & 0x07) << 18) | (static_cast<char32_t>(byte(1) & 0x3F) << 12) | (static_cast<char32_t>(byte(2) & 0x3F) << 6) |
            (byte(3) & 0x3F);
    at += static_cast<size_t>(n);
    return c;
}

// Where the code point that ends at `end` begins.
inline size_t previous_start(std::string_view text, size_t end) {
    do --end;
    while ((static_cast<unsigned char>(text[end]) & 0xC0) == 0x80);
    return end;
}

void append_utf8(std::string& text, char32_t c);
bool is_ascii(std::string_view text);
bool is_utf8(std::string_view text);
// Every maximal bad sequence becomes one U+FFFD.
std::string repair_utf8(std::string_view text);
size_t count_code_points(std::string_view text);

// Rust's char::is_whitespace: the White_Space property.
inline bool is_whitespace(char32_t c) {
    if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13);
    return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
           c == 0x205F || c == 0x3000;
}
bool is_letter(char32_t c);           // L
bool is_number(char32_t c);           // N
bool is_punctuation(char32_t c);      // P, and the ASCII symbols
bool is_other(char32_t c);            // Cc, Cf, Co
bool is_nonspacing_mark(char32_t c);  // Mn
bool is_mark(char32_t c);             // M
bool is_word(char32_t c);             // \w: Alphabetic, M, Nd, Pc, and the two joiners
bool is_chinese(char32_t c);          // the CJK blocks that BERT sets apart

// Full lowercase, one or two code points; returns how many.
int lowercase(char32_t c, char32_t out[2]);

int combining_class(char32_t c);
// The full canonical (or compatibility) decomposition; returns the number of code points, at most 18.
inline constexpr int kMaxDecomposition = 32;
int decompose(char32_t c, bool compatible, char32_t out[kMaxDecomposition]);
// The canonical composition of two code points, or 0.
char32_t compose(char32_t first, char32_t second);

// The byte after the extended grapheme cluster that begins at `at`.
size_t grapheme_end(std::string_view text, size_t at);

}  // namespace ds::tokenizer
