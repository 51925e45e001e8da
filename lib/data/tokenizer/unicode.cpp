#include "data/tokenizer/unicode.h"

#include <utf8proc.h>

#include <cstring>

namespace ds::tokenizer {
namespace {

utf8proc_category_t category(char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }
bool between(utf8proc_category_t x, utf8proc_category_t low, utf8proc_category_t high) { return x >= low && x <= high; }

// The length of the valid sequence at text[0], or minus the number of bytes that one U+FFFD stands for.
int sequence_length(std::string_view text) {
    const auto byte = [&](size_t i) -> unsigned { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
    const unsigned a = byte(0);
    if (a < 0x80) return 1;
    if (a < 0xC2 || a > 0xF4) return -1;
    const int n = a < 0xE0 ? 2 : a < 0xF0 ? 3 : 4;
    const unsigned low = a == 0xE0 ? 0xA0 : a == 0xF0 ? 0x90 : 0x80;
    const unsigned high = a == 0xED ? 0x9F : a == 0xF4 ? 0x8F : 0xBF;
    if (byte(1) < low || byte(1) > high) return -1;
    for (int i = 2; i < n; ++i) {
        if ((byte(static_cast<size_t>(i)) & 0xC0) != 0x80) return -i;
    }
    return n;
}

}  // namespace

void append_utf8(std::string& text, char32_t c) {
    if (c < 0x80) {
        text.push_back(static_cast<char>(c));
    } else if (c < 0x800) {
        text.push_back(static_cast<char>(0xC0 | (c >> 6)));
        text.push_back(static_cast<char>(0x80 | (c & 0x3F)));
    } else if (c < 0x10000) {
        text.push_back(static_cast<char>(0xE0 | (c >> 12)));
        text.push_back(static_cast<char>(0x80 | ((c >> 6) & 0x3F)));
        text.push_back(static_cast<char>(0x80 | (c & 0x3F)));
    } else {
        text.push_back(static_cast<char>(0xF0 | (c >> 18)));
        text.push_back(static_cast<char>(0x80 | ((c >> 12) & 0x3F)));
        text.push_back(static_cast<char>(0x80 | ((c >> 6) & 0x3F)));
        text.push_back(static_cast<char>(0x80 | (c & 0x3F)));
    }
}

bool is_ascii(std::string_view text) {
    size_t i = 0;
    for (; i + 8 <= text.size(); i += 8) {
        uint64_t word;
        std::memcpy(&word, text.data() + i, 8);
        if (word & 0x8080808080808080u) return false;
    }
    for (; i < text.size(); ++i) {
        if (text[i] & 0x80) return false;
    }
    return true;
}

bool is_utf8(std::string_view text) {
    for (size_t i = 0; i < text.size();) {
        if (!(text[i] & 0x80)) {
            ++i;
            continue;
        }
        const int n = sequence_length(text.substr(i));
        if (n < 0) return false;
        i += static_cast<size_t>(n);
    }
    return true;
}

std::string repair_utf8(std::string_view text) {
    std::string repaired;
    repaired.reserve(text.size());
    for (size_t i = 0; i < text.size();) {
        const int n = sequence_length(text.substr(i));
        if (n > 0) repaired.append(text.substr(i, static_cast<size_t>(n)));
        else repaired.append("\xEF\xBF\xBD");
        i += static_cast<size_t>(n > 0 ? n : -n);
    }
    return repaired;
}

size_t count_code_points(std::string_view text) {
    size_t n = 0;
    for (const char c : text) n += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
    return n;
}

bool is_letter(char32_t c) {
    if (c < 0x80) return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
    return between(category(c), UTF8PROC_CATEGORY_LU, UTF8PROC_CATEGORY_LO);
}

bool is_number(char32_t c) {
    if (c < 0x80) return c >= '0' && c <= '9';
    return between(category(c), UTF8PROC_CATEGORY_ND, UTF8PROC_CATEGORY_NO);
}

bool is_punctuation(char32_t c) {
    if (c < 0x80) return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c <= 126);
    return between(category(c), UTF8PROC_CATEGORY_PC, UTF8PROC_CATEGORY_PO);
}

bool is_other(char32_t c) {
    if (c < 0x80) return c < 0x20 || c == 0x7F;
    const auto x = category(c);
    return x == UTF8PROC_CATEGORY_CC || x == UTF8PROC_CATEGORY_CF || x == UTF8PROC_CATEGORY_CO;
}

bool is_nonspacing_mark(char32_t c) { return c >= 0x300 && category(c) == UTF8PROC_CATEGORY_MN; }

bool is_mark(char32_t c) { return c >= 0x300 && between(category(c), UTF8PROC_CATEGORY_MN, UTF8PROC_CATEGORY_ME); }

bool is_word(char32_t c) {
    if (c < 0x80) return is_letter(c) || is_number(c) || c == '_';
    const auto x = category(c);
    if (between(x, UTF8PROC_CATEGORY_LU, UTF8PROC_CATEGORY_NL) || x == UTF8PROC_CATEGORY_PC) return true;  // L, M, Nd, Nl are neighbours
    // The symbols with the Other_Alphabetic property: circled and squared letters.
    return c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
           (c >= 0x1F170 && c <= 0x1F189);
}

bool is_chinese(char32_t c) {
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
           (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
           (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

int lowercase(char32_t c, char32_t out[2]) {
    if (c < 0x80) {
        out[0] = c >= 'A' && c <= 'Z' ? c + 32 : c;
        return 1;
    }
    if (c == 0x130) {  // the one letter whose full lowercase is longer
        out[0] = 'i';
        out[1] = 0x307;
        return 2;
    }
    out[0] = static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c)));
    return 1;
}

int combining_class(char32_t c) { return c < 0x300 ? 0 : utf8proc_get_property(static_cast<utf8proc_int32_t>(c))->combining_class; }

int decompose(char32_t c, bool compatible, char32_t out[kMaxDecomposition]) {
    if (c < 0xA0) {
        out[0] = c;
        return 1;
    }
    utf8proc_int32_t buffer[kMaxDecomposition];
    int last_class = 0;
    const int options = UTF8PROC_DECOMPOSE | (compatible ? UTF8PROC_COMPAT : 0);
    const auto n = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), buffer, kMaxDecomposition,
                                           static_cast<utf8proc_option_t>(options), &last_class);
    if (n <= 0 || n > kMaxDecomposition) {
        out[0] = c;
        return 1;
    }
    for (int i = 0; i < n; ++i) out[i] = static_cast<char32_t>(buffer[i]);
    return static_cast<int>(n);
}

char32_t compose(char32_t first, char32_t second) {
    if (second < 0x300) return 0;  // nothing composes with a smaller second code point
    utf8proc_int32_t pair[2] = {static_cast<utf8proc_int32_t>(first), static_cast<utf8proc_int32_t>(second)};
    const int options = UTF8PROC_COMPOSE | UTF8PROC_STABLE;
    return utf8proc_normalize_utf32(pair, 2, static_cast<utf8proc_option_t>(options)) == 1 ? static_cast<char32_t>(pair[0]) : 0;
}

size_t grapheme_end(std::string_view text, size_t at) {
    utf8proc_int32_t state = 0;
    auto left = static_cast<utf8proc_int32_t>(next_code_point(text, at));
    while (at < text.size()) {
        const auto next = static_cast<unsigned char>(text[at]);
        if (left < 0x80 && next < 0x80 && !(left == '\r' && next == '\n')) break;
        size_t behind = at;
        const auto right = static_cast<utf8proc_int32_t>(next_code_point(text, behind));
        if (utf8proc_grapheme_break_stateful(left, right, &state)) break;
        left = right;
        at = behind;
    }
    return at;
}

}  // namespace ds::tokenizer
