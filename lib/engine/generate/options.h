// What ds_generate is asked for: transformers' names and meanings, checked one by one.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"

namespace ds {

struct GenerateOptions {
    int64_t max_new_tokens = 32, min_new_tokens = 0, max_length = 0;  // max_length counts the prompt too; 0: as max_new_tokens says
    double temperature = 0;                                           // 0: greedy
    int64_t top_k = 0;                                                // 0: all
    double top_p = 1, min_p = 0, repetition_penalty = 1;
    int64_t seed = 0;
    int64_t num_beams = 1;
    double length_penalty = 1;
    enum class EarlyStopping { no, yes, never } early_stopping = EarlyStopping::no;
    std::vector<int32_t> eos;
    std::vector<std::string> stop_strings;
    bool use_cache = true;
    std::optional<int32_t> decoder_start, forced_bos, forced_eos;  // of an encoder-decoder's answer; its second id; the last one that fits
    std::vector<std::vector<int32_t>> bad_words;                   // never made whole
    int64_t no_repeat_ngram = 0;                                   // runs of so many ids come once; 0: as often as they like

    bool samples() const { return temperature > 0; }
    // How many tokens may follow a prompt of so many, in a model of so many positions (0: no limit). An encoder-decoder's prompt is its
    // start token.
    int64_t most_new(int64_t prompt, int64_t max_positions) const;
};

// text: a JSON object, or nothing. defaults: what the model's folder says of ids, under the options' names. vocabulary: ids lie below.
Result<GenerateOptions> generate_options(std::string_view text, const Json& defaults, int64_t vocabulary, std::string_view call);
// The options that a model's folder decides, where the caller does not.
inline constexpr const char* kFolderOptions[] = {"eos_token_id", "decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id",
                                                 "bad_words_ids"};

}  // namespace ds
