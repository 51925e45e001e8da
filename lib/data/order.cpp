#include "data/order.h"

#include <algorithm>
#include <numeric>

#include "data/random.h"

namespace ds {
namespace {

// Fisher and Yates.
template <class T>
void shuffle(std::vector<T>& items, CounterRandom random) {
    for (size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[random.below(i, i)]);
}

// Rows that group_batches batches hold, about.
size_t group_rows(const OrderRules& rules) {
    int64_t rows = rules.rows_per_batch;
    if (rows == 0) {
        const uint64_t total = std::accumulate(rules.lengths.begin(), rules.lengths.end(), uint64_t{0});
        rows = static_cast<int64_t>(static_cast<double>(rules.tokens_per_batch) * static_cast<double>(rules.samples) /
                                    static_cast<double>(std::max<uint64_t>(total, 1)));
    }
    return static_cast<size_t>(std::max<int64_t>(rows, 1) * rules.group_batches);
}

void sort_groups(std::vector<uint32_t>& samples, const OrderRules& rules) {
    const size_t group = group_rows(rules);
    for (size_t begin = 0; begin < samples.size(); begin += group) {
        const auto first = samples.begin() + static_cast<ptrdiff_t>(begin);
        const auto last = samples.begin() + static_cast<ptrdiff_t>(std::min(begin + group, samples.size()));
        std::stable_sort(first, last, [&](uint32_t a, uint32_t b) { return rules.lengths[a] > rules.lengths[b]; });
    }
}

void cut_by_rows(EpochOrder& order, const OrderRules& rules) {
    const auto rows = static_cast<uint64_t>(rules.rows_per_batch);
    const uint64_t n = order.samples.size();
    for (uint64_t begin = 0; begin < n; begin += rows) order.batches.emplace_back(begin, std::min(begin + rows, n));
    if (rules.drop_last && n % rows != 0) order.batches.pop_back();
}

void cut_by_tokens(EpochOrder& order, const OrderRules& rules) {
    uint64_t begin = 0, tokens = 0;
    for (uint64_t i = 0; i < order.samples.size(); ++i) {
        const uint64_t length = rules.lengths[order.samples[i]];
        const bool full = tokens + length > static_cast<uint64_t>(rules.tokens_per_batch);
        if (full && i - begin >= static_cast<uint64_t>(rules.shards)) {
            order.batches.emplace_back(begin, i);
            begin = i;
            tokens = 0;
        }
        tokens += length;
    }
    if (!rules.drop_last) order.batches.emplace_back(begin, order.samples.size());
}

}  // namespace

std::span<const uint32_t> EpochOrder::rows(int64_t b, int64_t rank, int64_t shards) const {
    const auto [begin, end] = batches[static_cast<size_t>(b)];
    const auto n = static_cast<int64_t>(end - begin);
    const int64_t first = n * rank / shards, last = n * (rank + 1) / shards;
    return std::span(samples).subspan(begin + static_cast<uint64_t>(first), static_cast<size_t>(last - first));
}

EpochOrder make_order(const OrderRules& rules, uint64_t epoch) {
    EpochOrder order;
    order.epoch = epoch;
    order.samples.resize(static_cast<size_t>(rules.samples));
    std::iota(order.samples.begin(), order.samples.end(), 0u);
    const CounterRandom random = CounterRandom(rules.seed).at(epoch).at(0);
    if (rules.shuffle) shuffle(order.samples, random.at(0));
    if (rules.group_by_length) sort_groups(order.samples, rules);
    if (rules.rows_per_batch > 0) cut_by_rows(order, rules);
    else cut_by_tokens(order, rules);
    if (!order.batches.empty() && static_cast<int64_t>(order.batches.back().second - order.batches.back().first) < rules.shards)
        order.batches.pop_back();
    if (rules.shuffle && rules.group_by_length) shuffle(order.batches, random.at(1));
    return order;
}

}  // namespace ds
