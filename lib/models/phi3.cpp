// Phi-3 (Abdin et al. 2024, arXiv 2404.14219), as transformers' Phi3ForCausalLM and Phi3Model: LLaMA with fused projections, dropout behind
// each sublayer, and rotary angles that may turn a part of a head.
#include "models/decoder.h"

namespace ds::models {
namespace {

// The first folders called longrope "su" or "yarn".
Json with_longrope(Json config) {
    for (const char* field : {"rope_scaling", "rope_parameters"}) {
        if (!config.contains(field) || !config[field].is_object()) continue;
        for (const char* key : {"type", "rope_type"})
            if (const Json kind = config[field].value(key, Json()); kind == "su" || kind == "yarn") config[field][key] = "longrope";
    }
    return config;
}

}  // namespace

Result<std::unique_ptr<Model>> phi3(const Json& config, Task task) {
    auto m = std::make_unique<Decoder>();
    const Json read = with_longrope(config);
    Fields f(read);
    m->projections = Decoder::Projections::fused;
    m->mlp_kind = Decoder::Mlp::gated_fused;
    m->attention_out_dropout = m->mlp_dropout = f.number("resid_pdrop", 0.0);
    DS_CHECK(read_decoder(*m, f, task, {.pad_id = 32000, .positions = 4096, .eps = 1e-5, .rope = {.partial = 1.0}}));
    m->windows.assign(static_cast<size_t>(m->layers), f.integer("sliding_window", 0));
    DS_CHECK(f.status());
    return std::unique_ptr<Model>(std::move(m));
}

}  // namespace ds::models
