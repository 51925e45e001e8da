// What ranks with different words of a vocabulary tell each other about the loss.
#include <algorithm>
#include <vector>

#include "comm/communicator.h"
#include "kernels/ref/ref.h"
#include "ops/attrs_parallel.h"

namespace ds::ref {
namespace {

void find_labels(const Call& c) {
    const auto& a = c.attr<ShardedCrossEntropy>();
    const Interval mine = Cut{0, a.share.period, a.share.units}.part(static_cast<int>(a.share.rank), static_cast<int>(a.share.ranks));
    const int32_t* labels = c.in[0].as<int32_t>();
    for (int64_t i = 0; i < c.in[0].count(); ++i) {
        const int64_t label = labels[i];
        c.out[0].as<int32_t>()[i] = label == a.of.ignore                      ? kIgnoredLabel
                                    : label >= mine.begin && label < mine.end ? static_cast<int32_t>(label - mine.begin)
                                                                              : -1;
    }
}

// Scratch: of each rank the loss of its own words, then their lse.
int64_t numbers(const Tensor& lse) { return lse.count() + 1; }

void tell(const Call& c, Team team) {
    const auto& s = c.attr<ShardedCrossEntropy>().share;
    const int64_t n = numbers(c.in[1]);
    if (team.rank != 0) return;
    auto* own = reinterpret_cast<float*>(c.scratch) + s.ranks * n;
    own[0] = *c.in[0].as<float>();
    std::copy_n(c.in[1].as<float>(), n - 1, own + 1);
}

void hear(const Call& c, Team team) {
    const auto& s = c.attr<ShardedCrossEntropy>().share;
    const int64_t n = numbers(c.in[1]);
    auto* all = reinterpret_cast<float*>(c.scratch);
    std::vector<Block> from;
    for (int64_t r = 0; r < s.ranks; ++r) from.push_back({all + r * n, n * 4});
    Communicator* group = c.runtime->links ? (*c.runtime->links)[s.group] : nullptr;
    if (group) {
        if (const Status status = group->all_gather({all + s.ranks * n, n * 4}, from, team); !status.ok()) c.runtime->links->note(status);
    } else if (team.rank == 0) {
        for (int64_t r = 0; r < s.ranks; ++r) std::copy_n(all + s.ranks * n, n, all + r * n);
    }
}

// mean(lse - logit) over labels = mean(lse) + the ranks' own losses - the means of their own lse.
void put_together(const Call& c, Team team) {
    if (team.rank != 0) return;
    const auto& a = c.attr<ShardedCrossEntropy>();
    const int64_t n = numbers(c.in[1]), ranks = c.runtime->links ? a.share.ranks : 1;
    const auto* all = reinterpret_cast<const float*>(c.scratch);
    const int32_t* labels = c.in[2].as<int32_t>();
    double sum = 0, losses = 0, counted = 0;
    for (int64_t r = 0; r < ranks; ++r) losses += all[r * n];
    for (int64_t i = 0; i + 1 < n; ++i) {
        double most = -INFINITY, total = 0, parts = 0;
        for (int64_t r = 0; r < ranks; ++r) most = std::max<double>(most, all[r * n + 1 + i]);
        for (int64_t r = 0; r < ranks; ++r) total += std::exp(all[r * n + 1 + i] - most), parts += all[r * n + 1 + i];
        const double lse = most + std::log(total);
        c.out[1].as<float>()[i] = static_cast<float>(lse);
        if (labels[i] == a.of.ignore) continue;
        sum += lse - parts;
        ++counted;
    }
    *c.out[0].as<float>() = counted > 0 ? static_cast<float>(losses + sum / counted) : 0.0f;
}

Result<Prepared> prepare(const Request& r) {
    return Prepared{{tell, hear, put_together}, nullptr, (r.attr<ShardedCrossEntropy>().share.ranks + 1) * numbers(r.in[1]) * 4};
}

}  // namespace

static constexpr KernelImpl local_labels_list[] = {plain<find_labels>()};
static constexpr KernelImpl vocabulary_merge_list[] = {{"exchange", accepts_all, prepare, true}};
extern const KernelList local_labels = local_labels_list;
extern const KernelList vocabulary_merge = vocabulary_merge_list;

}  // namespace ds::ref
