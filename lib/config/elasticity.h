// DeepSpeed's elastic batches: one train_batch_size that many numbers of ranks share, so that a job may grow and shrink and still make the
// same updates (deepspeed/elasticity, 0.1 and 0.2).
#pragma once

#include "config/config.h"

namespace ds {

struct ElasticSettings {
    int64_t max_batch = 2000;
    std::vector<int64_t> micro_batches{2, 4, 6};
    int64_t min_ranks = 1, max_ranks = 10000;
    int64_t ranks_per_host = 1, model_ranks = 1;  // of 0.2, which counts hosts; model_ranks: that share a copy
    bool prefer_larger = true;                    // of batches that as many numbers of ranks divide
    double version = 0.2;
};

struct ElasticBatch {
    int64_t train = 0;
    std::vector<int64_t> data_ranks;  // numbers of data-parallel ranks that may train with it, rising
};

// The batch that most numbers of ranks divide. 0.2 makes one for this number where it is not among those.
Result<ElasticBatch> elastic_batch(const ElasticSettings& settings, int64_t data_ranks);
// Its shares: the largest micro batch that fits.
Result<BatchSizes> resolve_elastic(const ElasticSettings& settings, int64_t data_ranks);

}  // namespace ds
