// A model family: plain math for one device, written once. It reads a Hugging Face config.json and appends nodes to a graph; no rank, no
// element type, no cache, no strategy.
//
// Models compute on a packed stream of tokens: the rows of a batch one after another without their padding, [tokens, features]. Where a row
// begins and ends is run-time data (`segments`), so one graph serves every batch of as many tokens.
#pragma once

#include <memory>
#include <set>
#include <string>

#include "base/json.h"
#include "ir/builder.h"

namespace ds {

enum class Task { none, causal_lm, masked_lm, sequence_classification, token_classification, question_answering, seq2seq_lm };
std::string_view name_of(Task task);

// The loss of a head that answers about rows (transformers' problem_type): one class of several, numbers, or yes and no to each class.
enum class RowLoss { cross_entropy, squared_error, binary_cross_entropy };

// How many tokens, rows and labels the graph is built for.
struct StreamShape {
    int64_t tokens = 0;  // of the stream, padding of the bucket included
    int64_t rows = 0;
    int64_t length = 0;          // of the padded batch, for heads over positions: then tokens == rows * length
    int64_t labelled = 0;        // tokens whose loss is computed; equal to `tokens`: all of them, in place
    bool masked = false;         // some masked position is in the stream: keys need a mask
    bool embedded = false;       // part of a host's graph: rows * length tokens, nothing packed
    bool labels = false;         // a loss is wanted
    bool types = false;          // the batch has token_type_ids
    int64_t sparse_blocks = 0;   // of block-sparse attention: those of the longest row
    int64_t peer_tokens = 0;     // the most that a data rank has, where they exchange tokens
    int64_t source_tokens = 0;   // of an encoder's stream; then the other fields are the decoder's
    bool source_masked = false;  // likewise of its keys
    RowLoss row_loss = RowLoss::cross_entropy;
    auto operator<=>(const StreamShape&) const = default;
};

// The operands that a batch brings, as a model sees them. Each becomes an input of the graph when it is first asked for.
class TokenStream {
public:
    TokenStream(Builder& b, StreamShape shape, std::set<std::string> outputs) : b_(b), shape_(shape), outputs_(std::move(outputs)) {}

    const StreamShape& shape() const { return shape_; }
    ValueId ids() { return input("ids", {shape_.tokens}); }        // of the vocabulary
    ValueId places() { return input("places", {shape_.tokens}); }  // row * length + place in the row: names the token in the whole batch
    ValueId positions() { return input("positions", {shape_.tokens}); }  // places in the row, or the batch's position_ids
    bool has_types() const { return shape_.types; }
    ValueId types() { return input("types", {shape_.tokens}); }
    ValueId segments() { return input("segments", {shape_.rows + 1}); }  // first token of each row, then the end of the last
    ValueId key_mask() { return shape_.masked ? input("key_mask", {shape_.tokens}, DType::u8) : kNone; }
    ValueId real() {
        return shape_.embedded ? kNone : input("real", {shape_.tokens}, DType::f32);
    }                                  // 1 for tokens, 0 for masked ones and filler
    ValueId last_of_rows(ValueId x);   // of a model that reads_ends or reads_last
    ValueId first_of_rows(ValueId x);  // x of each row's first token ([CLS])
    // Attention within rows. bias: a table by distance.
    ValueId attention(ValueId q, ValueId k, ValueId v, Attention attrs, ValueId bias = kNone);
    // Of an encoder-decoder: the encoder's tokens, a stream of their own.
    TokenStream& source();
    // Queries of this stream, keys and values of the source's.
    ValueId cross_attention(ValueId q, ValueId k, ValueId v, Attention attrs);
    // Operands that exist already, for a model inside another graph.
    void provide(std::string name, ValueId id) { provided_[std::move(name)] = id; }
    ValueId labels() { return input("labels", {shape_.labelled}); }
    ValueId row_labels(std::string name = "row_labels") { return input(std::move(name), {shape_.rows}); }
    // The rows of x whose loss is computed.
    ValueId labelled(ValueId x) {
        return shape_.labelled == shape_.tokens
                   ? x
                   : b_.call("embedding", {x, input("label_rows", {shape_.labelled})}, Embedding{.inside = true}, "labelled");
    }
    bool wants(std::string_view output) const { return outputs_.count(std::string(output)) > 0; }
    void output(std::string name, ValueId id) {
        if (wants(name)) b_.graph().outputs.emplace_back(std::move(name), id);
    }
    // Given labels, `logits_of(x)` of all rows when they are an output, else of the labelled rows only; sets the loss.
    void classify_tokens(ValueId hidden, const std::function<ValueId(ValueId)>& logits_of);
    // Likewise of whole rows, [rows, labels].
    void classify_rows(ValueId logits);
    int64_t next_salt() { return of_ ? of_->next_salt() : ++salt_; }
    // x has one row a token, or (in a head) fewer: one a row of the batch or one a label.
    ValueId dropout(ValueId x, double p);

private:
    ValueId input(std::string name, Shape shape, DType dtype = DType::i32) {
        if (of_) name = "source." + name;
        if (const auto found = provided_.find(name); found != provided_.end()) return found->second;
        const ValueId known = b_.graph().find(name);
        return known != kNone ? known : b_.input(std::move(name), dtype, std::move(shape));
    }
    Builder& b_;
    StreamShape shape_;
    std::set<std::string> outputs_;
    std::map<std::string, ValueId> provided_;
    std::unique_ptr<TokenStream> source_;
    TokenStream* of_ = nullptr;  // whose source this is
    int64_t salt_ = 0;
};

// What else a folder may call the tensors. transformers renames them as it loads; of a tied tensor a folder may have any of its names.
struct TensorNames {
    std::string base_prefix;  // "bert.": may be absent or additional
    std::map<std::string, std::vector<std::string>> others;
};

class Model {
public:
    virtual ~Model() = default;
    // Appends the forward pass: declares parameters, sets outputs that the stream wants, and the loss when there are labels.
    virtual void build(Builder& b, TokenStream& stream) const = 0;

