#include "data/tokenizer/pieces.h"

#include <algorithm>

namespace ds::tokenizer {

AlignedText AlignedText::of(std::string_view original) {
    AlignedText aligned;
    aligned.text = original;
    aligned.plain = is_ascii(original);
    if (aligned.plain) return aligned;
    aligned.at.resize(original.size());
    uint32_t place = 0;
    for (size_t i = 0; i < original.size(); ++i) {
        if (i > 0 && (static_cast<unsigned char>(original[i]) & 0xC0) != 0x80) ++place;
        aligned.at[i] = place;
    }
    return aligned;
}

void AlignedText::append(const AlignedText& from, size_t begin, size_t end) {
    text.append(from.text, begin, end - begin);
    if (from.plain) {
        for (size_t i = begin; i < end; ++i) at.push_back(static_cast<uint32_t>(i));
    } else {
        at.insert(at.end(), from.at.begin() + static_cast<ptrdiff_t>(begin), from.at.begin() + static_cast<ptrdiff_t>(end));
    }
}

void Rewriter::put(char32_t c, int64_t change) {
    if (change > 0) {
        const uint32_t where = at_ > begin_ ? from_.place(at_ - 1) : kFront;
        to_.append(c, where);
        return;
    }
    if (at_ >= end_) return;  // an edit script never replaces more than there is
    to_.append(c, from_.place(at_));
    skip(1 - change);
}

namespace {

void push(std::vector<Piece>& out, const Match& match) {
    if (match.begin < match.end) out.push_back({match.begin, match.end, kNoToken});
}

// A hit joins the piece before it (forwards) or behind it (backwards), a second hit in a row stands alone.
template <class Iterator>
void merge_hits(Iterator first, Iterator last, std::vector<Match>& merged) {
    bool previous = false;
    for (; first != last; ++first) {
        if (first->hit && !previous && !merged.empty()) {
            merged.back().begin = std::min(merged.back().begin, first->begin);
            merged.back().end = std::max(merged.back().end, first->end);
        } else {
            merged.push_back(*first);
        }
        previous = first->hit;
    }
}

}  // namespace

void split_by(SplitBehavior behavior, bool invert, std::vector<Match>& matches, std::vector<Piece>& out) {
    if (invert) {
        for (Match& match : matches) match.hit = !match.hit;
    }
    std::vector<Match> merged;
    switch (behavior) {
    case SplitBehavior::removed:
        for (const Match& match : matches) {
            if (!match.hit) push(out, match);
        }
        return;
    case SplitBehavior::isolated:
        for (const Match& match : matches) push(out, match);
        return;
    case SplitBehavior::contiguous: {
        bool previous = false;
        for (const Match& match : matches) {
            if (match.hit == previous && !merged.empty()) merged.back().end = match.end;
            else merged.push_back(match);
            previous = match.hit;
        }
        break;
    }
    case SplitBehavior::merged_with_previous: merge_hits(matches.begin(), matches.end(), merged); break;
    case SplitBehavior::merged_with_next:
        merge_hits(matches.rbegin(), matches.rend(), merged);
        std::reverse(merged.begin(), merged.end());
        break;
    }
    for (const Match& match : merged) push(out, match);
}

}  // namespace ds::tokenizer
