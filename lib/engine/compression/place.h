// Groups and neighbours count by outputs and their inputs, whichever way a weight lies.
#pragma once

#include <span>
#include <vector>

#include "kernels/compress.h"
#include "passes/compression.h"

namespace ds {

// Where element e of [out, in] lies.
inline int64_t place_of(int64_t e, bool out_first, int64_t outs, int64_t ins) { return out_first ? e : e % ins * outs + e / ins; }

// f changes a matrix, whose elements it has in the order of [out, in]. outs: 0 where x is no matrix, and lies as f has it.
template <class F>
void by_outputs(std::span<float> x, bool out_first, int64_t outs, const F& f) {
    if (out_first || outs == 0) return f(x);
    const auto n = static_cast<int64_t>(x.size());
    std::vector<float> ordered(x.size());
    for (int64_t e = 0; e < n; ++e) ordered[static_cast<size_t>(e)] = x[static_cast<size_t>(place_of(e, false, outs, n / outs))];
    f(std::span<float>(ordered));
    for (int64_t e = 0; e < n; ++e) x[static_cast<size_t>(place_of(e, false, outs, n / outs))] = ordered[static_cast<size_t>(e)];
}

// Scores become the mask of what the rule keeps. outs: of a matrix in which the rule has neighbours.
inline void to_mask(std::span<float> scores, const PruneRule& rule, bool out_first, int64_t outs) {
    by_outputs(scores, out_first, rule.m > 0 ? outs : 0, [&](std::span<float> x) {
        const std::vector<float> given(x.begin(), x.end());
        top_mask(given.data(), x.data(), static_cast<int64_t>(x.size()), rule.keep, rule.n, rule.m);
    });
}

}  // namespace ds
