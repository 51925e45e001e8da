// Cuts whose periods don't divide what they cut: what is left behind the last whole period is dealt out near-evenly, unit by unit. So
// tokens may lie in stripes, whatever their number. Where periods divide, these are the same as Cut's own.
#pragma once

#include <algorithm>

#include "base/mesh.h"

namespace ds {

// Rank r's part of what is behind the last whole period.
inline Interval rest_of(const Cut& cut, int64_t full, int r, int n) {
    const int64_t unit = cut.period / cut.units;
    const Interval dealt = near_even(full % cut.period / unit, r, n);
    return {dealt.begin * unit, dealt.end * unit};
}

// How many of the first `index` of `full` are rank r's.
inline int64_t held_before(const Cut& cut, int64_t index, int64_t full, int r, int n) {
    const Interval part = cut.part(r, n);
    const int64_t periods = full / cut.period, gone = std::min(index / cut.period, periods);
    const Interval now = gone < periods ? part : rest_of(cut, full, r, n);
    return gone * part.size() + std::clamp<int64_t>(index - gone * cut.period - now.begin, 0, now.size());
}
inline int64_t held(const Cut& cut, int64_t full, int r, int n) { return cut.whole() ? full : held_before(cut, full, full, r, n); }

// Whether a rank's elements lie apart.
inline bool in_stripes(const Cut& cut, int64_t full) { return !cut.whole() && cut.period < full; }

// f(offset in the whole, offset in the part, elements) for every run of rank r's elements; as CutCopy::runs.
template <class F>
void each_run(const std::vector<int64_t>& shape, const Cut& cut, int r, int n, F&& f) {
    const CutCopy dims(shape, cut, r, n);
    if (cut.whole()) return f(int64_t{0}, int64_t{0}, dims.outer * dims.full * dims.inner);
    const Interval part = cut.part(r, n), rest = rest_of(cut, dims.full, r, n);
    const int64_t periods = dims.full / cut.period, run = part.size() * dims.inner, tail = rest.size() * dims.inner;
    int64_t to = 0;
    for (int64_t o = 0; o < dims.outer; ++o) {
        for (int64_t p = 0; p < periods && run > 0; ++p, to += run) f((o * dims.full + p * cut.period + part.begin) * dims.inner, to, run);
        if (tail > 0) f((o * dims.full + periods * cut.period + rest.begin) * dims.inner, to, tail);
        to += tail;
    }
}

}  // namespace ds
