// The text on its way through normalizers and pre-tokenizers, with the place of every byte in the original.
//
// A rewrite never joins places: each byte of the rewritten text belongs to exactly one code point of the original (or, when
// something was put in front of the text, to the empty place where it began). That is how Hugging Face's NormalizedString
// behaves, so one number a byte says what its pairs of offsets say.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "data/tokenizer/unicode.h"

namespace ds::tokenizer {

inline constexpr uint32_t kEmptyPlace = 0x80000000u;  // flag: zero width, before the code point
inline constexpr uint32_t kFront = kEmptyPlace;  // what a normalizer put in front of all it was given, whatever another took from there

struct AlignedText {
    std::string text;
    std::vector<uint32_t> at;  // the code point of each byte; not kept while `plain`
    bool plain = true;         // ASCII that no stage has rewritten: byte i is code point i

    static AlignedText of(std::string_view original);
    uint32_t place(size_t byte) const { return plain ? static_cast<uint32_t>(byte) : at[byte]; }
    int64_t begin_of(size_t byte) const { return place(byte) & ~kEmptyPlace; }
    int64_t end_of(size_t byte) const { return (place(byte) & kEmptyPlace) ? begin_of(byte) : begin_of(byte) + 1; }
    void append(std::string_view bytes, uint32_t where) {  // `plain` must be false
        text.append(bytes);
        at.insert(at.end(), bytes.size(), where);
    }
    void append(char32_t c, uint32_t where) {
        append_utf8(text, c);
        at.resize(text.size(), where);
    }
    void append(const AlignedText& from, size_t begin, size_t end);
    void clear() { text.clear(), at.clear(), plain = false; }
};

// Writes a range of `from` anew, code point by code point, the way a chain of edits is told: `change` 0 replaces the next code
// point, 1 inserts one, -n replaces the next and drops the n behind it.
class Rewriter {
public:
    Rewriter(const AlignedText& from, size_t begin, size_t end, AlignedText& to)
        : from_(from), begin_(begin), end_(end), at_(begin), to_(to) {}
    void skip(int64_t code_points) {
        for (; code_points > 0 && at_ < end_; --code_points) at_ += static_cast<size_t>(utf8_bytes(from_.text[at_]));
    }
    void put(char32_t c, int64_t change);

private:
    const AlignedText& from_;
    size_t begin_, end_, at_;
    AlignedText& to_;
};

inline constexpr int32_t kNoToken = -1;
struct Piece {
    uint32_t begin = 0, end = 0;  // bytes of Pieces::text
    int32_t token = kNoToken;     // an added token: already done
};

struct Pieces {
    AlignedText aligned;
    std::vector<Piece> list;
    bool raw_bytes = false;  // the model reads bytes: the last stage (byte level) left its mapping to it

    std::string_view text(const Piece& piece) const { return std::string_view(aligned.text).substr(piece.begin, piece.end - piece.begin); }
};

enum class SplitBehavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };
struct Match {
    uint32_t begin, end;
    bool hit;
};
// Turns the alternating hits and gaps of one piece into pieces.
void split_by(SplitBehavior behavior, bool invert, std::vector<Match>& matches, std::vector<Piece>& out);

// Cuts every unfinished piece with find(text, matches); matches hold offsets within the text given.
template <class Find>
Status split_all(Pieces& pieces, SplitBehavior behavior, bool invert, Find&& find) {
    std::vector<Piece> out;
    out.reserve(pieces.list.size() + pieces.aligned.text.size() / 4);
    std::vector<Match> matches;
    for (const Piece& piece : pieces.list) {
        if (piece.token != kNoToken) {
            out.push_back(piece);
            continue;
        }
        matches.clear();
        DS_CHECK(find(pieces.text(piece), matches));
        for (Match& match : matches) match.begin += piece.begin, match.end += piece.begin;
        split_by(behavior, invert, matches, out);
    }
    pieces.list = std::move(out);
    return ok();
}

// Hits are single code points for which `is` holds, gaps the runs between them.
template <class Is>
void find_code_points(std::string_view text, Is&& is, std::vector<Match>& matches) {
    size_t gap = 0;
    for (size_t i = 0; i < text.size();) {
        const size_t begin = i;
        if (!is(next_code_point(text, i))) continue;
        if (gap < begin) matches.push_back({static_cast<uint32_t>(gap), static_cast<uint32_t>(begin), false});
        matches.push_back({static_cast<uint32_t>(begin), static_cast<uint32_t>(i), true});
        gap = i;
    }
    if (gap < text.size()) matches.push_back({static_cast<uint32_t>(gap), static_cast<uint32_t>(text.size()), false});
}

}  // namespace ds::tokenizer
