#include "text_stream.h"

namespace dsrt::cli {
namespace {

Json engine_config(const std::string& folder) {
    const Json cpu = Json::parse(build_info()).value("cpu", Json::object());
    return {{"model", folder}, {"bf16", {{"enabled", cpu.value("in_use", "").ends_with("_bf16")}}}};
}

}  // namespace

void Sampling::add_to(CLI::App& sub) {
    // CLI11 checks the numbers; what they may be is the library's to say, once.
    const auto number = [&](const char* flag, const char* key, const char* meaning) {
        sub.add_option_function<double>(
            flag, [this, key](double v) { options_[key] = v; }, meaning);
    };
    const auto integer = [&](const char* flag, const char* key, const char* meaning) {
        sub.add_option_function<int64_t>(
            flag, [this, key](int64_t v) { options_[key] = v; }, meaning);
    };
    integer("--max-new-tokens", "max_new_tokens", "how many tokens at most (default 128)");
    number("--temperature", "temperature", "0 takes the likeliest token (default); higher is more varied");
    integer("--top-k", "top_k", "choose among so many likeliest tokens");
    number("--top-p", "top_p", "choose among the likeliest tokens that hold this much probability");
    integer("--seed", "seed", "of the choices");
    sub.add_option_function<std::string>(
        "--options",
        [this](const std::string& text) {
            const Json more = Json::parse(text, nullptr, false);
            if (!more.is_object()) throw CLI::ValidationError("--options", "must be a JSON object, such as {\"top_p\": 0.9}, is " + text);
            options_.update(more);
        },
        "more options of ds_generate, as a JSON object");
}

void to_stdout(const std::string& text) {
    std::fputs(text.c_str(), stdout);
    std::fflush(stdout);
}

TextModel::TextModel(const std::string& folder) : tokenizer_(folder), engine_(engine_config(folder).dump()) {}

bool TextModel::answers() const {
    const Json config = Json::parse(engine_.get("model_config"));
    if (config.value("is_encoder_decoder", false)) return true;
    for (const Json& name : config.value("architectures", Json::array()))
        for (const char* ending : {"ForConditionalGeneration", "MTModel"})
            if (name.is_string() && name.get<std::string>().find(ending) != std::string::npos) return true;
    return false;
}

std::string TextModel::continue_text(const std::string& prompt, bool special_tokens, const Sampling& sampling, const TextSink& sink) {
    const std::vector<int32_t> ids = tokenizer_.encode(prompt, {}, special_tokens).ids;
    TextStream stream(tokenizer_);
    std::string text;
    const auto show = [&](const std::string& piece) {
        text += piece;
        if (sink && !piece.empty()) sink(piece);
    };
    engine_.generate(ids, sampling.json(), [&](Span<int32_t> some) {
        show(stream.put(some));
        return true;
    });
    show(stream.end());
    return text;
}

}  // namespace dsrt::cli
