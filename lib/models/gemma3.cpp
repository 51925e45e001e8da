// Gemma 3 (Gemma Team 2025, arXiv 2503.19786), its text model, as transformers' Gemma3ForCausalLM and Gemma3TextModel: Gemma with norms
// before and behind each sublayer and of queries and keys, and five layers of a window, with angles of their own, for each that sees all.
#include <cmath>

#include "models/decoder.h"

namespace ds::models {
namespace {

// What read_rope reads for one kind of layers. Older folders have rope_theta and rope_scaling for those that see all, and
// rope_local_base_freq.
Json angles_config(const Json& config, const char* kind) {
    Json read = config;
    const Json given = config.value("rope_parameters", Json());
    if (given.is_object() && given.contains(kind)) {
        read["rope_parameters"] = given[kind];
        read.erase("rope_scaling");
    } else if (kind == std::string_view("sliding_attention")) {
        for (const char* key : {"rope_parameters", "rope_scaling", "rope_theta"}) read.erase(key);
    }
    return read;
}

}  // namespace

Result<std::unique_ptr<Model>> gemma3(const Json& config, Task task) {
    auto m = std::make_unique<Decoder>();
    Json read = angles_config(config, "full_attention");
    read["hidden_act"] = config.value("hidden_activation", Json("gelu_pytorch_tanh"));
    Fields f(read);
    for (const char* key : {"attn_logit_softcapping", "final_logit_softcapping"})
        if (f.has(key)) return fail(Code::E_UNSUPPORTED, "config.json: {} {} is not built; there is null", key, config[key].dump());
    if (f.boolean("use_bidirectional_attention", false))
        return fail(Code::E_UNSUPPORTED,
                    "config.json: use_bidirectional_attention: true is not built for gemma3_text; there is causal attention");
    DecoderNames& n = m->tensors;
    n.attention_out_norm = "post_attention_layernorm";
    n.mlp_norm = "pre_feedforward_layernorm", n.mlp_out_norm = "post_feedforward_layernorm";
    m->norms = Decoder::Norms::rms_plus_one;
    m->head_norms = Decoder::HeadNorms::each;
    m->out_bias = m->qkv_bias = f.boolean("attention_bias", false);
    m->attention_scale = 1 / std::sqrt(f.number("query_pre_attn_scalar", 256.0));
    DS_CHECK(read_decoder(*m, f, task,
                          {.width = 2304,
                           .layers = 26,
                           .heads = 8,
                           .inner = 9216,
                           .vocabulary = 262208,
                           .kv_heads = 4,
                           .head_dim = 256,
                           .pad_id = 0,
                           .positions = 131072,
                           .tied = true,
                           .activation = "gelu_pytorch_tanh",
                           .rope = {.theta = 1e6}}));
    m->embedding_scale = std::sqrt(static_cast<double>(m->width));
    const int64_t window = f.integer("sliding_window", f.json().contains("sliding_window") ? 0 : 4096);
    const int64_t pattern = std::max<int64_t>(f.integer("sliding_window_pattern", 6), 1);
    DS_TRY(m->windows, read_windows(f, m->layers, window, true, [&](int64_t layer) { return (layer + 1) % pattern != 0; }));
    DS_TRY(m->window_angles, read_rope(*m, angles_config(config, "sliding_attention"), m->head_dim,
                                       f.integer("max_position_embeddings", 131072), {.theta = f.number("rope_local_base_freq", 10000.0)}));
    DS_CHECK(f.status());
    return std::unique_ptr<Model>(std::move(m));
}

}  // namespace ds::models
