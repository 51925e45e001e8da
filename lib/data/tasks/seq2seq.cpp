// Text to text for encoder-decoders (translation, summaries): the source's tokens for the encoder, the target's as labels. The engine
// shifts labels right into what the decoder reads, as transformers does, so a batch holds none of that.
#include "data/tasks/task.h"

namespace ds {
namespace {

class Seq2Seq : public DataTask {
public:
    static Result<std::unique_ptr<DataTask>> make(const TaskSetup& setup) {
        auto task = std::make_unique<Seq2Seq>();
        const DataOptions& o = setup.options;
        task->source_tokenizer_ = task->target_tokenizer_ = setup.tokenizer;
        if (!o.target_tokenizer.empty()) { DS_TRY(task->target_tokenizer_, Tokenizer::load(o.target_tokenizer)); }
        task->prefix_ = o.source_prefix;
        task->max_source_ = setup.max_length;
        task->max_target_ = setup.max_target_length;
        task->vocabulary_ = setup.target_vocabulary_size;
        task->source_ = *setup.columns.find("source");
        task->target_ = *setup.columns.find("target");
        return std::unique_ptr<DataTask>(std::move(task));
    }

    Target target() const override { return Target::sequence; }

    Status check(const Record& record) const override {
        DS_CHECK(filled_text_of(record[source_], "source").status());
        return filled_text_of(record[target_], "target").status();
    }

    Result<Sample> sample(const Record& record, int64_t) const override {
        DS_TRY(const std::string_view source, filled_text_of(record[source_], "source"));
        DS_TRY(const std::string_view target, filled_text_of(record[target_], "target"));
        DS_TRY(Encoding from, source_tokenizer_->encode(prefix_ + std::string(source), std::nullopt,
                                                        {.add_special_tokens = true, .max_length = max_source_}));
        DS_TRY(Encoding to, target_tokenizer_->encode(target, std::nullopt, {.add_special_tokens = true, .max_length = max_target_}));
        Sample out = to_sample(std::move(from));
        out.labels = std::move(to.ids);
        for (const int32_t id : out.labels)
            if (vocabulary_ > 0 && id >= vocabulary_)
                return fail(Code::E_INVALID_ARGUMENT,
                            "column target: token id {} (\"{}\") is outside the model's vocabulary of {}; another tokenizer is needed", id,
                            target_tokenizer_->token_of(id), vocabulary_);
        return out;
    }

private:
    std::shared_ptr<const Tokenizer> source_tokenizer_, target_tokenizer_;
    std::string prefix_;
    int64_t max_source_ = 0, max_target_ = 0, vocabulary_ = 0;
    size_t source_ = 0, target_ = 0;
};

}  // namespace

Result<std::unique_ptr<DataTask>> make_seq2seq(TaskSetup setup) { return Seq2Seq::make(setup); }

}  // namespace ds
