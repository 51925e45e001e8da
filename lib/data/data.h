// Training data: files of rows or text -> batches of tensors, kept ahead of training by worker threads.
//
// The way of a row: a format finds and reads records (readers/), a task turns a record into a tokenised sample (tasks/), an epoch's
// order groups samples into batches (order.h), a batch is padded into tensors (collate.h), a loader runs all this ahead (loader.cpp).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "data/batch.h"
#include "data/curriculum.h"
#include "data/tokenizer.h"

namespace ds {

// What the engine knows; zero or empty means unknown, and then the options must say it.
struct DataContext {
    std::shared_ptr<const Tokenizer> tokenizer;
    int64_t rows_per_batch = 0;  // of this process
    uint64_t seed = 0;
    int64_t max_length = 0;
    std::string task;  // a name of tasks.def
    int64_t num_labels = 0;
    std::vector<std::string> label_names;  // by class, as the model calls them; empty, or num_labels of them
    std::string problem;                   // transformers' problem_type; empty: what the labels are decides
    int64_t vocabulary_size = 0;           // the model's; ids beyond it are errors
    int64_t target_vocabulary_size = 0;    // where a decoder has another
    int64_t shard_rank = 0;                // among the processes that hold different rows
    int64_t shard_count = 1;
    bool drop_last = false;                                    // where the options don't say so themselves
    int64_t data_ranks = 1;                                    // of this process
    int64_t tokens_per_batch = 0, min_rows = 0, max_rows = 0;  // of one data rank; in place of rows_per_batch, if no option says either
    std::string picking_order;                                 // of those batches: dataloader, random or seqlen
    RowCurriculum curriculum;                                  // without metrics: all rows from the start
};

// Batches in a fixed order. One consumer at a time; wait_seconds may be read by any thread.
class DataSource {
public:
    virtual ~DataSource() = default;
    // Fills `batch`, or answers code END when an epoch is over; the next call then starts the next epoch. After an error the cursor
    // stands where it was: another call repeats the error.
    virtual Status next(Batch& batch) = 0;
    // The cursor. What follows restore(save()) is bit-equal to what would have followed save().
    virtual Result<Json> save() const = 0;
    virtual Status restore(const Json& cursor) = 0;
    virtual std::optional<int64_t> rows() const { return std::nullopt; }               // samples an epoch, all shards together
    virtual std::optional<int64_t> batches_per_epoch() const { return std::nullopt; }  // of the epoch that the cursor is in
    virtual double wait_seconds() const { return 0; }                                  // how long `next` waited for workers, in sum
    virtual std::vector<std::string> label_names() const { return {}; }                // by class, where the options or the data name them
    virtual int64_t skipped_rows() const { return 0; }                                 // dropped by "bad_rows": "skip"
};

// Opens what the options (rows of data.def) describe. Errors begin with "data: " or the file and line.
Result<std::shared_ptr<DataSource>> open_data(const Json& options, const DataContext& context);

// Every option: [{"name", "type", "default", "applies", "meaning"}].
Json describe_data_options();

// Tokenises texts (with pairs, or none) in one call: input_ids, attention_mask, token_type_ids, each i64 [texts, length]. Options:
// those of ds_tokenizer_encode_batch (dsrt/tokenizer.h).
// Texts that come out ragged although padding is false are an error.
Result<Batch> tokenize_batch(const Tokenizer& tokenizer, std::span<const std::string_view> texts, std::span<const std::string_view> pairs,
                             const Json& options);

}  // namespace ds
