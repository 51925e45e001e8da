// How good a model is on data: the scores that its task is known by.
#include <cstdio>

#include "../command.h"

namespace dsrt::cli {
namespace {

// Scores of kinds of entities are a table of their own; the rest is a line each.
void print_scores(const Json& scores) {
    std::vector<std::vector<std::string>> rows, types;
    for (const auto& [name, value] : scores.items()) {
        if (name == "types") {
            types.push_back({"kind", "precision", "recall", "f1", "support"});
            for (const auto& [type, s] : value.items())
                types.push_back({type, s["precision"].dump(), s["recall"].dump(), s["f1"].dump(), s["support"].dump()});
        } else {
            rows.push_back({name, value.is_string() ? value.get<std::string>() : value.dump()});
        }
    }
    print_table(rows);
    if (!types.empty()) print_table(types);
}

}  // namespace

void evaluate(CommandLine& line) {
    auto* sub = line.command("evaluate", "score a model on data: accuracy, entities' F1, SQuAD's EM and F1, BLEU, perplexity",
                             "  dsrt evaluate config.json --model run/model\n"
                             "  dsrt evaluate config.json --model run/model --data test.json --predictions out.jsonl\n"
                             "  dsrt evaluate config.json --checkpoint run/checkpoints --generate '{\"num_beams\": 4}' --json");
    struct Options {
        std::string config, model, checkpoint, tag, data, generate, predictions;
    };
    auto o = std::make_shared<Options>();
    sub->add_option("config", o->config, "the config that it was trained with")->required();
    sub->add_option("--model", o->model, "a Hugging Face folder in place of the config's model");
    auto* checkpoint = sub->add_option("--checkpoint", o->checkpoint, "a folder of checkpoints to load");
    sub->add_option("--tag", o->tag, "which of them; the latest without")->needs(checkpoint);
    sub->add_option(
        "--data", o->data,
        "data options, as the config's \"data\": JSON or a file of it; without, the side of the config's \"split\" that is not trained on");
    sub->add_option("--generate", o->generate, "generation options as JSON, for translation");
    sub->add_option("--predictions", o->predictions, "a file to write each row's prediction and reference to");
    line.on(sub, [&line, o] {
        Json config = parse_config(o->config);
        if (!o->model.empty()) {
            config["model"] = o->model;
            config.erase("model_overrides");  // its own config.json says all of it
        }
        Engine engine(config.dump());
        if (!o->checkpoint.empty()) engine.load(o->checkpoint, o->tag.empty() ? std::nullopt : std::optional<std::string>(o->tag));
        Json options = Json::object();
        if (!o->generate.empty()) options["generate"] = parse_config(o->generate, "--generate");
        if (!o->predictions.empty()) options["predictions"] = o->predictions;
        const auto data = o->data.empty() ? std::nullopt : std::optional<std::string>(parse_config(o->data, "--data").dump());
        const Json scores = Json::parse(engine.evaluate(data, options.dump()));
        if (line.json) print(scores);
        else print_scores(scores);
        return Exit::done;
    });
}

}  // namespace dsrt::cli
