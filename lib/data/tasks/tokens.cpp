// Token classification (named entities): one tag a word, carried by the word's first token or by all; other tokens are ignored.
//
// With "align": "all" a word tagged B-X continues as I-X, so that its later tokens don't begin new entities.
#include "data/tasks/task.h"

#include <algorithm>

namespace ds {
namespace {

class TokenClassification : public DataTask {
public:
    TokenClassification(const TaskSetup& setup, std::optional<LabelRule> rule)
        : tokenizer_(setup.tokenizer),
          max_length_(setup.max_length),
          all_(setup.options.align == "all"),
          words_(*setup.columns.find("words")),
          tags_(setup.columns.find("tags")),
          rule_(std::move(rule)) {}

    static Result<std::unique_ptr<DataTask>> make(const TaskSetup& setup) {
        std::optional<LabelRule> rule;
        if (const auto tags = setup.columns.find("tags")) {
            DS_TRY(rule, LabelRule::parse(setup.columns.all()[*tags], setup.num_labels, setup.label_names));
            if (setup.columns.all()[*tags].rule.contains("greater_than"))
                return fail(Code::E_CONFIG, "data: columns: tags: greater_than has no effect on this column");
        }
        auto task = std::make_unique<TokenClassification>(setup, std::move(rule));
        DS_TRY(task->separator_, separator_of(setup.columns.all()[task->words_]));
        return std::unique_ptr<DataTask>(std::move(task));
    }

    Target target() const override { return rule_ ? Target::tokens : Target::none; }
    LabelRule* label_rule() override { return rule_ ? &*rule_ : nullptr; }

    Status check(const Record& record) const override {
        DS_TRY(const std::vector<std::string> words, words_of(record));
        return rule_ ? tags_of(record, words.size()).status() : ok();
    }

    Result<Sample> sample(const Record& record, int64_t) const override {
        DS_TRY(const std::vector<std::string> words, words_of(record));
        std::vector<int64_t> tags;
        if (rule_) { DS_TRY(tags, tags_of(record, words.size())); }
        DS_TRY(Encoding encoding, tokenizer_->encode_words(words, {.add_special_tokens = true, .max_length = max_length_}));
        Sample out = to_sample(std::move(encoding));
        if (rule_) out.labels = aligned(out.words, tags);
        return out;
    }

private:
    Result<std::vector<std::string>> words_of(const Record& record) const {
        DS_TRY(std::vector<std::string> words, text_items(record[words_], "words", separator_));
        if (words.empty()) return fail(Code::E_CORRUPT, "column words: the list is empty");
        return words;
    }

    Result<std::vector<int64_t>> tags_of(const Record& record, size_t words) const {
        DS_TRY(const std::vector<Cell> items, rule_->items(record[*tags_]));
        if (items.size() != words)
            return fail(Code::E_CORRUPT, "column tags: found {} tags, {} are accepted, as there are words", items.size(), words);
        std::vector<int64_t> out;
        for (const Cell& item : items) {
            DS_TRY(const int64_t tag, rule_->class_of(item));
            out.push_back(tag);
        }
        return out;
    }

    std::vector<int32_t> aligned(const std::vector<int32_t>& words, const std::vector<int64_t>& tags) const {
        std::vector<int32_t> out;
        for (size_t i = 0; i < words.size(); ++i) {
            const int32_t word = words[i];
            const bool first = i == 0 || words[i - 1] != word;
            if (word < 0 || (!first && !all_)) out.push_back(kIgnored);
            else out.push_back(static_cast<int32_t>(first ? tags[static_cast<size_t>(word)] : inner(tags[static_cast<size_t>(word)])));
        }
        return out;
    }

    int64_t inner(int64_t tag) const {
        const std::vector<std::string>& names = rule_->names();
        if (static_cast<size_t>(tag) >= names.size() || !names[static_cast<size_t>(tag)].starts_with("B-")) return tag;
        const auto found = std::find(names.begin(), names.end(), "I-" + names[static_cast<size_t>(tag)].substr(2));
        return found == names.end() ? tag : found - names.begin();
    }

    std::shared_ptr<const Tokenizer> tokenizer_;
    int64_t max_length_;
    bool all_;
    size_t words_;
    std::optional<size_t> tags_;
    std::optional<LabelRule> rule_;
    std::string separator_;
};

}  // namespace

Result<std::unique_ptr<DataTask>> make_token_classification(TaskSetup setup) { return TokenClassification::make(setup); }

}  // namespace ds
