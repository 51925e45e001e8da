// Scores of predictions against references, as the tools that papers quote compute them. Pure functions of texts and tags.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/status.h"

namespace ds::metrics {

// Entities in tags such as B-PER, I-PER, O (IOB1, IOB2, IOBES): an entity is right where type, beginning and end are. As seqeval (Nakayama
// 2018) in its default mode, which is that of the CoNLL-2000 script. Shares from 0 to 1; 0 where nothing is there to divide by.
struct Shares {
    double precision = 0, recall = 0, f1 = 0;
    int64_t support = 0;
};
struct SpanScores {
    Shares all;
    double accuracy = 0;  // of tags
    std::map<std::string, Shares> types;
};
using Tags = std::vector<std::string>;
SpanScores span_scores(std::span<const Tags> predictions, std::span<const Tags> references);

// SQuAD's exact match and F1 (Rajpurkar et al. 2016, arXiv 1606.05250; 2018, arXiv 1806.03822): of each question the best of its references
// counts, without capitals, punctuation and articles; an empty answer is right where the references are empty. Percent.
struct AnswerScores {
    double exact_match = 0, f1 = 0;
};
AnswerScores answer_scores(std::span<const std::string> predictions, std::span<const std::vector<std::string>> references);

// BLEU of a corpus (Papineni et al. 2002) as sacrebleu (Post 2018, arXiv 1804.08771) computes it by default: its tokenizer 13a, capitals
// kept, exponential smoothing. references: one or more a prediction; all predictions have as many.
struct BleuScores {
    double bleu = 0, brevity_penalty = 0;  // percent; a factor
    std::vector<double> precisions;        // of 1 to 4 words, percent
    int64_t length = 0, reference_length = 0;
};
BleuScores bleu_scores(std::span<const std::string> predictions, std::span<const std::vector<std::string>> references);
std::vector<std::string> tokens_13a(std::string_view text);

// By name, on what a host brings: "spans" (lists of tags), "squad" (texts; a text or a list of texts each), "bleu" (likewise). Errors name
// the item.
Result<Json> score(std::string_view metric, const Json& predictions, const Json& references);

// The scores as ds_score gives them.
Json to_json(const SpanScores& s);
Json to_json(const AnswerScores& s);
Json to_json(const BleuScores& s);

}  // namespace ds::metrics
