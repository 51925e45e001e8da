// Hand-written scanners for the expressions that nearly every byte-level tokenizer uses, several times faster than a general matcher.
//
// GPT-2's:   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// LLaMA-3's: (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
// Qwen-2's:  as LLaMA-3's with \p{N} for \p{N}{1,3}
// Alternatives are tried in order at each place, and each of these expressions matches at every place.
#include <array>

#include "data/tokenizer/regex.h"

namespace ds::tokenizer {
namespace {

enum Kind : uint8_t { kLetter = 1, kNumber = 2, kSpace = 4, kMark = 8 };  // kMark: anything else

constexpr std::array<uint8_t, 128> ascii_kinds() {
    std::array<uint8_t, 128> kinds{};
    for (int c = 0; c < 128; ++c) {
        const int lower = c | 0x20;
        kinds[static_cast<size_t>(c)] = lower >= 'a' && lower <= 'z'      ? kLetter
                                        : c >= '0' && c <= '9'            ? kNumber
                                        : (c >= 9 && c <= 13) || c == ' ' ? kSpace
                                                                          : kMark;
    }
    return kinds;
}
constexpr auto kAscii = ascii_kinds();

// The kind of the code point at `at`, which moves behind it.
inline Kind take(std::string_view text, size_t& at) {
    const auto byte = static_cast<unsigned char>(text[at]);
    if (byte < 0x80) {
        ++at;
        return static_cast<Kind>(kAscii[byte]);
    }
    const char32_t c = next_code_point(text, at);
    return is_letter(c) ? kLetter : is_number(c) ? kNumber : is_whitespace(c) ? kSpace : kMark;
}

inline size_t run_of(std::string_view text, size_t at, Kind kind) {
    while (at < text.size()) {
        size_t behind = at;
        if (take(text, behind) != kind) break;
        at = behind;
    }
    return at;
}

inline bool is_break(char c) { return c == '\r' || c == '\n'; }

// 's 't 're 've 'm 'll 'd; `fold` ignores case, where the long s is an s.
size_t contraction(std::string_view text, size_t at, bool fold) {
    const auto letter = [&](size_t i) -> char {
        if (at + i >= text.size()) return '\0';
        const char c = text[at + i];
        return fold && c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    };
    switch (letter(1)) {
    case 's':
    case 't':
    case 'm':
    case 'd': return at + 2;
    case 'r':
    case 'v': return letter(2) == 'e' ? at + 3 : at;
    case 'l': return letter(2) == 'l' ? at + 3 : at;
    case '\xC5': return fold && letter(2) == '\xBF' ? at + 3 : at;
    default: return at;
    }
}

// \s+(?!\S)|\s+ : the run, but for its last blank if something follows.
size_t blanks(std::string_view text, size_t at, size_t end) {
    if (end == text.size()) return end;
    const size_t last = previous_start(text, end);
    return last > at ? last : end;
}

size_t scan_gpt2(std::string_view text, size_t at) {
    if (text[at] == '\'') {
        if (const size_t end = contraction(text, at, false); end > at) return end;
    }
    size_t behind = at;
    Kind kind = take(text, behind);
    if (text[at] == ' ' && behind < text.size()) {
        size_t second = behind;
        const Kind next = take(text, second);
        if (next != kSpace) return run_of(text, second, next);
    }
    if (kind != kSpace) return run_of(text, behind, kind);
    return blanks(text, at, run_of(text, behind, kSpace));
}

template <int kDigits>
size_t scan_llama3(std::string_view text, size_t at) {
    if (text[at] == '\'') {
        if (const size_t end = contraction(text, at, true); end > at) return end;
    }
    size_t behind = at;
    const Kind kind = take(text, behind);
    if (kind == kLetter) return run_of(text, behind, kLetter);
    size_t second = behind;
    const bool more = behind < text.size();
    const Kind next = more ? take(text, second) : kSpace;
    if (kind != kNumber && next == kLetter && !is_break(text[at])) return run_of(text, second, kLetter);
    if (kind == kNumber) {
        for (int digits = 1; digits < kDigits && behind < text.size(); ++digits) {
            size_t further = behind;
            if (take(text, further) != kNumber) break;
            behind = further;
        }
        return behind;
    }
    if (kind == kMark || (text[at] == ' ' && next == kMark)) {
        size_t end = run_of(text, behind, kMark);
        while (end < text.size() && is_break(text[end])) ++end;
        return end;
    }
    // \s*[\r\n]+ : to behind the last line break of the run.
    const size_t end = run_of(text, behind, kSpace);
    for (size_t i = end; i > at; --i) {
        if (is_break(text[i - 1])) return i;
    }
    return blanks(text, at, end);
}

}  // namespace

Scanner known_scanner(std::string_view expression) {
    struct Row {
        std::string_view expression;
        Scanner scanner;
    };
    static constexpr Row kRows[] = {
        {R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)", scan_gpt2},
        {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
         scan_llama3<3>},
        {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
         scan_llama3<1>},
    };
    for (const Row& row : kRows) {
        if (row.expression == expression) return row.scanner;
    }
    return nullptr;
}

}  // namespace ds::tokenizer
