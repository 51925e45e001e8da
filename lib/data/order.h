// The order of an epoch: which samples make which batch. A pure function of seed and epoch, so a cursor is two numbers.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "data/curriculum.h"

namespace ds {

struct OrderRules {
    int64_t samples = 0;
    uint64_t seed = 0;
    bool shuffle = true;
    bool group_by_length = false;
    int64_t group_batches = 50;
    int64_t rows_per_batch = 0;          // of all shards together; 0: by tokens
    int64_t parts = 1;                   // that a batch by tokens is dealt out to, near-evenly by rows: data ranks, or shards
    int64_t tokens_per_part = 0;         // at most; a row that has more is a part of its own
    bool drop_long = false;              // or is left out
    int64_t min_rows = 0, max_rows = 0;  // of a batch by tokens; 0: any. A batch with fewer is left out
    bool sorted = false;                 // shortest rows first
    bool drop_last = false;
    RowCurriculum curriculum;
    int64_t shards = 1;                 // a batch with fewer rows than shards is left out: every shard needs one
    std::span<const uint32_t> lengths;  // a sample each; needed for group_by_length and batches by tokens
};

struct EpochOrder {
    uint64_t epoch = 0;
    std::vector<uint32_t> samples;
    std::vector<std::pair<uint64_t, uint64_t>> batches;  // [begin, end) in samples

    int64_t count() const { return static_cast<int64_t>(batches.size()); }
    // The rows of batch `b` that shard `rank` of `count` takes: parts differ by one row at most.
    std::span<const uint32_t> rows(int64_t b, int64_t rank, int64_t shards) const;
};

// Row numbers (of samples) that an update may take.
std::vector<uint32_t> easy_rows(const RowCurriculum& curriculum, int64_t samples, int64_t update);

EpochOrder make_order(const OrderRules& rules, uint64_t epoch);

}  // namespace ds
