#include "engine/generate/next_token.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "kernels/kernel.h"

namespace ds {
namespace {

struct Candidate {
    float score;
    int32_t id;
    bool operator<(const Candidate& other) const { return score != other.score ? score > other.score : id < other.id; }
};

// The most likely ids whose mass reaches top_p, in order; sorts no more than it must.
void keep_nucleus(std::vector<Candidate>& list, std::vector<double>& weights, double top_p) {
    double sum = 0;
    const float top = std::min_element(list.begin(), list.end())->score;
    for (const Candidate& c : list) sum += std::exp(static_cast<double>(c.score - top));
    size_t sorted = 0, kept = 0;
    double mass = 0;
    while (kept < list.size() && (kept == 0 || mass < top_p * sum)) {
        if (kept == sorted) {
            const size_t end = std::min(list.size(), std::max<size_t>(64, sorted * 4));
            std::partial_sort(list.begin() + static_cast<int64_t>(sorted), list.begin() + static_cast<int64_t>(end), list.end());
            sorted = end;
        }
        weights.push_back(std::exp(static_cast<double>(list[kept].score - top)));
        mass += weights.back();
        ++kept;
    }
    list.resize(kept);
}

// Ids that would end a run of ids that is there already, or a bad word.
void forbid_runs(const GenerateOptions& o, std::span<float> scores, std::span<const int32_t> ids) {
    const auto n = static_cast<size_t>(o.no_repeat_ngram);
    for (size_t i = 0; n > 0 && i + n <= ids.size(); ++i)
        if (std::equal(ids.begin() + static_cast<int64_t>(i), ids.begin() + static_cast<int64_t>(i + n - 1), ids.end() - static_cast<int64_t>(n - 1))) scores[static_cast<size_t>(ids[i + n - 1])] = -INFINITY;
    for (const auto& word : o.bad_words) {
        const size_t before = word.size() - 1;
        if (before <= ids.size() && std::equal(word.begin(), word.end() - 1, ids.end() - static_cast<int64_t>(before))) scores[static_cast<size_t>(word.back())] = -INFINITY;
    }
}

void force(std::span<float> scores, int32_t id) {
    std::fill(scores.begin(), scores.end(), -INFINITY);
    scores[static_cast<size_t>(id)] = 0;
}

}  // namespace

// In transformers' order.
void process_scores(const GenerateOptions& o, std::span<float> scores, std::span<const int32_t> ids, int64_t made, int64_t most_new) {
    if (o.repetition_penalty != 1) {
        const auto penalty = static_cast<float>(o.repetition_penalty);
        for (const int32_t id : std::set<int32_t>(ids.begin(), ids.end())) {
            float& score = scores[static_cast<size_t>(id)];
            score = score < 0 ? score * penalty : score / penalty;
        }
    }
    forbid_runs(o, scores, ids);
    if (made < o.min_new_tokens)
        for (const int32_t id : o.eos)
            if (static_cast<size_t>(id) < scores.size()) scores[static_cast<size_t>(id)] = -INFINITY;
    if (o.forced_bos && ids.size() == 1) force(scores, *o.forced_bos);
    if (o.forced_eos && made + 1 == most_new) force(scores, *o.forced_eos);
}

int32_t next_token(const GenerateOptions& o, std::span<const float> scores, int64_t row, int64_t place) {
    if (!o.samples()) return static_cast<int32_t>(std::max_element(scores.begin(), scores.end()) - scores.begin());
    std::vector<Candidate> list(scores.size());
    for (size_t i = 0; i < scores.size(); ++i) list[i] = {static_cast<float>(scores[i] / o.temperature), static_cast<int32_t>(i)};
    if (o.top_k > 0 && static_cast<size_t>(o.top_k) < list.size()) {
        std::nth_element(list.begin(), list.begin() + o.top_k, list.end());
        list.resize(static_cast<size_t>(o.top_k));
    }
    std::vector<double> weights;
    keep_nucleus(list, weights, o.top_p);
    size_t kept = weights.size();
    while (kept > 1 && weights[kept - 1] < o.min_p * weights[0]) --kept;
    double sum = 0;
    for (size_t i = 0; i < kept; ++i) sum += weights[i];
    double draw = static_cast<double>(uniform_draw({static_cast<uint64_t>(o.seed), static_cast<uint64_t>(row)}, 0x67656e, static_cast<uint64_t>(place))) * sum;
    for (size_t i = 0; i < kept; ++i)
        if ((draw -= weights[i]) < 0) return list[i].id;
    return list[kept - 1].id;
}

}  // namespace ds
