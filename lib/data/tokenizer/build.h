// A tokenizer's parts, ready to run.
#pragma once

#include <set>

#include "data/tokenizer/definition.h"

namespace ds::tokenizer {

struct Roles {
    std::optional<int32_t> pad, mask, cls, sep, bos, eos, unk;
};

// How rows are filled up and cut where a call does not say: tokenizer_config.json's words, then tokenizer.json's, then transformers'
// defaults.
struct Sides {
    bool pads_left = false, cuts_left = false;
    int32_t pad_type = 0;
};

struct Parts {
    std::unique_ptr<Model> model;
    AddedTokens added;
    NormalizerPtr normalizer;
    PreTokenizerPtr pre_tokenizer;
    PostProcessorPtr post_processor;
    DecoderPtr decoder;
    bool trims_offsets = false;
    std::set<std::string, std::less<>> special;  // contents of the special tokens
    std::vector<bool> continues;                 // by id: the token does not begin a word
    Roles roles;
    Sides sides;
    int64_t ids = 0;  // one more than the largest
    std::filesystem::path folder;
};

// `config` is tokenizer_config.json's object, or empty.
Result<Parts> build(const Definition& definition, const Json& config);
// Any of the formats, from a file or a folder.
Result<Parts> load(const std::filesystem::path& path);

}  // namespace ds::tokenizer
