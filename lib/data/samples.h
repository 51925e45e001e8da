// All samples that the options select, at random access: records one by one, parts of records, or blocks cut from documents.
//
// Records are tokenised when a sample is asked for. Blocks need to know where tokens fall, so their documents are tokenised when
// opening and kept, four bytes a token.
#pragma once

#include <memory>
#include <vector>

#include "data/curriculum.h"
#include "data/readers/table.h"
#include "data/tasks/task.h"

namespace ds {

// The role of a column that a curriculum goes by.
inline std::string metric_role(const std::string& name) { return "metric " + name; }

class Samples {
public:
    static Result<Samples> open(Table table, std::unique_ptr<DataTask> task, const TaskSetup& setup);

    int64_t size() const { return count_; }
    bool has_rows() const { return blocks_.empty(); }  // a sample is a record or a part of one
    // Const and safe on many threads. Errors name file and line.
    Result<Sample> get(int64_t index) const;
    // Tokens where they are known (tokens_per_batch, blocks), else bytes of text; empty unless the options need lengths.
    const std::vector<uint32_t>& lengths() const { return lengths_; }
    // The numbers that a metric goes by, a sample each: a column's, or the samples' tokens.
    Result<std::vector<double>> values_of(const CurriculumMetric& metric) const;
    const DataTask& task() const { return *task_; }
    const TaskSetup& setup() const { return setup_; }
    // The row that a sample is made of, counted among those selected, and its record; not of blocks, which are made of many.
    int64_t row_of(int64_t index) const;
    Result<Record> record(int64_t row) const { return table_.read(rows_[static_cast<size_t>(row)]); }
    int64_t skipped() const { return skipped_; }

private:
    struct Block {
        uint64_t begin;
        uint64_t length;
    };
    Samples(Table table, std::unique_ptr<DataTask> task, const TaskSetup& setup)
        : table_(std::move(table)), task_(std::move(task)), setup_(setup) {}

    Status learn_labels();
    Status select();
    Status check_row(int64_t row) const;
    Status cut_blocks();
    Status add_documents(size_t first, size_t last, const Affixes& around, std::vector<uint64_t>& starts);
    Status count_parts();
    Status measure();
    Status check_ids(const Sample& sample) const;
    Status place(Status status, int64_t row) const;

    Table table_;
    std::unique_ptr<DataTask> task_;
    TaskSetup setup_;
    std::vector<int64_t> rows_;        // selected records, in order
    std::vector<int64_t> first_part_;  // of each row, and the total; empty where a row is a sample
    std::vector<int32_t> tokens_;
    std::vector<Block> blocks_;
    std::vector<uint32_t> lengths_;
    int64_t count_ = 0, skipped_ = 0;
};

}  // namespace ds
