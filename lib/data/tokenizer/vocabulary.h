// The two-way map between tokens and ids. Tokens lie in one block of memory, found through an open-addressing table.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace ds::tokenizer {

inline constexpr int64_t kMaxIds = int64_t{1} << 22;  // ids a vocabulary may have: tables of this size are allocated
inline constexpr size_t kMaxVocabularyBytes = size_t{1} << 30;

class Vocabulary {
public:
    Vocabulary() : slots_(16, -1) {}
    // Refused: a negative or huge id, a token or (unless `shared`) an id that is already there.
    Status add(std::string_view token, int64_t id);
    // The token's id becomes this one; the id's own token stays if it has one (as where a list names a token twice).
    Status add_or_replace(std::string_view token, int64_t id);

    std::optional<int32_t> id_of(std::string_view token) const;
    std::string_view token_of(int32_t id) const;  // "" where there is none
    bool has(int32_t id) const { return id >= 0 && static_cast<size_t>(id) < by_id_.size() && by_id_[static_cast<size_t>(id)].length >= 0; }
    int64_t size() const { return count_; }                              // tokens
    int64_t end() const { return static_cast<int64_t>(by_id_.size()); }  // one more than the largest id

private:
    struct Span {
        uint32_t offset = 0;
        int32_t length = -1;
    };
    size_t slot_of(std::string_view token) const;
    void grow();
    Status check(std::string_view token, int64_t id) const;
    void insert(std::string_view token, int32_t id);

    std::string block_;
    std::vector<Span> by_id_;
    std::vector<int32_t> slots_;  // index into tokens_, -1 free
    struct Entry {
        Span span;
        int32_t id;
    };
    std::vector<Entry> tokens_;
    int64_t count_ = 0;
};

}  // namespace ds::tokenizer
