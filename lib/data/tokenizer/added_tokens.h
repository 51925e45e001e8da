// Added tokens: whole strings that are cut out of the text before anything else looks at it ("[MASK]", "<|endoftext|>").
// Those marked `normalized` are looked for, in their normalised form, in the normalised text between the others.
#pragma once

#include <string>
#include <vector>

#include "data/tokenizer/model.h"
#include "data/tokenizer/pieces.h"
#include "data/tokenizer/stages.h"
#include "data/tokenizer/trie.h"
#include "data/tokenizer/vocabulary.h"

namespace ds::tokenizer {

struct AddedToken {
    std::string content;
    bool single_word = false, lstrip = false, rstrip = false, normalized = true, special = false;
    int32_t id = -1;
    std::string normal_form;  // what decoding and matching use: the content, normalised if it says so
};

class AddedTokens {
public:
    // Gives ids: the vocabulary's for a token that it has, else the next free one, in order.
    Status load(std::vector<AddedToken> tokens, const Model& model, const Normalizer* normalizer, std::string_view place);

    const AddedToken* find(int32_t id) const;
    std::optional<int32_t> id_of(std::string_view content) const { return ids_.id_of(content); }
    const std::vector<AddedToken>& all() const { return tokens_; }

    // The stretches of text that are added tokens (with their id) and those between.
    void split_original(std::string_view text, std::vector<Piece>& out) const { split(original_, text, out); }
    void split_normalized(std::string_view text, std::vector<Piece>& out) const { split(normalized_, text, out); }
    bool has_normalized() const { return !normalized_.trie.empty(); }
    bool empty() const { return tokens_.empty(); }

private:
    struct Matcher {
        Trie trie;  // values are indices into tokens_
        std::vector<bool> first = std::vector<bool>(256);
    };
    void split(const Matcher& matcher, std::string_view text, std::vector<Piece>& out) const;
    Matcher matcher_of(bool normalized) const;
    std::vector<AddedToken> tokens_;
    Vocabulary ids_;
    std::vector<std::pair<int32_t, size_t>> by_id_;  // sorted
    Matcher original_, normalized_;
};

}  // namespace ds::tokenizer