    bool token_labels() const {
        return task == Task::causal_lm || task == Task::masked_lm || task == Task::token_classification || task == Task::seq2seq_lm;
    }

    Task task = Task::none;
    bool always_causal = false;  // a language model whatever the architecture's name says
    std::string family;
    Json config;  // config.json, overrides merged
    TensorNames names;
    int64_t vocabulary = 0, max_positions = 0, token_types = 0, labels = 0;
    std::optional<RowLoss> row_loss;  // nothing: integer labels are classes, floats say yes or no to each class
    std::optional<int64_t> pad_id;
    bool reads_ends = false;      // of each row the first and last unmasked token
    bool reads_last = false;      // of each row the last token that is not pad_id, or, without one, not masked
    bool one_piece = false;       // its tokens can't be dealt out over sequence ranks: each of those computes them all
    bool couples_rows = false;    // data ranks exchange within a pass, as for the load of experts: each needs rows
    int64_t position_offset = 0;  // the first position's row in the table of positions
    // Whose positions the others count on without: tokens that are pad_id, which then is their row; or masked ones, whose row is the one
    // before the first position's, and then position_ids of a batch count from 0.
    enum class Skipped { none, pad_ids, masked } positions_skip = Skipped::none;
    bool splits_rows = false;  // without a mask, a row of which positions begin anew holds several texts, which do not see each other
    std::string limit;         // why there are max_positions, where more of them would need what is not built
    std::vector<std::string> outputs;        // names that ds_output knows
    std::vector<std::string> token_outputs;  // those with one row a token

    // Of an encoder-decoder: input_ids are the encoder's; the decoder's are decoder_input_ids, or the labels shifted right.
    bool encoder_decoder = false;
    bool decodes_its_input = false;  // without either, the decoder's are input_ids shifted right
    int64_t source_vocabulary = 0;
    std::optional<int64_t> decoder_start_id;
    std::vector<std::string> source_outputs;  // those with one row a token of the encoder
};

// config: config.json's object. The family follows from model_type, the head from architectures.
Result<std::unique_ptr<Model>> make_model(const Json& config);

// Fields of a config.json, with errors that name them.
class Fields {
public:
    explicit Fields(const Json& config) : config_(config) {}
    int64_t integer(const char* key, std::optional<int64_t> otherwise = {});
    double number(const char* key, std::optional<double> otherwise = {});
    bool boolean(const char* key, bool otherwise);
    std::string text(const char* key, const std::string& otherwise);
    bool has(const char* key) const { return config_.contains(key) && !config_[key].is_null(); }
    const Json& json() const { return config_; }
    const Status& status() const { return status_; }
    void refuse(Status status) {
        if (status_.ok()) status_ = std::move(status);
    }

private:
    const Json& config_;
    Status status_;
};

}  // namespace ds
