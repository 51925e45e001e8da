// A checkpoint as a Hugging Face folder.
#include "../command.h"

namespace dsrt::cli {

void export_model(CommandLine& line) {
    auto* sub = line.command("export", "write a checkpoint as a Hugging Face folder",
                             "  dsrt export config.json --checkpoint run/checkpoints --tag best model");
    struct Options {
        std::string config, checkpoint, tag, folder;
        bool quantized = false;
    };
    auto o = std::make_shared<Options>();
    sub->add_option("config", o->config, "config of the run, a file or JSON text")->required();
    sub->add_option("folder", o->folder, "where the model goes")->required();
    auto* checkpoint =
        sub->add_option("--checkpoint", o->checkpoint, "folder of checkpoints; without one the weights the config starts from are written");
    sub->add_option("--tag", o->tag, "which checkpoint (default: the latest)")->needs(checkpoint);
    sub->add_flag("--quantized", o->quantized,
                  "weights stay in the few bits that the config's quantization or compression_training made of them");
    line.on(sub, [&line, o] {
        Engine engine(o->config);
        // What is compressed depends on how many updates there were, which only a whole checkpoint tells.
        const std::string how = parse_config(o->config).contains("compression_training") ? "{}" : R"({"weights_only": true})";
        if (!o->checkpoint.empty()) engine.load(o->checkpoint, o->tag.empty() ? std::nullopt : std::optional(o->tag), how);
        engine.export_folder(o->folder, o->quantized ? std::optional<std::string>(R"({"quantized": true})") : std::nullopt);
        if (line.json) print({{"folder", o->folder}, {"step", engine.metric("global_steps")}});
        else std::printf("%s: step %.0f\n", o->folder.c_str(), engine.metric("global_steps"));
        return Exit::done;
    });
}

}  // namespace dsrt::cli
