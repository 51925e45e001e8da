#include "data/tokenizer/vocabulary.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace ds::tokenizer {

size_t Vocabulary::slot_of(std::string_view token) const {
    const size_t mask = slots_.size() - 1;
    size_t slot = static_cast<size_t>(XXH3_64bits(token.data(), token.size())) & mask;
    while (slots_[slot] >= 0) {
        const Span& span = tokens_[static_cast<size_t>(slots_[slot])].span;
        if (token == std::string_view(block_).substr(span.offset, static_cast<size_t>(span.length))) break;
        slot = (slot + 1) & mask;
    }
    return slot;
}

void Vocabulary::grow() {
    slots_.assign(slots_.size() * 2, -1);
    const size_t mask = slots_.size() - 1;
    for (size_t i = 0; i < tokens_.size(); ++i) {
        const Span& span = tokens_[i].span;
        size_t slot = static_cast<size_t>(XXH3_64bits(block_.data() + span.offset, static_cast<size_t>(span.length))) & mask;
        while (slots_[slot] >= 0) slot = (slot + 1) & mask;
        slots_[slot] = static_cast<int32_t>(i);
    }
}

Status Vocabulary::check(std::string_view token, int64_t id) const {
    if (id < 0 || id >= kMaxIds)
        return fail(Code::E_CORRUPT, "token \"{}\" has id {}; ids from 0 to {} are accepted", token.substr(0, 100), id, kMaxIds - 1);
    if (block_.size() + token.size() > kMaxVocabularyBytes)
        return fail(Code::E_CORRUPT, "tokens of more than {} bytes together", kMaxVocabularyBytes);
    return ok();
}

void Vocabulary::insert(std::string_view token, int32_t id) {
    if (tokens_.size() * 2 >= slots_.size()) grow();
    const Span span{static_cast<uint32_t>(block_.size()), static_cast<int32_t>(token.size())};
    slots_[slot_of(token)] = static_cast<int32_t>(tokens_.size());
    block_ += token;
    tokens_.push_back({span, id});
    ++count_;
}

Status Vocabulary::add(std::string_view token, int64_t id) {
    DS_CHECK(check(token, id));
    if (const auto present = id_of(token))
        return fail(Code::E_CORRUPT, "token \"{}\" appears twice, with ids {} and {}", token.substr(0, 100), *present, id);
    if (has(static_cast<int32_t>(id))) {
        return fail(Code::E_CORRUPT, "id {} appears twice, for tokens \"{}\" and \"{}\"", id,
                    token_of(static_cast<int32_t>(id)).substr(0, 100), token.substr(0, 100));
    }
    return add_or_replace(token, id);
}

Status Vocabulary::add_or_replace(std::string_view token, int64_t id) {
    DS_CHECK(check(token, id));
    const auto narrow = static_cast<int32_t>(id);
    const size_t slot = slot_of(token);
    if (slots_[slot] >= 0) tokens_[static_cast<size_t>(slots_[slot])].id = narrow;
    else insert(token, narrow);
    if (static_cast<size_t>(id) >= by_id_.size()) by_id_.resize(static_cast<size_t>(id) + 1);
    if (!has(narrow)) by_id_[static_cast<size_t>(id)] = tokens_[static_cast<size_t>(slots_[slot_of(token)])].span;
    return ok();
}

std::optional<int32_t> Vocabulary::id_of(std::string_view token) const {
    const int32_t index = slots_[slot_of(token)];
    if (index < 0) return std::nullopt;
    return tokens_[static_cast<size_t>(index)].id;
}

std::string_view Vocabulary::token_of(int32_t id) const {
    if (!has(id)) return {};
    const Span& span = by_id_[static_cast<size_t>(id)];
    return std::string_view(block_).substr(span.offset, static_cast<size_t>(span.length));
}

}  // namespace ds::tokenizer
