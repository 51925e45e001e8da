// Easy rows first: which rows an update may take, by how difficult each is (Bengio et al. 2009; DeepSpeed's
// data_sampling.curriculum_learning).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/json.h"

namespace ds {

struct CurriculumMetric {
    std::string name;         // "seqlen": the sample's tokens
    Json column;              // else a column of numbers, by name or index
    bool percentile = false;  // difficulties are shares of the rows in the order of their values, `most` is all; else values
    int64_t most = 100;
    std::function<int64_t(int64_t update)> difficulty;  // of an update, from 1
};

// What DataContext says; values come from the samples.
struct RowCurriculum {
    std::vector<CurriculumMetric> metrics;    // a row is taken where all agree
    std::vector<std::vector<double>> values;  // of each metric, a sample each
    int64_t batches_per_update = 1;
};

}  // namespace ds
