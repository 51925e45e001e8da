// A task turns a record into samples: tokens, and what the model must answer about them.
//
// One file in this folder and one row in tasks.def a task. Everything here is const after opening: many threads ask at once.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "data/data.h"
#include "data/labels.h"
#include "data/options.h"
#include "data/random.h"
#include "data/readers/table.h"

namespace ds {

inline constexpr int32_t kIgnored = -100;  // labels with this value do not count

struct Sample {
    std::vector<int32_t> ids, types;
    std::vector<int32_t> labels;   // one a token, for tasks with Target::tokens; as many as there are, with Target::sequence
    std::vector<uint8_t> special;  // 1 for the template's tokens; may be empty = none
    std::vector<int32_t> words;    // the word a token is part of, -1 none; may be empty = unknown
    int64_t label = kIgnored;      // Target::label
    std::vector<float> values;     // Target::value (one) and Target::values
    int64_t start = 0, end = 0;    // Target::span
    std::vector<std::pair<int64_t, int64_t>> context;  // with spans: the code points of the context that each token stands for; -1 none
};

// The special tokens that a tokenizer's template puts before and behind a text.
struct Affixes {
    std::vector<int32_t> before, behind;
};
Result<Affixes> affixes(const Tokenizer& tokenizer);

enum class Target { none, tokens, sequence, label, value, values, span };

// What every task is made from.
struct TaskSetup {
    DataOptions options;
    Columns columns;
    std::shared_ptr<const Tokenizer> tokenizer;  // null only where input_ids serve
    int64_t max_length = 0;
    int64_t num_labels = 0;
    std::vector<std::string> label_names;  // the model's own
    std::string problem;
    int64_t vocabulary_size = 0;
    int64_t max_target_length = 0, target_vocabulary_size = 0;  // of text-to-text tasks
    int32_t pad_id = 0;
    bool by_tokens = false;  // batches are filled up to the context's tokens, as the options say nothing
};

class DataTask {
public:
    virtual ~DataTask() = default;
    virtual Target target() const = 0;
    virtual bool emits_types() const { return false; }
    // What can be checked without tokenising: labels, spans, types of values.
    virtual Status check(const Record& record) const = 0;
    // How many samples a record gives, where that takes tokenising; else every record gives one.
    virtual bool counts_parts() const { return false; }
    virtual Result<int64_t> parts(const Record&) const { return 1; }
    virtual Result<Sample> sample(const Record& record, int64_t part) const = 0;
    // Random changes to a sample, a fresh one an epoch.
    virtual void disturb(Sample&, CounterRandom) const {}
    // A block of plain tokens as a sample (block_length).
    virtual Result<Sample> block(std::vector<int32_t>) const {
        return fail(Code::E_UNSUPPORTED, "data: this task does not cut text into blocks");
    }
    // What stands before and behind every document that is cut into blocks.
    virtual Affixes document_affixes() const { return {}; }
    // Tokens that block() adds around those it is given.
    virtual int64_t block_overhead() const { return 0; }
    virtual LabelRule* label_rule() { return nullptr; }
    const LabelRule* label_rule() const { return const_cast<DataTask*>(this)->label_rule(); }
};

using MakeTask = Result<std::unique_ptr<DataTask>> (*)(TaskSetup);
struct TaskRow {
    const char* name;
    MakeTask make;
    const char* needs;
    const char* also;
};
// The row of a name; for "" the task that the columns suggest, `inputs` if nothing else.
Result<const TaskRow*> task_row(const std::string& name, const Columns& columns);
// Errors for missing roles, roles the task has no use for, and rules on roles that take none.
Status check_roles(const TaskRow& row, const Columns& columns);

// Text (and pair), or input_ids, of a record -> tokens. Shared by the tasks.
class TextInput {
public:
    explicit TextInput(const TaskSetup& setup);
    bool has_pair() const { return pair_.has_value(); }
    Status check(const Record& record) const;
    Result<Sample> encode(const Record& record) const;

private:
    Result<std::vector<int32_t>> given_ids(const Cell& value) const;
    std::shared_ptr<const Tokenizer> tokenizer_;
    std::optional<size_t> text_, pair_, ids_;
    std::string separator_ = ",";
    int64_t max_length_, vocabulary_size_;
};

// Of question answering: the answers of a cell (a text or a list of texts; empty ones are none), and the text between two code points.
std::vector<std::string> answers_of(const Cell& value);
std::string code_points_of(std::string_view text, int64_t begin, int64_t end);

// The value as text, or an error that names the role; the second refuses blank ones too.
Result<std::string_view> text_of(const Cell& value, std::string_view role);
Result<std::string_view> filled_text_of(const Cell& value, std::string_view role);
Sample to_sample(Encoding encoding);

}  // namespace ds
