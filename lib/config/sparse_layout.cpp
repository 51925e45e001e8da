#include "config/sparse_layout.h"

#include <algorithm>

namespace ds {
namespace {

// SplitMix64 (Steele, Lea, Flood 2014): draw `index`, below `end`.
uint64_t draw(uint64_t seed, uint64_t index, uint64_t end) {
    uint64_t z = seed + (index + 1) * 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return (z ^ (z >> 31)) % end;
}

class Layout {
public:
    Layout(const SparseAttentionConfig& config, int64_t heads, int64_t blocks, uint64_t seed)
        : c_(config), n_(blocks), seed_(seed), seen_(static_cast<size_t>(heads * blocks * blocks), 0) {}

    std::vector<uint8_t> make(int64_t heads) {
        for (head_ = 0; head_ < heads; ++head_) {
            if (c_.mode == "fixed") fixed();
            else if (c_.mode == "variable") variable();
            else sliding();
        }
        return std::move(seen_);
    }

private:
    bool one_way() const { return c_.attention == "unidirectional"; }
    void see(int64_t row, int64_t column) { seen_[static_cast<size_t>((head_ * n_ + row) * n_ + column)] = 1; }
    void rectangle(int64_t row, int64_t row_end, int64_t column, int64_t column_end) {
        for (int64_t r = std::max<int64_t>(row, 0); r < std::min(row_end, n_); ++r)
            for (int64_t c = std::max<int64_t>(column, 0); c < std::min(column_end, n_); ++c) see(r, c);
    }
    // All blocks of a window see each other, or the earlier ones.
    void window(int64_t begin, int64_t end) {
        for (int64_t row = begin; row < std::min(end, n_); ++row) rectangle(row, row + 1, begin, one_way() ? row + 1 : end);
    }
    // Blocks that all see, or all that follow; `across`: that see all, too.
    void global(int64_t begin, int64_t end, bool across) {
        rectangle(one_way() ? begin : 0, n_, begin, end);
        if (across) rectangle(begin, end, 0, n_);
    }
    // In each row, as many of the first `choices` blocks as asked for.
    void random_blocks(bool earlier_only) {
        for (int64_t row = 0; row < n_; ++row) {
            std::vector<int64_t> left(static_cast<size_t>(earlier_only ? row + 1 : n_));
            for (size_t i = 0; i < left.size(); ++i) left[i] = static_cast<int64_t>(i);
            for (int64_t k = 0; k < c_.num_random_blocks && !left.empty(); ++k) {
                const auto at = static_cast<std::ptrdiff_t>(
                    draw(seed_, static_cast<uint64_t>((head_ * n_ + row) * c_.num_random_blocks + k), left.size()));
                see(row, left[static_cast<size_t>(at)]);
                left.erase(left.begin() + at);
            }
        }
    }

    // Windows of equal size; the last blocks of each (other ones for other heads, where there are patterns) are seen by all.
    void fixed() {
        const int64_t size = c_.num_local_blocks, wide = c_.num_global_blocks,
                      place = size - (1 + head_ % c_.num_different_global_patterns) * wide;
        for (int64_t begin = 0; begin < n_; begin += size) {
            window(begin, begin + size);
            const int64_t first =
                begin + size <= n_ ? begin + place : std::max<int64_t>(std::min(begin + place, n_ - wide), 0);  // a short window at the end
            global(first, first + wide, c_.horizontal_global_attention);
        }
    }

    // Windows as listed, the last size again and again; listed blocks are seen by all.
    void variable() {
        random_blocks(false);
        size_t i = 0;
        for (int64_t begin = 0; begin < n_; begin += c_.local_window_blocks[i], i = std::min(i + 1, c_.local_window_blocks.size() - 1))
            window(begin, begin + c_.local_window_blocks[i]);
        listed(c_.horizontal_global_attention);
    }

    // A window around each block; the first blocks (bigbird) or listed ones (bslongformer) are seen by all and see all.
    void sliding() {
        if (c_.mode == "bigbird") random_blocks(one_way());
        const int64_t reach = c_.num_sliding_window_blocks / 2;
        for (int64_t row = 0; row < n_; ++row) rectangle(row, row + 1, row - reach, row + reach + 1);
        if (c_.mode == "bigbird") global(0, c_.num_global_blocks, true);
        else listed(true);
        if (one_way())
            for (int64_t row = 0; row < n_; ++row)
                for (int64_t column = row + 1; column < n_; ++column) seen_[static_cast<size_t>((head_ * n_ + row) * n_ + column)] = 0;
    }

    void listed(bool across) {
        for (size_t i = 0; i < c_.global_block_indices.size(); ++i) {
            const int64_t begin = c_.global_block_indices[i];
            global(begin, c_.global_block_end_indices.empty() ? begin + 1 : c_.global_block_end_indices[i], across);
        }
    }

    const SparseAttentionConfig& c_;
    const int64_t n_;
    const uint64_t seed_;
    int64_t head_ = 0;
    std::vector<uint8_t> seen_;
};

}  // namespace

std::vector<uint8_t> sparse_layout(const SparseAttentionConfig& config, int64_t heads, int64_t blocks, uint64_t seed) {
    return Layout(config, heads, blocks, seed).make(heads);
}

Status check_sparse_layout(const SparseAttentionConfig& c) {
    const auto refuse = [](std::string_view key, const std::string& what) {
        return fail(Code::E_CONFIG, "config: sparse_attention.{}: {}", key, what);
    };
    if (c.attention != "bidirectional" && c.horizontal_global_attention && (c.mode == "fixed" || c.mode == "variable"))
        return refuse("horizontal_global_attention", "needs attention \"bidirectional\"");
    if (c.mode == "fixed") {
        if (c.num_local_blocks % c.num_global_blocks)
            return refuse("num_local_blocks",
                          fmt::format("{} must be a multiple of num_global_blocks {}", c.num_local_blocks, c.num_global_blocks));
        if (c.num_different_global_patterns > 1 && !c.different_layout_per_head)
            return refuse("num_different_global_patterns", "more than 1 needs different_layout_per_head");
        if (c.num_different_global_patterns > c.num_local_blocks / c.num_global_blocks)
            return refuse("num_different_global_patterns",
                          fmt::format("{} is more than the {} places of {} global blocks among {}", c.num_different_global_patterns,
                                      c.num_local_blocks / c.num_global_blocks, c.num_global_blocks, c.num_local_blocks));
    }
    if (c.local_window_blocks.empty() || *std::min_element(c.local_window_blocks.begin(), c.local_window_blocks.end()) < 1)
        return refuse("local_window_blocks", "must be a list of positive numbers");
    if (!c.global_block_indices.empty() && *std::min_element(c.global_block_indices.begin(), c.global_block_indices.end()) < 0)
        return refuse("global_block_indices", "must not be negative");
    if (c.global_block_end_indices.empty()) return ok();
    if (c.global_block_end_indices.size() != c.global_block_indices.size())
        return refuse("global_block_end_indices", fmt::format("has {} entries for {} of global_block_indices",
                                                              c.global_block_end_indices.size(), c.global_block_indices.size()));
    for (size_t i = 0; i < c.global_block_indices.size(); ++i)
        if (c.global_block_end_indices[i] <= c.global_block_indices[i])
            return refuse("global_block_end_indices",
                          fmt::format("{} must be above {}", c.global_block_end_indices[i], c.global_block_indices[i]));
    return ok();
}

}  // namespace ds
