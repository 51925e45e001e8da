// A model turns one word (a piece of normalised text) into tokens of its vocabulary.
#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "data/tokenizer/vocabulary.h"

namespace ds::tokenizer {

struct Token {
    int32_t id;
    uint32_t begin, end;  // bytes of the word
};

class Model {
public:
    virtual ~Model() = default;
    // Appends the word's tokens. The word is never empty.
    virtual Status tokenize(std::string_view word, std::vector<Token>& out) const = 0;
    // Whether tokenize_bytes is there: the word before the byte-level mapping, which it then implies.
    virtual bool reads_bytes() const { return false; }
    virtual Status tokenize_bytes(std::string_view, std::vector<Token>&) const { return Status(Code::E_INTERNAL); }
    // Called once, after loading, with the way in which it will be used.
    virtual void prepare(bool /*bytes*/) {}
    virtual std::optional<int32_t> unknown() const { return std::nullopt; }
    // Whether the unknown token reads as the text it stands for, not as its name.
    virtual bool unknown_is_text() const { return false; }
    // What a token begins with when it continues a word ("##"), or "".
    virtual std::string_view continuing_prefix() const { return {}; }

    // The rows of its vocabulary, where added tokens go on counting.
    virtual int64_t rows() const { return vocabulary_.size(); }

    const Vocabulary& vocabulary() const { return vocabulary_; }

protected:
    Vocabulary vocabulary_;
};

// What a file says about its model, whichever the format; views point into the file's text.
struct ModelSpec {
    std::string type;
    Json options = Json::object();  // the scalar fields
    std::vector<std::pair<std::string_view, int64_t>> vocabulary;
    std::vector<double> scores;  // Unigram: one for each row of `vocabulary`
    std::vector<std::pair<std::string_view, std::string_view>> merges;
    std::string place;
};

Result<std::unique_ptr<Model>> make_model(const ModelSpec& spec);
#define DS_TOKENIZER_MODEL(name, function) Result<std::unique_ptr<Model>> function(const ModelSpec& spec);
#include "data/tokenizer/models.def"
#undef DS_TOKENIZER_MODEL

}  // namespace ds::tokenizer
