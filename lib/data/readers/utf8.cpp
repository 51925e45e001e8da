// UTF-8 checks over whole files, by simdjson, which does several gigabytes a second.
#include <simdjson.h>

#include "data/readers/table.h"

namespace ds {
namespace {

// The length of the valid sequence at the text's beginning, or 0; `bad` then receives the length of the maximal bad part
// (Unicode 15, table 3-7).
size_t sequence_length(std::string_view text, size_t& bad) {
    const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
    const unsigned lead = byte(0);
    bad = 1;
    if (lead < 0x80) return 1;
    if (lead < 0xc2 || lead > 0xf4) return 0;
    const size_t length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    const unsigned low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    const unsigned high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    for (size_t i = 1; i < length; ++i) {
        const unsigned c = byte(i);
        if (c < (i == 1 ? low : 0x80u) || c > (i == 1 ? high : 0xbfu)) return 0;
        bad = i + 1;
    }
    return length;
}

}  // namespace

size_t bad_utf8(std::string_view text) {
    if (text.empty() || simdjson::validate_utf8(text.data(), text.size())) return std::string_view::npos;
    size_t bad = 0;
    for (size_t i = 0; i < text.size();) {
        const size_t length = sequence_length(text.substr(i, 4), bad);
        if (length == 0) return i;
        i += length;
    }
    return std::string_view::npos;
}

std::string replace_bad_utf8(std::string_view text) {
    std::string out;
    out.reserve(text.size() + 8);
    size_t bad = 0;
    for (size_t i = 0; i < text.size();) {
        const size_t length = sequence_length(text.substr(i, 4), bad);
        if (length > 0) out.append(text.substr(i, length));
        else out += "\xef\xbf\xbd";
        i += length > 0 ? length : bad;
    }
    return out;
}

}  // namespace ds
