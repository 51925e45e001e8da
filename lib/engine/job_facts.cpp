// What must be alike in all processes of a job when it starts.
#include <algorithm>

#include "ckpt/durable_file.h"
#include "engine/engine.h"
#include "kernels/cpu/level.h"

namespace ds {
namespace {

// Keys that may differ from process to process.
constexpr const char* kOwn[] = {"threads",
                                "logger",
                                "comm.secret_file",
                                "comm.interface",
                                "dump_state",
                                "tokenizer",
                                "model",
                                "data",
                                "steps_per_print",
                                "wall_clock_breakdown",
                                "zero_optimization.offload_optimizer.nvme_path",
                                "zero_optimization.offload_param.nvme_path"};

std::string short_text(const Json& value) {
    const std::string text = value.dump();
    return text.size() <= 80 ? text : text.substr(0, 60) + "... (" + checksum_of(text) + ")";
}

// Every leaf of an object by its path.
void flatten(const Json& value, const std::string& path, std::map<std::string, std::string>& out) {
    if (std::find(std::begin(kOwn), std::end(kOwn), path) != std::end(kOwn)) return;
    if (!value.is_object() || value.empty()) {
        out[path] = short_text(value);
        return;
    }
    for (const auto& [key, item] : value.items()) flatten(item, path.empty() ? key : path + "." + key, out);
}

}  // namespace

Status Engine::compare_with_others() const {
    if (job_.alone()) return ok();
    std::map<std::string, std::string> facts{
        {"the library", std::string("format 1, compiler ") + __VERSION__},
        {"the processor's instructions (DSRT_CPU=avx2 would make them alike)", cpu::name_of(cpu::level())}};
    facts["where ranks compute (device)"] = (*ranks_)[0].device ? "cuda" : "cpu";
    flatten(config_.effective, "", facts);
    facts["the model's config.json"] = checksum_of(model_config_.dump());
    for (const ParamInfo& info : infos_) facts["parameter " + info.name] = fmt::format("{}{}", info.shape, info.trainable ? "" : " frozen");
    facts["options: an optimizer of the host's"] = options_.optimizer ? "given" : "none";
    return job_.compare(std::move(facts));
}

}  // namespace ds
