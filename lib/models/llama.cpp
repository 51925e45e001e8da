// LLaMA and its kin: llama, mistral, qwen2, qwen3, granite. They differ in which projections have a bias, in the norms of queries and keys,
// in windows and in scales. As transformers' *ForCausalLM and *Model.
#include "models/decoder.h"

namespace ds::models {
namespace {

// Mistral's layers all look back only so far, qwen's those that layer_types or max_window_layers say.
Result<std::vector<int64_t>> windows_of(Fields& f, const std::string& type, int64_t layers) {
    const bool qwen = type.starts_with("qwen");
    const int64_t window = f.integer("sliding_window", f.json().contains("sliding_window") ? 0 : 4096);
    const bool slides = qwen ? f.boolean("use_sliding_window", false) : type == "mistral";
    const int64_t first = qwen ? f.integer("max_window_layers", 28) : 0;
    return read_windows(f, layers, slides ? window : 0, qwen, [&](int64_t layer) { return layer >= first; });
}

void read_scales(Decoder& m, Fields& f) {
    m.embedding_scale = f.number("embedding_multiplier", 1.0);
    m.attention_scale = f.number("attention_multiplier", 1.0);
    m.residual_scale = f.number("residual_multiplier", 1.0);
    const double divisor = f.number("logits_scaling", 1.0);
    if (divisor == 0) f.refuse(fail(Code::E_CONFIG, "config.json: logits_scaling must not be 0"));
    else m.logit_scale = 1 / divisor;
}

}  // namespace

Result<std::unique_ptr<Model>> llama(const Json& config, Task task) {
    auto m = std::make_unique<Decoder>();
    Fields f(config);
    const std::string type = f.text("model_type", "llama");
    const bool plain = type == "llama" || type == "granite", qwen = type.starts_with("qwen");
    DecoderDefaults defaults{.positions = plain ? 2048 : qwen ? 32768 : 131072};
    if (type == "mistral") defaults.kv_heads = 8;
    if (qwen) defaults.kv_heads = 32;
    if (type == "qwen3") defaults.head_dim = 128;
    m->out_bias = (plain || type == "qwen3") && f.boolean("attention_bias", false);
    m->qkv_bias = type == "qwen2" || m->out_bias;
    m->mlp_bias = plain && f.boolean("mlp_bias", false);
    if (type == "qwen3") m->head_norms = Decoder::HeadNorms::each;
    if (type == "granite") read_scales(*m, f);
    DS_CHECK(read_decoder(*m, f, task, defaults));
    DS_TRY(m->windows, windows_of(f, type, m->layers));
    DS_CHECK(f.status());
    return std::unique_ptr<Model>(std::move(m));
}

}  // namespace ds::models
