// A model that writes text, for the commands that show it as it appears.
#pragma once

#include <optional>

#include "command.h"

namespace dsrt::cli {

// Options of ds_generate that the command line names, and only those.
class Sampling {
public:
    void add_to(CLI::App& sub);
    std::string json() const { return options_.dump(); }
    void set(const std::string& key, Json value) { options_[key] = std::move(value); }

private:
    Json options_ = Json{{"max_new_tokens", 128}};
};

using TextSink = std::function<void(const std::string&)>;  // is given whole UTF-8 sequences
void to_stdout(const std::string& text);

class TextModel {
public:
    // folder: a Hugging Face folder. Weights are used in bf16 where the processor multiplies it.
    explicit TextModel(const std::string& folder);
    const Tokenizer& tokenizer() const { return tokenizer_; }
    bool answers() const;  // an encoder-decoder: its text is no continuation of the prompt
    std::string continue_text(const std::string& prompt, bool special_tokens, const Sampling& sampling, const TextSink& sink);

private:
    Tokenizer tokenizer_;
    Engine engine_;
};

}  // namespace dsrt::cli
