// The best candidates of many scores, found in one pass.
#pragma once

#include <algorithm>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "kernels/cpu/logits.h"

namespace ds {

// better(a, b): a goes before b; a strict order.
template <class Candidate, class Better = std::less<Candidate>>
class Best {
public:
    explicit Best(size_t count, Better better = {}) : count_(count), better_(better) {}

    // made(i): the candidate of row[i]; one that is not to be chosen gives none. Most blocks hold nothing that could be among the best:
    // `cut(most)`, the score that a candidate of such a value would have, says so.
    template <class Made, class Cut>
    void see(std::span<const float> row, const Made& made, const Cut& cut) {
        constexpr size_t kBlock = 512;
        for (size_t first = 0; first < row.size(); first += kBlock) {
            const std::span<const float> block = row.subspan(first, std::min(kBlock, row.size() - first));
            if (full() && cut(cpu::largest_of(block.data(), static_cast<int64_t>(block.size()))) < heap_.front().score) continue;
            for (size_t i = first; i < first + block.size(); ++i)
                if (const auto candidate = made(i)) keep(*candidate);
        }
    }
    std::vector<Candidate> take() { return std::move(heap_); }  // in no order

private:
    bool full() const { return heap_.size() == count_; }
    void keep(const Candidate& c) {
        if (full()) {
            if (!better_(c, heap_.front())) return;
            std::pop_heap(heap_.begin(), heap_.end(), better_);
            heap_.pop_back();
        }
        heap_.push_back(c);
        std::push_heap(heap_.begin(), heap_.end(), better_);
    }

    const size_t count_;
    const Better better_;
    std::vector<Candidate> heap_;  // the worst of the best in front
};

}  // namespace ds
