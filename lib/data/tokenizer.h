// Tokenizers: text to ids and back, equal to Hugging Face's `tokenizers` on the same file.
//
// A tokenizer is a line of stages: added tokens are cut out of the text, the rest is normalised, split into words
// (pre-tokenised), each word becomes pieces of the vocabulary, and a template adds the special tokens. Every stage keeps
// the place of each byte in the original text, so that a token knows which code points it came from.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"

namespace ds {

// One tokenised text (or pair of texts). All vectors have one entry a token.
struct Encoding {
    std::vector<int32_t> ids;
    std::vector<int32_t> type_ids;
    std::vector<std::pair<int64_t, int64_t>> offsets;  // [begin, end) in code points of the token's own text; (0, 0) for special tokens
    std::vector<uint8_t> special;                      // 1 for tokens that the template added
    std::vector<int32_t> word_ids;                     // the word (pre-token, or index into `words`) a token is part of; -1 none
    std::vector<int32_t> sequence;                     // 0 text, 1 pair, -1 special

    size_t size() const { return ids.size(); }
};

struct EncodeOptions {
    bool add_special_tokens = true;
    int64_t max_length = 0;                                                              // special tokens included; 0 = no truncation
    enum class Cut { longest_first, only_first, only_second } cut = Cut::longest_first;  // transformers' truncation strategies
    std::optional<bool> cut_left = {};  // the beginnings are cut, not the ends; absent: as the tokenizer's files say
};

// Immutable after loading: one tokenizer may be used by many threads at once.
class Tokenizer {
public:
    // A tokenizer.json, a vocab.txt, a sentencepiece .model, or a folder that holds tokenizer.json, vocab.txt,
    // vocab.json + merges.txt, spiece.model or tokenizer.model (and tokenizer_config.json beside any of them).
    static Result<std::shared_ptr<const Tokenizer>> load(const std::filesystem::path& path);
    // The text of a tokenizer.json; errors begin with `place`.
    static Result<std::shared_ptr<const Tokenizer>> from_json(std::string_view text, std::string_view place);
    ~Tokenizer();

    // The file's own truncation and padding are ignored. Bad UTF-8 reads as U+FFFD.
    Result<Encoding> encode(std::string_view text, std::optional<std::string_view> pair, const EncodeOptions& options) const;
    // A text that is already split into words (named-entity data): offsets count within each word.
    Result<Encoding> encode_words(std::span<const std::string> words, const EncodeOptions& options) const;
    Result<std::string> decode(std::span<const int32_t> ids, bool skip_special) const;

    int64_t vocabulary_size() const;  // with added tokens; one more than the largest id
    std::optional<int32_t> id_of(std::string_view token) const;
    std::string token_of(int32_t id) const;  // "" for an id that has no token
    bool is_special(int32_t id) const;
    bool continues_word(int32_t id) const;  // the token does not begin a word ("##ing"), for whole-word masking

    // By the roles of tokenizer_config.json where it lies beside, else by the customary names ("[PAD]", "<pad>" ...).
    std::optional<int32_t> pad_id() const;
    std::optional<int32_t> mask_id() const;
    std::optional<int32_t> cls_id() const;
    std::optional<int32_t> sep_id() const;
    std::optional<int32_t> bos_id() const;
    std::optional<int32_t> eos_id() const;
    std::optional<int32_t> unk_id() const;

    // What its files say about padding and truncation (tokenizer_config.json, then tokenizer.json), else the end of rows.
    bool pads_left() const;
    int32_t pad_type() const;  // of padding in token_type_ids

    // How many special tokens the template adds to a text, or to a pair.
    int64_t special_tokens_added(bool pair) const;
    const std::filesystem::path& folder() const;  // where it was loaded from (for export); empty for from_json

private:
    struct Impl;
    explicit Tokenizer(std::unique_ptr<const Impl> impl);
    std::unique_ptr<const Impl> impl_;
};

}  // namespace ds
