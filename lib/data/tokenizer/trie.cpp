#include "data/tokenizer/trie.h"

#include <algorithm>

namespace ds::tokenizer {
namespace {
constexpr uint32_t kFree = 0xFFFFFFFFu;  // check of a free slot
constexpr size_t kAttempts = 64;         // free slots tried before the array is extended
}  // namespace

// Free slots form a ring through `next`/`previous`; nodes are placed depth first, over an explicit stack.
struct Trie::Builder {
    using Entries = std::vector<std::pair<std::string_view, int32_t>>;
    struct Work {
        uint32_t node;
        size_t begin, end, depth;
    };

    std::vector<Node>& nodes;
    std::vector<uint32_t> next, previous;
    uint32_t head = kFree;  // some free slot

    void extend() {
        const auto old = static_cast<uint32_t>(nodes.size());
        nodes.resize(old + 256, Node{0, kFree, kNone});
        next.resize(nodes.size());
        previous.resize(nodes.size());
        for (uint32_t i = old; i < old + 256; ++i) next[i] = i + 1, previous[i] = i - 1;
        if (head == kFree) head = old, previous[old] = old + 255, next[old + 255] = old;
        else link(previous[head], old), link(old + 255, head);
    }
    void link(uint32_t a, uint32_t b) { next[a] = b, previous[b] = a; }
    void take(uint32_t slot) {
        if (next[slot] == slot) head = kFree;
        else {
            link(previous[slot], next[slot]);
            if (head == slot) head = next[slot];
        }
    }
    bool fits(uint32_t base, const std::vector<unsigned char>& labels) const {
        return std::all_of(labels.begin(), labels.end(), [&](unsigned char c) { return nodes[base ^ c].check == kFree; });
    }
    uint32_t place(const std::vector<unsigned char>& labels) {
        if (head != kFree) {
            // Newest slots first: old blocks fill up and would be searched in vain.
            uint32_t slot = previous[head];
            for (size_t i = 0; i < kAttempts; ++i, slot = previous[slot]) {
                if (const uint32_t base = slot ^ labels[0]; fits(base, labels)) return base;
                if (slot == head) break;
            }
        }
        const auto base = static_cast<uint32_t>(nodes.size());
        extend();
        return base;
    }

    void build(const Entries& entries) {
        extend();
        take(0);
        nodes[0].check = 0;
        std::vector<Work> stack{{0, 0, entries.size(), 0}};
        std::vector<unsigned char> labels;
        std::vector<size_t> starts;
        while (!stack.empty()) {
            Work work = stack.back();
            stack.pop_back();
            for (; work.begin < work.end && entries[work.begin].first.size() == work.depth; ++work.begin)
                nodes[work.node].value = entries[work.begin].second;
            if (work.begin == work.end) continue;
            labels.clear();
            starts.clear();
            for (size_t i = work.begin; i < work.end; ++i) {
                const auto label = static_cast<unsigned char>(entries[i].first[work.depth]);
                if (labels.empty() || labels.back() != label) labels.push_back(label), starts.push_back(i);
            }
            starts.push_back(work.end);
            const uint32_t base = place(labels);
            nodes[work.node].base = base;
            for (const unsigned char label : labels) {
                take(base ^ label);
                nodes[base ^ label].check = work.node;
            }
            for (size_t i = labels.size(); i-- > 0;) stack.push_back({base ^ labels[i], starts[i], starts[i + 1], work.depth + 1});
        }
    }
};

Trie::Trie(std::vector<std::pair<std::string_view, int32_t>> entries) {
    std::erase_if(entries, [](const auto& entry) { return entry.first.empty(); });
    if (entries.empty()) return;
    std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    Builder{nodes_, {}, {}}.build(entries);
    nodes_.shrink_to_fit();
}

Trie::Found Trie::longest(std::string_view text) const {
    Found found;
    if (empty()) return found;
    uint32_t node = root();
    for (size_t i = 0; i < text.size(); ++i) {
        node = step(node, text[i]);
        if (node == 0) break;
        if (value(node) != kNone) found = {value(node), i + 1};
    }
    return found;
}

int32_t Trie::exact(std::string_view key) const {
    if (empty()) return kNone;
    uint32_t node = root();
    for (const char c : key) {
        node = step(node, c);
        if (node == 0) return kNone;
    }
    return value(node);
}

}  // namespace ds::tokenizer
