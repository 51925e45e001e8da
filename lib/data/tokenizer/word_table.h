// Short words that are one token: the answer for most words of a text at the price of one memory access.
#pragma once

#include <cstring>
#include <string_view>
#include <vector>

namespace ds::tokenizer {

class WordTable {
public:
    static constexpr size_t kMaxLength = 23;
    struct Key {
        uint64_t part[3] = {};
        bool operator==(const Key& other) const { return part[0] == other.part[0] && part[1] == other.part[1] && part[2] == other.part[2]; }
        uint64_t hash() const {
            uint64_t h =
                part[0] * 0x9E3779B97F4A7C15u ^ (part[1] + 0x165667B19E3779F9u) * 0xC2B2AE3D27D4EB4Fu ^ part[2] * 0xD6E8FEB86659FD93u;
            h ^= h >> 32;
            return h * 0x9E3779B97F4A7C15u;
        }
    };
    // The word padded with zeros, its length in the last byte. `word` has at most kMaxLength bytes.
    static Key key_of(std::string_view word) {
        Key key;
        std::memcpy(&key, word.data(), word.size());
        key.part[2] |= static_cast<uint64_t>(word.size()) << 56;
        return key;
    }

    void reserve(size_t n) {
        size_t slots = 64;
        while (slots < n * 2) slots *= 2;
        slots_.assign(slots, Slot{});
        shift_ = 64 - __builtin_ctzll(slots);
    }
    void add(const Key& key, int32_t id) { slots_[find(key)] = {key, id}; }
    int32_t operator[](const Key& key) const { return slots_.empty() ? -1 : slots_[find(key)].id; }

private:
    struct Slot {
        Key key;
        int32_t id = -1;
    };
    size_t find(const Key& key) const {
        size_t i = key.hash() >> shift_;
        while (slots_[i].id >= 0 && !(slots_[i].key == key)) i = (i + 1) & (slots_.size() - 1);
        return i;
    }
    std::vector<Slot> slots_;
    int shift_ = 58;
};

}  // namespace ds::tokenizer
