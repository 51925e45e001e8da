// Sorting tokens by expert: integers only, so every device may do it like this.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "ops/attrs.h"

namespace ds {

// ids [tokens, k]: each token's experts. real: 0 for tokens that are filler or masked; null: all are real. Of `rows` [tokens * k], `ends`
// [experts + 1], `places` [tokens, k] and `counts` [experts] ops/experts.cpp tells the meaning. Tokens that are not real do not count and
// take no one's place.
inline void sort_by_expert(const Routing& r, const int32_t* ids, const float* real, int64_t tokens, int64_t k, int32_t* rows, int32_t* ends,
                           int32_t* places, float* counts) {
    const auto is_real = [&](int64_t t) { return !real || real[t] != 0; };
    const auto goes = [&](int64_t t) { return is_real(t) || r.capacity_factor == 0; };
    std::vector<int64_t> chosen(static_cast<size_t>(r.experts), 0);
    std::fill_n(counts, r.experts, 0.0f);
    int64_t all = 0;
    for (int64_t t = 0; t < tokens; ++t) {
        all += is_real(t);
        for (int64_t i = 0; i < k; ++i) {
            chosen[static_cast<size_t>(ids[t * k + i])] += goes(t);
            counts[ids[t * k + i]] += is_real(t) ? 1.0f : 0.0f;
        }
    }
    const int64_t capacity =
        r.capacity_factor > 0
            ? std::max(r.min_capacity,
                       static_cast<int64_t>(std::ceil(r.capacity_factor * static_cast<double>(k * all) / static_cast<double>(r.experts))))
            : INT64_MAX;
    std::vector<int64_t> next(static_cast<size_t>(r.experts)), left(next.size());
    int64_t at = 0;
    for (int64_t e = 0; e < r.experts; ++e) {
        ends[e] = static_cast<int32_t>(at);
        next[static_cast<size_t>(e)] = at;
        left[static_cast<size_t>(e)] = std::min(capacity, chosen[static_cast<size_t>(e)]);
        at += left[static_cast<size_t>(e)];
    }
    ends[r.experts] = static_cast<int32_t>(at);
    std::fill_n(rows, tokens * k, -1);
    for (int64_t choice = 0; choice < tokens * k; ++choice) {
        const int64_t e = ids[choice];
        places[choice] = -1;
        if (!goes(choice / k) || left[static_cast<size_t>(e)] == 0) continue;
        --left[static_cast<size_t>(e)];
        places[choice] = static_cast<int32_t>(next[static_cast<size_t>(e)]);
        rows[next[static_cast<size_t>(e)]++] = static_cast<int32_t>(choice / k);
    }
}

}  // namespace ds
