// What ds_generate is asked for: transformers' names and meanings, checked one by one.
#pragma once

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

    bool samples() const { return temperature > 0; }
    // How many tokens may follow a prompt of so many, in a model of so many positions (0: no limit).
    int64_t most_new(int64_t prompt, int64_t max_positions) const;
};

// text: a JSON object, or nothing. default_eos: ends a row unless the options say otherwise; a number, a list or null. vocabulary: ids lie below.
Result<GenerateOptions> generate_options(std::string_view text, const Json& default_eos, int64_t vocabulary, std::string_view call);

}  // namespace ds
