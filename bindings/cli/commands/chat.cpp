// A conversation with a chat model, a line a turn.
#include <unistd.h>

#include <iostream>

#include "../text_stream.h"

namespace dsrt::cli {
namespace {

struct Options {
    std::string model, system, chat_template;
};

Exit talk(const Options& o, const Sampling& sampling, bool as_json) {
    TextModel model(o.model);
    const bool asks = isatty(STDIN_FILENO) && !as_json;
    Json messages = Json::array();
    if (!o.system.empty()) messages.push_back({{"role", "system"}, {"content", o.system}});
    Json options{{"add_generation_prompt", true}};
    if (!o.chat_template.empty()) options["template"] = o.chat_template;
    for (std::string line;;) {
        if (asks) to_stdout("> ");
        if (!std::getline(std::cin, line)) break;
        if (line.empty()) continue;
        messages.push_back({{"role", "user"}, {"content", line}});
        const std::string prompt = model.tokenizer().apply_chat_template(messages.dump(), options.dump());
        const std::string answer = model.continue_text(prompt, false, sampling, as_json ? TextSink{} : to_stdout);
        if (!as_json) std::puts("");
        messages.push_back({{"role", "assistant"}, {"content", answer}});
    }
    if (asks) std::puts("");
    if (as_json) print(messages);
    return Exit::done;
}

}  // namespace

void chat(CommandLine& line) {
    auto* sub = line.command("chat", "talk to a chat model, a line a turn",
                             "  dsrt chat run/model --system 'Be brief.'\n  echo 'Who are you?' | dsrt chat run/model --json");
    auto o = std::make_shared<Options>();
    auto sampling = std::make_shared<Sampling>();
    sub->add_option("model", o->model, "Hugging Face folder with weights, tokenizer and chat template")->required();
    sub->add_option("--system", o->system, "what the model is told first");
    sub->add_option("--template", o->chat_template, "name or text of a chat template (default: the folder's)");
    sampling->add_to(*sub);
    line.on(sub, [&line, o, sampling] { return talk(*o, *sampling, line.json); });
}

}  // namespace dsrt::cli
