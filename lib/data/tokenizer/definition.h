// What a tokenizer is made of, whichever format it came from, and the readers of the formats.
#pragma once

#include <filesystem>
#include <memory>

#include "data/tokenizer/added_tokens.h"
#include "data/tokenizer/model.h"
#include "data/tokenizer/stages.h"

namespace ds::tokenizer {

// The stages of a tokenizer as JSON (null where there is none), its model and its added tokens.
struct Definition {
    Json normalizer, pre_tokenizer, post_processor, decoder;
    Json added_tokens = Json::array();
    Json padding, truncation;  // the file's own: only their sides and the padding's token are used
    ModelSpec model;
    std::string place;
    std::shared_ptr<void> storage;  // what the model's views point into
};

// tokenizer.json, by simdjson: a vocabulary of several MB takes some tens of milliseconds.
Result<Definition> read_tokenizer_json(std::string_view text, std::string_view place);
// A sentencepiece model. `config` is tokenizer_config.json's object, or empty.
Result<Definition> read_sentencepiece(std::string_view bytes, const Json& config, std::string_view place);
// BERT's vocab.txt: one token a line.
Result<Definition> read_vocab_txt(std::string text, const Json& config, std::string_view place);
// GPT-2's vocab.json and merges.txt.
Result<Definition> read_vocab_and_merges(const std::string& vocab, std::string merges, const Json& config, std::string_view place);

// tokenizer_config.json of a folder, with special_tokens_map.json for what it leaves out; an empty object where there is neither.
Result<Json> folder_config(const std::filesystem::path& folder);
// The content of a token in tokenizer_config.json: a string, or an object that holds it.
std::optional<std::string> config_token(const Json& config, const char* role);

// {"id": ..., "content": ..., ...} for added_tokens.
Json added_token(std::string_view content, bool special, bool lstrip = false);

}  // namespace ds::tokenizer
