// From the logits of one row to its next id: transformers' logits processors, then the largest or a draw.
#pragma once

#include <functional>
#include <span>

#include "engine/generate/options.h"

namespace ds {

// What greedy, sampling and beam search share: the repetition penalty (Keskar et al. 2019, arXiv 1909.05858) over all ids so far, runs of
// ids that are forbidden or come once, no end before min_new_tokens, a first and a last id that are prescribed. scores: logits, or their
// log-probabilities; made: how many of most_new ids there are.
void process_scores(const GenerateOptions& o, std::span<float> scores, std::span<const int32_t> ids, int64_t made, int64_t most_new);

// row and place name the draw: the same row of any batch draws the same.
int32_t next_token(const GenerateOptions& o, std::span<const float> scores, int64_t row, int64_t place);

}  // namespace ds
