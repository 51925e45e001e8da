// WordPiece and WordLevel. WordPiece takes the longest token that the word begins with, then the longest "##" token, and so on;
// a word that can't be finished is one unknown token. Schuster, Nakajima 2012; Devlin et al. 2018 (arXiv 1810.04805).
#include "data/tokenizer/fields.h"
#include "data/tokenizer/model.h"
#include "data/tokenizer/trie.h"
#include "data/tokenizer/unicode.h"

namespace ds::tokenizer {
namespace {

Result<int32_t> unknown_id(const Vocabulary& vocabulary, std::string_view unk, std::string_view place) {
    const auto id = vocabulary.id_of(unk);
    if (!id) return fail(Code::E_CORRUPT, "{}.unk_token: \"{}\" is not in the vocabulary", place, unk);
    return *id;
}

class WordPiece final : public Model {
public:
    Status load(const ModelSpec& spec) {
        for (const auto& [token, id] : spec.vocabulary) DS_CHECK(vocabulary_.add(token, id).within(spec.place + ".vocab"));
        DS_TRY(const std::string unk, string_field(spec.options, "unk_token", spec.place, "[UNK]"));
        DS_TRY(prefix_, string_field(spec.options, "continuing_subword_prefix", spec.place, "##"));
        DS_TRY(max_code_points_, int_field(spec.options, "max_input_chars_per_word", spec.place, 0, 1 << 20, 100));
        DS_TRY(unknown_, unknown_id(vocabulary_, unk, spec.place));
        std::vector<std::pair<std::string_view, int32_t>> all, continuing;
        for (int64_t id = 0; id < vocabulary_.end(); ++id) {
            const std::string_view token = vocabulary_.token_of(static_cast<int32_t>(id));
            all.emplace_back(token, static_cast<int32_t>(id));
            if (token.starts_with(prefix_)) continuing.emplace_back(token.substr(prefix_.size()), static_cast<int32_t>(id));
        }
        first_ = Trie(std::move(all));
        continuing_ = Trie(std::move(continuing));
        return ok();
    }

    Status tokenize(std::string_view word, std::vector<Token>& out) const override {
        const size_t before = out.size();
        const bool too_long =
            static_cast<int64_t>(word.size()) > max_code_points_ && static_cast<int64_t>(count_code_points(word)) > max_code_points_;
        for (size_t at = 0; !too_long && at < word.size();) {
            const Trie::Found found = (at == 0 ? first_ : continuing_).longest(word.substr(at));
            if (found.length == 0) break;
            out.push_back({found.value, static_cast<uint32_t>(at), static_cast<uint32_t>(at + found.length)});
            at += found.length;
        }
        if (out.size() > before && out.back().end == word.size()) return ok();
        out.resize(before);
        out.push_back({unknown_, 0, static_cast<uint32_t>(word.size())});
        return ok();
    }

    std::optional<int32_t> unknown() const override { return unknown_; }
    std::string_view continuing_prefix() const override { return prefix_; }

private:
    Trie first_, continuing_;
    std::string prefix_;
    int64_t max_code_points_ = 100;
    int32_t unknown_ = 0;
};

class WordLevel final : public Model {
public:
    Status load(const ModelSpec& spec) {
        for (const auto& [token, id] : spec.vocabulary) DS_CHECK(vocabulary_.add(token, id).within(spec.place + ".vocab"));
        DS_TRY(const std::string unk, string_field(spec.options, "unk_token", spec.place, "<unk>"));
        DS_TRY(unknown_, unknown_id(vocabulary_, unk, spec.place));
        return ok();
    }
    Status tokenize(std::string_view word, std::vector<Token>& out) const override {
        out.push_back({vocabulary_.id_of(word).value_or(unknown_), 0, static_cast<uint32_t>(word.size())});
        return ok();
    }
    std::optional<int32_t> unknown() const override { return unknown_; }

private:
    int32_t unknown_ = 0;
};

template <class T>
Result<std::unique_ptr<Model>> make(const ModelSpec& spec) {
    auto model = std::make_unique<T>();
    DS_CHECK(model->load(spec));
    return std::unique_ptr<Model>(std::move(model));
}

}  // namespace

Result<std::unique_ptr<Model>> make_wordpiece(const ModelSpec& spec) { return make<WordPiece>(spec); }
Result<std::unique_ptr<Model>> make_wordlevel(const ModelSpec& spec) { return make<WordLevel>(spec); }

Result<std::unique_ptr<Model>> make_model(const ModelSpec& spec) {
#define DS_TOKENIZER_MODEL(name, function) \
    if (spec.type == name) return function(spec);
#include "data/tokenizer/models.def"
#undef DS_TOKENIZER_MODEL
    return fail(Code::E_UNSUPPORTED, "{}.type: \"{}\" is not built; BPE, WordPiece, Unigram and WordLevel are", spec.place, spec.type);
}

}  // namespace ds::tokenizer
