#include "data/tokenizer/added_tokens.h"

#include <algorithm>

namespace ds::tokenizer {
namespace {

bool word_before(std::string_view text, size_t at) {
    if (at == 0) return false;
    size_t start = previous_start(text, at);
    return is_word(next_code_point(text, start));
}

bool word_behind(std::string_view text, size_t at) { return at < text.size() && is_word(next_code_point(text, at)); }

size_t blanks_before(std::string_view text, size_t at) {
    while (at > 0) {
        const size_t start = previous_start(text, at);
        size_t i = start;
        if (!is_whitespace(next_code_point(text, i))) break;
        at = start;
    }
    return at;
}

size_t blanks_behind(std::string_view text, size_t at) {
    for (size_t i = at; i < text.size(); at = i) {
        if (!is_whitespace(next_code_point(text, i))) break;
    }
    return at;
}

}  // namespace

Status AddedTokens::load(std::vector<AddedToken> tokens, const Model& model, const Normalizer* normalizer, std::string_view place) {
    int64_t next = model.rows();
    for (AddedToken& token : tokens) {
        if (token.content.empty()) continue;
        token.normal_form = token.content;
        if (token.normalized && normalizer) {
            AlignedText text = AlignedText::of(token.content);
            DS_CHECK(normalizer->apply(text));
            token.normal_form = text.text;
        }
        const auto known = ids_.id_of(token.content);
        token.id = known ? *known : model.vocabulary().id_of(token.content).value_or(-1);
        if (token.id < 0) token.id = static_cast<int32_t>(next++);
        DS_CHECK(ids_.add_or_replace(token.content, token.id).within(place));
        if (known) std::erase_if(tokens_, [&](const AddedToken& other) { return other.id == token.id; });
        tokens_.push_back(std::move(token));
    }
    for (size_t i = 0; i < tokens_.size(); ++i) by_id_.emplace_back(tokens_[i].id, i);
    std::sort(by_id_.begin(), by_id_.end());
    original_ = matcher_of(false);
    normalized_ = matcher_of(true);
    return ok();
}

AddedTokens::Matcher AddedTokens::matcher_of(bool normalized) const {
    Matcher matcher;
    std::vector<std::pair<std::string_view, int32_t>> entries;
    for (size_t i = 0; i < tokens_.size(); ++i) {
        if (tokens_[i].normalized != normalized || tokens_[i].normal_form.empty()) continue;
        entries.emplace_back(tokens_[i].normal_form, static_cast<int32_t>(i));
        matcher.first[static_cast<unsigned char>(tokens_[i].normal_form[0])] = true;
    }
    matcher.trie = Trie(std::move(entries));
    return matcher;
}

const AddedToken* AddedTokens::find(int32_t id) const {
    const auto it = std::lower_bound(by_id_.begin(), by_id_.end(), std::pair<int32_t, size_t>(id, 0));
    return it == by_id_.end() || it->first != id ? nullptr : &tokens_[it->second];
}

// Leftmost longest matches that do not overlap; blanks that a token takes along were not matched.
void AddedTokens::split(const Matcher& matcher, std::string_view text, std::vector<Piece>& out) const {
    size_t done = 0;
    for (size_t at = 0; at < text.size() && !matcher.trie.empty();) {
        if (!matcher.first[static_cast<unsigned char>(text[at])]) {
            ++at;
            continue;
        }
        const Trie::Found found = matcher.trie.longest(text.substr(at));
        if (found.length == 0) {
            ++at;
            continue;
        }
        const AddedToken& token = tokens_[static_cast<size_t>(found.value)];
        size_t begin = at, end = at + found.length;
        at = end;
        if (token.single_word && (word_before(text, begin) || word_behind(text, end))) continue;
        if (token.lstrip) begin = std::max(blanks_before(text, begin), done);
        if (token.rstrip) end = blanks_behind(text, end);
        if (done < begin) out.push_back({static_cast<uint32_t>(done), static_cast<uint32_t>(begin), kNoToken});
        if (begin < end)
            out.push_back({static_cast<uint32_t>(begin), static_cast<uint32_t>(end), token.id});  // else the token before took its blanks
        done = end;
    }
    if (done < text.size()) out.push_back({static_cast<uint32_t>(done), static_cast<uint32_t>(text.size()), kNoToken});
}

}  // namespace ds::tokenizer
