#include "engine/generate/next_token.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

#include "engine/generate/best.h"
#include "kernels/cpu/logits.h"

namespace ds {
namespace {

struct Candidate {
    float score;
    int32_t id;
    bool operator<(const Candidate& other) const { return score != other.score ? score > other.score : id < other.id; }
};

// Candidates in order, sorted no further than they are asked for.
class Ranked {
public:
    explicit Ranked(std::vector<Candidate> list) : list_(std::move(list)) {}
    size_t size() const { return list_.size(); }
    const Candidate& operator[](size_t i) {
        while (i >= sorted_) {
            const size_t end = std::min(list_.size(), std::max<size_t>(64, sorted_ * 4));
            std::partial_sort(list_.begin() + static_cast<int64_t>(sorted_), list_.begin() + static_cast<int64_t>(end), list_.end());
            sorted_ = end;
        }
        return list_[i];
    }

private:
    std::vector<Candidate> list_;
    size_t sorted_ = 0;
};

// Ids that would end a run of ids that is there already, or a bad word.
void forbid_runs(const GenerateOptions& o, std::span<float> scores, std::span<const int32_t> ids) {
    const auto n = static_cast<size_t>(o.no_repeat_ngram);
    for (size_t i = 0; n > 0 && i + n <= ids.size(); ++i)
        if (std::equal(ids.begin() + static_cast<int64_t>(i), ids.begin() + static_cast<int64_t>(i + n - 1),
                       ids.end() - static_cast<int64_t>(n - 1)))
            scores[static_cast<size_t>(ids[i + n - 1])] = -INFINITY;
    for (const auto& word : o.bad_words) {
        const size_t before = word.size() - 1;
        if (before <= ids.size() && std::equal(word.begin(), word.end() - 1, ids.end() - static_cast<int64_t>(before)))
            scores[static_cast<size_t>(word.back())] = -INFINITY;
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
    if (!o.samples()) return static_cast<int32_t>(cpu::place_of_largest(scores.data(), static_cast<int64_t>(scores.size())));
    std::vector<float> scaled(scores.size());
    for (size_t i = 0; i < scores.size(); ++i) scaled[i] = static_cast<float>(scores[i] / o.temperature);
    std::vector<Candidate> list;
    cpu::Running all;
    if (o.top_k > 0 && static_cast<size_t>(o.top_k) < scaled.size()) {
        Best<Candidate> found(static_cast<size_t>(o.top_k));
        found.see(
            scaled,
            [&](size_t i) {
                return std::optional(Candidate{scaled[i], static_cast<int32_t>(i)});
            },
            [](float x) { return x; });
        list = found.take();
        std::vector<float> best;
        for (const Candidate& c : list) best.push_back(c.score);
        all.see(best.data(), static_cast<int64_t>(best.size()));
    } else {
        for (size_t i = 0; i < scaled.size(); ++i) list.push_back({scaled[i], static_cast<int32_t>(i)});
        all.see(scaled.data(), static_cast<int64_t>(scaled.size()));
    }
    Ranked ranked(std::move(list));
    const auto weight = [&](size_t i) { return std::exp(static_cast<double>(ranked[i].score - all.most)); };
    size_t kept = ranked.size();
    auto mass = static_cast<double>(all.total);
    if (o.top_p < 1 || o.min_p > 0) {  // the most likely ids whose mass reaches top_p, and of those none below min_p of the first
        const double least = o.min_p * weight(0), most = o.top_p < 1 ? o.top_p * mass : INFINITY;
        kept = 0, mass = 0;
        while (kept < ranked.size() && (kept == 0 || (mass < most && weight(kept) >= least))) mass += weight(kept++);
    }
    double draw = static_cast<double>(
                      uniform_draw({static_cast<uint64_t>(o.seed), static_cast<uint64_t>(row)}, 0x67656e, static_cast<uint64_t>(place))) *
                  mass;
    for (size_t i = 0; i < kept; ++i)
        if ((draw -= weight(i)) < 0) return ranked[i].id;
    return ranked[0].id;  // rounding's rest is the most likely one's; the last may be forbidden
}

}  // namespace ds
