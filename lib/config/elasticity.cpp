#include "config/elasticity.h"

#include <algorithm>
#include <numeric>
#include <set>

namespace ds {
namespace {

// Highly composite numbers: each has more divisors than any number below it.
constexpr int64_t kHighlyComposite[] = {1,     2,     4,     6,      12,     24,     36,     48,     60,     120,    180,    240,   360,
                                        720,   840,   1260,  1680,   2520,   5040,   7560,   10080,  15120,  20160,  25200,  27720, 45360,
                                        50400, 55440, 83160, 110880, 166320, 221760, 277200, 332640, 498960, 554400, 665280, 720720};

// Each micro batch, and their least common multiple, as often as a highly composite number says and the largest batch allows.
std::set<int64_t> candidates(const std::vector<int64_t>& micro_batches, int64_t max_batch) {
    std::set<int64_t> out;
    int64_t common = 1;
    for (const int64_t micro : micro_batches)
        if (common <= max_batch && __builtin_mul_overflow(common / std::gcd(common, micro), micro, &common)) common = INT64_MAX;
    std::vector<int64_t> bases = micro_batches;
    bases.push_back(common);
    for (const int64_t base : bases)
        if (base <= max_batch)
            out.insert(base * *std::prev(std::upper_bound(std::begin(kHighlyComposite), std::end(kHighlyComposite), max_batch / base)));
    return out;
}

// Numbers of ranks that split the batch into whole micro batches of one of the sizes.
std::vector<int64_t> dividing(int64_t batch, const std::vector<int64_t>& micro_batches, int64_t least, int64_t most) {
    std::set<int64_t> out;
    for (const int64_t micro : micro_batches) {
        if (batch % micro != 0) continue;
        const int64_t whole = batch / micro;
        for (int64_t i = 1; i <= whole / i; ++i)
            if (whole % i == 0)
                for (const int64_t ranks : {i, whole / i})
                    if (ranks >= least && ranks <= most) out.insert(ranks);
    }
    return {out.begin(), out.end()};
}

ElasticBatch best(const std::vector<int64_t>& micro_batches, int64_t max_batch, int64_t least, int64_t most, bool prefer_larger) {
    ElasticBatch out{*std::min_element(micro_batches.begin(), micro_batches.end()), {}};
    for (const int64_t batch : candidates(micro_batches, max_batch)) {
        std::vector<int64_t> ranks = dividing(batch, micro_batches, least, most);
        const bool tie = ranks.size() == out.data_ranks.size() && (prefer_larger ? batch > out.train : batch < out.train);
        if (ranks.size() > out.data_ranks.size() || tie) out = {batch, std::move(ranks)};
    }
    return out;
}

// 0.2 chooses among whole hosts, as if each were a rank; where this job has another number of ranks, the batch is theirs alone.
ElasticBatch best_by_hosts(const ElasticSettings& s, int64_t data_ranks) {
    const int64_t a_host = s.ranks_per_host / s.model_ranks;
    const auto hosts = [&](int64_t ranks) { return std::max<int64_t>(1, ranks / s.ranks_per_host); };
    ElasticBatch out = best(s.micro_batches, s.max_batch / a_host, hosts(s.min_ranks), hosts(s.max_ranks), s.prefer_larger);
    out.train *= a_host;
    for (int64_t& ranks : out.data_ranks) ranks *= a_host;
    if (std::binary_search(out.data_ranks.begin(), out.data_ranks.end(), data_ranks)) return out;
    out = {0, {data_ranks}};
    for (const int64_t micro : s.micro_batches) {
        if (micro > s.max_batch / data_ranks) continue;
        const int64_t batch = s.max_batch / (micro * data_ranks) * (micro * data_ranks);
        if (out.train == 0 || (s.prefer_larger ? batch > out.train : batch < out.train)) out.train = batch;
    }
    return out;
}

template <class... Args>
Status refuse(const char* key, fmt::format_string<Args...> format, Args&&... args) {
    return fail(Code::E_CONFIG, "config: elasticity.{}: {}", key, fmt::format(format, std::forward<Args>(args)...));
}

Status check(const ElasticSettings& s) {
    constexpr int64_t kMost = int64_t{1} << 40;  // keeps products small and the search short
    if (s.version != 0.1 && s.version != 0.2) return refuse("version", "must be 0.1 or 0.2, is {}", s.version);
    if (s.max_batch > kMost) return refuse("max_train_batch_size", "must be at most {}, is {}", kMost, s.max_batch);
    if (s.micro_batches.empty()) return refuse("micro_batch_sizes", "must be a list of at least one size");
    if (s.min_ranks > s.max_ranks) return refuse("min_gpus", "must be at most max_gpus {}, is {}", s.max_ranks, s.min_ranks);
    if (s.version == 0.1 && s.model_ranks > 1) return refuse("model_parallel_size", "{} needs elasticity.version 0.2", s.model_ranks);
    if (s.version == 0.2 && s.ranks_per_host % s.model_ranks != 0)
        return refuse("model_parallel_size", "{} must divide num_gpus_per_node {}", s.model_ranks, s.ranks_per_host);
    const int64_t a_host = s.version == 0.1 ? 1 : s.ranks_per_host / s.model_ranks, most = s.max_batch / a_host;
    for (const int64_t micro : s.micro_batches)
        if (micro < 1 || micro > most)
            return refuse("micro_batch_sizes",
                          "must be integers from 1 to {} (max_train_batch_size over the data-parallel ranks of a host, which "
                          "num_gpus_per_node makes {}), one is {}",
                          most, a_host, micro);
    return ok();
}

}  // namespace

Result<ElasticBatch> elastic_batch(const ElasticSettings& s, int64_t data_ranks) {
    DS_CHECK(check(s));
    return s.version == 0.1 ? best(s.micro_batches, s.max_batch, s.min_ranks, s.max_ranks, s.prefer_larger) : best_by_hosts(s, data_ranks);
}

Result<BatchSizes> resolve_elastic(const ElasticSettings& s, int64_t data_ranks) {
    DS_TRY(const ElasticBatch batch, elastic_batch(s, data_ranks));
    if (!std::binary_search(batch.data_ranks.begin(), batch.data_ranks.end(), data_ranks))
        return fail(
            Code::E_CONFIG, "config: elasticity: {} data-parallel ranks can't share the batch of {} rows; {} can", data_ranks, batch.train,
            batch.data_ranks.empty() ? "no number from min_gpus to max_gpus" : fmt::format("{}", fmt::join(batch.data_ranks, ", ")));
    const int64_t rows = batch.train / data_ranks;
    int64_t micro = 0;
    for (const int64_t size : s.micro_batches)
        if (rows > 0 && rows % size == 0) micro = std::max(micro, size);
    if (micro == 0)
        return fail(Code::E_CONFIG,
                    "config: elasticity: no size of micro_batch_sizes fits into max_train_batch_size {} over {} data-parallel ranks",
                    s.max_batch, data_ranks);
    return BatchSizes{batch.train, micro, rows / micro, data_ranks};
}

}  // namespace ds
