// Samples of different lengths -> the tensors of a batch, padded at the end (or the beginning).
#pragma once

#include <span>

#include "data/batch.h"
#include "data/tasks/task.h"

namespace ds {

struct CollateRules {
    Target target = Target::none;
    bool types = false;  // emit token_type_ids
    int32_t pad_id = 0, pad_type = 0;
    bool left = false;         // padding comes first
    int64_t multiple = 1;      // the length is rounded up to a multiple
    int64_t fixed_length = 0;  // 0 = the longest sample's
    int64_t fixed_target = 0;  // likewise of labels that are a sequence of their own
    DType dtype = DType::i64;
};

// input_ids, attention_mask, token_type_ids [rows, length]; labels [rows, length], [rows, their own length], [rows] or [rows, classes];
// start_positions and end_positions [rows].
Result<Batch> collate(std::span<const Sample> samples, const CollateRules& rules);

}  // namespace ds
