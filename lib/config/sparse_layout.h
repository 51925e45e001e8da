// Which blocks of places see each other: DeepSpeed's layouts fixed, variable, bigbird and bslongformer (Child et al. 2019, arXiv
// 1904.10509; Zaheer et al. 2020, arXiv 2007.14062; Beltagy et al. 2020, arXiv 2004.05150).
#pragma once

#include <cstdint>
#include <vector>

#include "config/config.h"

namespace ds {

// u8 [heads, blocks, blocks]: whether the queries of a block see the keys of a block. Random blocks, which DeepSpeed draws from Python's
// generator, come from `seed` here.
std::vector<uint8_t> sparse_layout(const SparseAttentionConfig& config, int64_t heads, int64_t blocks, uint64_t seed);
// What layouts demand of their settings.
Status check_sparse_layout(const SparseAttentionConfig& config);

}  // namespace ds
