// Beam search for one prompt, as transformers has it: the best continuations of all running beams at once; those that end are kept apart,
// by their score divided by length^length_penalty.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "engine/generate/options.h"

namespace ds {

class Beams {
public:
    // most_new: how many ids may follow the prompt; at least 1. options outlive this.
    Beams(const GenerateOptions& options, std::vector<int32_t> prompt, int64_t most_new);

    struct Choice {
        int from;
        int32_t id;
    };  // the running beam that is continued, and with what
    // logits: of each running beam's next token; at first there is one. Answers which beams run on: num_beams of them, or none once the
    // search has ended. The logits are worked on in place. stops: whether new ids stop for another reason than an eos id; may be empty.
    std::vector<Choice> advance(const std::vector<std::span<float>>& logits, const std::function<bool(std::span<const int32_t>)>& stops);
    const std::vector<int32_t>& best() const;  // the new ids of the best beam that ended

private:
    struct Beam {
        std::vector<int32_t> ids;  // the new ones
        double score = 0;
    };
    struct Candidate {
        double score;
        int from;
        int32_t id;
    };
    void process(const std::vector<std::span<float>>& scores) const;  // logits become processed log-probabilities
    std::vector<Candidate> best_of(const std::vector<std::span<float>>& scores, size_t count) const;
    void keep(Beam ended);
    bool goes_on(bool all_stop);

    const GenerateOptions& o_;
    const std::vector<int32_t> prompt_;
    const int64_t most_new_;
    int64_t made_ = 0;
    std::vector<Beam> running_{1};
    std::vector<Beam> ended_;  // best first, at most num_beams
    bool hopeful_ = true;      // a running beam may still beat one that ended
};

}  // namespace ds
