// T5's buckets of distances between a query and a key (Raffel et al. 2019, arXiv 1910.10683, section 2.1): near ones have a bucket each,
// farther ones share buckets that grow with the logarithm of the distance, and all from max_distance on are in the last.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace ds {

// distance: place of the key less that of the query. both_ways: the upper half of the buckets is for keys behind the query; else those
// count as near. The logarithm is f32, as transformers has it: at its steps the last bit decides.
inline int64_t relative_bucket(int64_t distance, int64_t buckets, int64_t max_distance, bool both_ways) {
    int64_t first = 0;
    if (both_ways) {
        buckets /= 2;
        if (distance > 0) first = buckets;
    }
    const int64_t apart = both_ways ? std::abs(distance) : std::max<int64_t>(-distance, 0), exact = buckets / 2;
    if (apart < exact) return first + apart;
    const float steps = std::log(static_cast<float>(apart) / static_cast<float>(exact)) /
                        static_cast<float>(std::log(static_cast<double>(max_distance) / static_cast<double>(exact))) *
                        static_cast<float>(buckets - exact);
    return first + std::min(buckets - 1, exact + static_cast<int64_t>(steps));
}

}  // namespace ds
