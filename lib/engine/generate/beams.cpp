#include "engine/generate/beams.h"

#include <algorithm>
#include <cmath>

#include "engine/generate/next_token.h"
#include "kernels/cpu/logits.h"

namespace ds {

Beams::Beams(const GenerateOptions& options, std::vector<int32_t> prompt, int64_t most_new) : o_(options), prompt_(std::move(prompt)), most_new_(most_new) {}

void Beams::process(const std::vector<std::span<float>>& scores) const {
    for (size_t b = 0; b < scores.size(); ++b) {
        const std::span<float> row = scores[b];
        cpu::Running sum;
        sum.see(row.data(), static_cast<int64_t>(row.size()));
        cpu::take_off(row.data(), static_cast<int64_t>(row.size()), static_cast<double>(sum.most) + std::log(static_cast<double>(sum.total)));
        std::vector<int32_t> ids = prompt_;
        ids.insert(ids.end(), running_[b].ids.begin(), running_[b].ids.end());
        process_scores(o_, row, ids, made_, most_new_);
    }
}

std::vector<Beams::Candidate> Beams::best_of(const std::vector<std::span<float>>& scores, size_t count) const {
    const auto better = [](const Candidate& a, const Candidate& b) { return a.score != b.score ? a.score > b.score : a.from != b.from ? a.from < b.from : a.id < b.id; };
    std::vector<Candidate> heap;  // the worst of the best in front
    const auto see = [&](const Candidate& c) {
        if (heap.size() == count && !better(c, heap.front())) return;
        if (heap.size() == count) {
            std::pop_heap(heap.begin(), heap.end(), better);
            heap.pop_back();
        }
        heap.push_back(c);
        std::push_heap(heap.begin(), heap.end(), better);
    };
    constexpr size_t kBlock = 512;  // most blocks hold nothing that could be among the best
    for (size_t b = 0; b < scores.size(); ++b)
        for (size_t first = 0; first < scores[b].size(); first += kBlock) {
            const std::span<const float> block = scores[b].subspan(first, std::min(kBlock, scores[b].size() - first));
            const auto score = [&](float x) { return running_[b].score + static_cast<double>(x); };
            if (heap.size() == count && score(cpu::largest_of(block.data(), static_cast<int64_t>(block.size()))) < heap.front().score) continue;
            for (size_t i = 0; i < block.size(); ++i)
                if (block[i] != -INFINITY) see({score(block[i]), static_cast<int>(b), static_cast<int32_t>(first + i)});  // else it is forbidden
        }
    std::sort(heap.begin(), heap.end(), better);
    return heap;
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

std::vector<Beams::Choice> Beams::advance(const std::vector<std::span<float>>& logits, const std::function<bool(std::span<const int32_t>)>& stops) {
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
