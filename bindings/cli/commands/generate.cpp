// Text from a prompt, shown as it appears.
#include <iostream>

#include "../text_stream.h"

namespace dsrt::cli {

void generate(CommandLine& line) {
    auto* sub = line.command("generate", "continue a text with a model, or answer it by an encoder-decoder",
                             "  dsrt generate gpt2 'Once upon a time' --max-new-tokens 40 --temperature 0.8 --top-k 40\n"
                             "  dsrt generate run/model --json < prompts.txt");
    struct Options {
        std::string model;
        std::vector<std::string> prompts;
    };
    auto o = std::make_shared<Options>();
    auto sampling = std::make_shared<Sampling>();
    sub->add_option("model", o->model, "Hugging Face folder with weights and tokenizer")->required();
    sub->add_option("prompt", o->prompts, "texts; none: one a line of standard input");
    sampling->add_to(*sub);
    line.on(sub, [&line, o, sampling] {
        TextModel model(o->model);
        if (o->prompts.empty())
            for (std::string text; std::getline(std::cin, text);) o->prompts.push_back(text);
        Json all = Json::array();
        for (const std::string& prompt : o->prompts) {
            if (!line.json && !model.answers()) std::fputs(prompt.c_str(), stdout);
            const std::string text = model.continue_text(prompt, true, *sampling, line.json ? TextSink{} : to_stdout);
            if (line.json) all.push_back({{"prompt", prompt}, {"text", text}});
            else std::puts("");
        }
        if (line.json) print(all);
        return Exit::done;
    });
}

}  // namespace dsrt::cli
