// Says whether a config, a model or a folder of checkpoints is sound, before hours are spent on it.
#include <filesystem>

#include "../command.h"

namespace dsrt::cli {
namespace {

namespace fs = std::filesystem;

struct Finding {
    std::string kind, text;
    Json details;
};

Finding check_config(const std::string& config) {
    const Json report = Json::parse(Engine::plan(config));
    return {"config",
            count_text(report.at("parameters").get<double>()) + "parameters, " + report.at("ranks").dump() + " ranks, " +
                size_text(report.at("memory_bytes").at("total").get<double>()) + " a rank",
            {{"plan", report.at("memory_bytes")}}};
}

// Loads all weights: their names, shapes and ranges are checked on the way.
Finding check_model(const std::string& folder) {
    Engine engine(Json{{"model", folder}}.dump());
    double elements = 0;
    const auto params = engine.params();
    for (const auto& p : params) {
        double count = 1;
        for (const int64_t d : p.shape) count *= static_cast<double>(d);
        elements += count;
    }
    Finding found{"model",
                  count_text(elements) + "parameters in " + std::to_string(params.size()) + " tensors",
                  {{"parameters", elements}, {"tensors", params.size()}}};
    std::error_code error;
    for (const char* file : {"tokenizer.json", "vocab.txt", "spiece.model", "tokenizer.model"})
        if (fs::exists(fs::path(folder) / file, error)) {
            const Tokenizer tokenizer(folder);
            found.text += std::string(", tokenizer from ") + file;
            found.details["tokenizer"] = file;
            break;
        }
    return found;
}

// Loading verifies every checksum; it needs the config of the run.
Finding check_checkpoint(const std::string& folder, const std::string& config, const std::string& tag) {
    if (config.empty()) throw std::runtime_error(folder + ": holds checkpoints; name the run's config with --config to check them");
    Engine engine(config);
    engine.load(folder, tag.empty() ? std::nullopt : std::optional(tag));
    char text[64];
    std::snprintf(text, sizeof text, "step %.0f, checksums and shapes hold", engine.metric("global_steps"));
    return {"checkpoint", text, {{"step", engine.metric("global_steps")}}};
}

Finding check_path(const std::string& path, const std::string& config, const std::string& tag) {
    std::error_code error;
    const bool folder = fs::is_directory(path, error);
    if (folder && (fs::exists(fs::path(path) / "latest", error) || !tag.empty())) return check_checkpoint(path, config, tag);
    return folder ? check_model(path) : check_config(path);
}

}  // namespace

void check(CommandLine& line) {
    auto* sub = line.command("check", "say whether configs, models or checkpoints are sound",
                             "  dsrt check config.json\n  dsrt check gpt2\n  dsrt check run/checkpoints --config config.json");
    struct Options {
        std::vector<std::string> paths;
        std::string config, tag;
    };
    auto o = std::make_shared<Options>();
    sub->add_option("path", o->paths, "config files, Hugging Face folders, folders of checkpoints")->required();
    sub->add_option("--config", o->config, "the run's config, for checkpoints");
    sub->add_option("--tag", o->tag, "which checkpoint (default: the latest)");
    line.on(sub, [&line, o] {
        Json all = Json::array();
        bool sound = true;
        for (const std::string& path : o->paths) {
            Json entry{{"path", path}};
            try {
                const Finding found = check_path(path, o->config, o->tag);
                entry.update({{"kind", found.kind}, {"sound", true}, {"details", found.details}});
                if (!line.json) std::printf("%s: sound %s: %s\n", path.c_str(), found.kind.c_str(), found.text.c_str());
            } catch (const std::exception& error) {
                sound = false;
                entry.update({{"sound", false}, {"error", error.what()}});
                if (!line.json) std::fprintf(stderr, "dsrt: %s: %s\n", path.c_str(), error.what());
            }
            all.push_back(entry);
        }
        if (line.json) print(all);
        return sound ? Exit::done : Exit::failed;
    });
}

}  // namespace dsrt::cli
