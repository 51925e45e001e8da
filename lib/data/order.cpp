#include "data/order.h"

#include <algorithm>
#include <numeric>

#include "base/mesh.h"
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
        rows = static_cast<int64_t>(static_cast<double>(rules.tokens_per_part * rules.parts) * static_cast<double>(rules.samples) /
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

// Each batch is the longest whose every part keeps the limit.
void cut_by_tokens(EpochOrder& order, const OrderRules& rules) {
    const auto limit = static_cast<uint64_t>(rules.tokens_per_part), parts = static_cast<uint64_t>(rules.parts);
    const auto length = [&](uint32_t sample) { return uint64_t{rules.lengths[sample]}; };
    if (rules.drop_long) std::erase_if(order.samples, [&](uint32_t sample) { return length(sample) > limit; });
    std::vector<uint64_t> before{0};  // tokens of the samples before each
    for (const uint32_t sample : order.samples) before.push_back(before.back() + length(sample));
    const auto fits = [&](uint64_t begin, uint64_t end) {
        for (int64_t part = 0; part < rules.parts; ++part) {
            const Interval rows = near_even(static_cast<int64_t>(end - begin), part, rules.parts);
            const uint64_t* from = &before[begin];
            if (rows.size() > 1 && from[rows.end] - from[rows.begin] > limit) return false;
        }
        return true;
    };
    const uint64_t n = order.samples.size(), most = rules.max_rows > 0 ? static_cast<uint64_t>(rules.max_rows) : n;
    for (uint64_t begin = 0, end = 0; begin < n; begin = end) {
        end = std::min(begin + parts, n);
        for (uint64_t i = end + 1; i <= std::min(begin + most, n) && (before[i] - before[begin]) / parts <= limit; ++i)
            if (fits(begin, i)) end = i;
        if (end < n || !rules.drop_last) order.batches.emplace_back(begin, end);
    }
    std::erase_if(order.batches, [&](const auto& batch) { return batch.second - batch.first < static_cast<uint64_t>(rules.min_rows); });
}

// Which rows are easy changes from update to update. While it stays, they are taken in a shuffled order, over and over; an epoch has as
// many batches as without, less those that no row is easy enough for.
bool cut_by_difficulty(EpochOrder& order, const OrderRules& rules, const CounterRandom& random) {
    const int64_t n = rules.samples, rows = rules.rows_per_batch, updates_of = rules.curriculum.batches_per_update;
    const int64_t batches = std::max<int64_t>(rules.drop_last ? n / rows : (n + rows - 1) / rows, 1),
                  updates = (batches + updates_of - 1) / updates_of;
    const auto update_of = [&](int64_t batch) { return static_cast<int64_t>(order.epoch) * updates + batch / updates_of + 1; };
    const auto difficulties = [&](int64_t update) {
        std::vector<int64_t> list;
        for (const CurriculumMetric& metric : rules.curriculum.metrics) list.push_back(metric.difficulty(update));
        return list;
    };
    std::vector<int64_t> current = difficulties(update_of(0));
    std::vector<uint32_t> easy = easy_rows(rules.curriculum, n, update_of(0));
    if (static_cast<int64_t>(easy.size()) == n) return false;  // all are: it ends here
    order.samples.clear();
    uint64_t shuffles = 0;
    size_t taken = easy.size();
    for (int64_t b = 0; b < batches; ++b) {
        if (auto now = difficulties(update_of(b)); now != current) {
            current = std::move(now);
            easy = easy_rows(rules.curriculum, n, update_of(b));
            taken = easy.size();
        }
        if (easy.empty()) continue;
        const uint64_t begin = order.samples.size();
        for (int64_t i = 0; i < rows; ++i) {
            if (taken == easy.size()) {
                if (rules.shuffle) shuffle(easy, random.at(2).at(shuffles++));
                taken = 0;
            }
            order.samples.push_back(easy[taken++]);
        }
        order.batches.emplace_back(begin, order.samples.size());
    }
    return true;
}

}  // namespace

std::span<const uint32_t> EpochOrder::rows(int64_t b, int64_t rank, int64_t shards) const {
    const auto [begin, end] = batches[static_cast<size_t>(b)];
    const Interval part = near_even(static_cast<int64_t>(end - begin), rank, shards);
    return std::span(samples).subspan(begin + static_cast<uint64_t>(part.begin), static_cast<size_t>(part.size()));
}

std::vector<uint32_t> easy_rows(const RowCurriculum& curriculum, int64_t samples, int64_t update) {
    std::vector<uint32_t> easy(static_cast<size_t>(samples));
    std::iota(easy.begin(), easy.end(), 0u);
    for (size_t m = 0; m < curriculum.metrics.size(); ++m) {
        const CurriculumMetric& metric = curriculum.metrics[m];
        const std::vector<double>& values = curriculum.values[m];
        const int64_t difficulty = metric.difficulty(update);
        if (!metric.percentile) {
            std::erase_if(easy, [&](uint32_t i) { return values[i] > static_cast<double>(difficulty); });
            continue;
        }
        std::vector<uint32_t> sorted(static_cast<size_t>(samples));
        std::iota(sorted.begin(), sorted.end(), 0u);
        std::stable_sort(sorted.begin(), sorted.end(), [&](uint32_t a, uint32_t b) { return values[a] < values[b]; });
        const int64_t count = difficulty >= metric.most ? samples : samples / metric.most * difficulty;
        std::vector<bool> in(sorted.size(), false);
        for (int64_t i = 0; i < count; ++i) in[sorted[static_cast<size_t>(i)]] = true;
        std::erase_if(easy, [&](uint32_t i) { return !in[i]; });
    }
    return easy;
}

EpochOrder make_order(const OrderRules& rules, uint64_t epoch) {
    EpochOrder order;
    order.epoch = epoch;
    order.samples.resize(static_cast<size_t>(rules.samples));
    std::iota(order.samples.begin(), order.samples.end(), 0u);
    const CounterRandom random = CounterRandom(rules.seed).at(epoch).at(0);
    if (!rules.curriculum.metrics.empty() && cut_by_difficulty(order, rules, random)) return order;
    if (rules.shuffle) shuffle(order.samples, random.at(0));
    if (rules.sorted)
        std::stable_sort(order.samples.begin(), order.samples.end(),
                         [&](uint32_t a, uint32_t b) { return rules.lengths[a] < rules.lengths[b]; });
    if (rules.group_by_length) sort_groups(order.samples, rules);
    if (rules.rows_per_batch > 0) cut_by_rows(order, rules);
    else cut_by_tokens(order, rules);
    if (!order.batches.empty() && static_cast<int64_t>(order.batches.back().second - order.batches.back().first) < rules.shards)
        order.batches.pop_back();
    if (rules.shuffle && rules.group_by_length) shuffle(order.batches, random.at(1));
    return order;
}

}  // namespace ds
