// A double-array trie from byte strings to ids (Aoe 1989): child of node n by byte c is base[n] ^ c where its check is n.
// One memory access a byte, which is what greedy and Viterbi search over a vocabulary spend their time on.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace ds::tokenizer {

class Trie {
public:
    static constexpr int32_t kNone = -1;
    Trie() = default;
    // A key that appears twice keeps its last value. Empty keys are left out.
    explicit Trie(std::vector<std::pair<std::string_view, int32_t>> entries);

    bool empty() const { return nodes_.empty(); }
    uint32_t root() const { return 0; }
    // The child by this byte, or 0 (the root is no one's child).
    uint32_t step(uint32_t node, char byte) const {
        const uint32_t child = nodes_[node].base ^ static_cast<unsigned char>(byte);
        return nodes_[child].check == node ? child : 0;
    }
    int32_t value(uint32_t node) const { return nodes_[node].value; }

    struct Found {
        int32_t value = kNone;
        size_t length = 0;
    };
    Found longest(std::string_view text) const;
    int32_t exact(std::string_view key) const;

private:
    struct Node {
        uint32_t base, check;
        int32_t value;
    };
    struct Builder;
    std::vector<Node> nodes_;
};

}  // namespace ds::tokenizer
