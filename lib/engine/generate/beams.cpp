#include "engine/generate/beams.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "engine/generate/best.h"
#include "engine/generate/next_token.h"
#include "kernels/cpu/logits.h"

namespace ds {

Beams::Beams(const GenerateOptions& options, std::vector<int32_t> prompt, int64_t most_new)
    : o_(options), prompt_(std::move(prompt)), most_new_(most_new) {}

void Beams::process(const std::vector<std::span<float>>& scores) const {
    for (size_t b = 0; b < scores.size(); ++b) {
        const std::span<float> row = scores[b];
        cpu::Running sum;
        sum.see(row.data(), static_cast<int64_t>(row.size()));
        cpu::take_off(row.data(), static_cast<int64_t>(row.size()),
                      static_cast<double>(sum.most) + std::log(static_cast<double>(sum.total)));
        std::vector<int32_t> ids = prompt_;
        ids.insert(ids.end(), running_[b].ids.begin(), running_[b].ids.end());
        process_scores(o_, row, ids, made_, most_new_);
    }
}

std::vector<Beams::Candidate> Beams::best_of(const std::vector<std::span<float>>& scores, size_t count) const {
    const auto better = [](const Candidate& a, const Candidate& b) {
        return a.score != b.score ? a.score > b.score : a.from != b.from ? a.from < b.from : a.id < b.id;
    };
    Best<Candidate, decltype(better)> best(count, better);
    for (size_t b = 0; b < scores.size(); ++b) {
        const auto score = [&](float x) { return running_[b].score + static_cast<double>(x); };
        const auto made = [&, row = scores[b]](size_t i) -> std::optional<Candidate> {
            if (row[i] == -INFINITY) return {};  // forbidden
            return Candidate{score(row[i]), static_cast<int>(b), static_cast<int32_t>(i)};
        };
        best.see(scores[b], made, score);
    }
    std::vector<Candidate> list = best.take();
    std::sort(list.begin(), list.end(), better);
    return list;
}

void Beams::keep(Beam beam) {
    beam.score /= std::pow(static_cast<double>(beam.ids.size()), o_.length_penalty);
    const auto at = std::upper_bound(ended_.begin(), ended_.end(), beam, [](const Beam& a, const Beam& b) { return a.score > b.score; });
    ended_.insert(at, std::move(beam));
    if (ended_.size() > static_cast<size_t>(o_.num_beams)) ended_.pop_back();
}

// The best that a running beam could reach is judged at its present length, or with "never" at the greatest one where length is rewarded.
bool Beams::goes_on(bool all_stop) {
    using E = GenerateOptions::EarlyStopping;
    const bool full = ended_.size() == static_cast<size_t>(o_.num_beams);
    if (full) {
        const auto length = static_cast<double>(o_.early_stopping == E::never && o_.length_penalty > 0 ? most_new_ : made_);
        hopeful_ = hopeful_ && !running_.empty() && running_.front().score / std::pow(length, o_.length_penalty) > ended_.back().score;
    }
    return hopeful_ && !all_stop && !(full && o_.early_stopping == E::yes);
}

std::vector<Beams::Choice> Beams::advance(const std::vector<std::span<float>>& logits,
                                          const std::function<bool(std::span<const int32_t>)>& stops) {
    process(logits);
    const auto beams = static_cast<size_t>(o_.num_beams);
    const std::vector<Candidate> list = best_of(logits, std::max<size_t>(2, 1 + o_.eos.size()) * beams);  // enough that num_beams run on
    ++made_;
    std::vector<Beam> next;
    std::vector<Choice> choices;
    bool all_stop = true;
    for (size_t i = 0; i < list.size(); ++i) {
        const Candidate& c = list[i];
        Beam beam{running_[static_cast<size_t>(c.from)].ids, c.score};
        beam.ids.push_back(c.id);
        const bool ends = made_ >= most_new_ || std::find(o_.eos.begin(), o_.eos.end(), c.id) != o_.eos.end() || (stops && stops(beam.ids));
        all_stop &= ends;
        if (ends && i < beams) keep(std::move(beam));  // an ending among the others is lost
        else if (!ends && next.size() < beams) {
            next.push_back(std::move(beam));
            choices.push_back({c.from, c.id});
        }
    }
    if (list.empty())  // every id is forbidden
        for (Beam& beam : running_) keep(std::move(beam));
    running_ = std::move(next);
    if (!goes_on(all_stop)) choices.clear();
    return choices;
}

const std::vector<int32_t>& Beams::best() const { return ended_.empty() ? running_.front().ids : ended_.front().ids; }

}  // namespace ds
