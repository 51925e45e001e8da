// Qwen's mixtures of experts (Yang et al. 2024, arXiv 2407.10671; 2025, arXiv 2505.09388), as transformers' Qwen2Moe* and
// Qwen3Moe*ForCausalLM and *Model: Qwen's attention, and in every decoder_sparse_step-th layer that mlp_only_layers does not name a mixture
// in place of the MLP. Qwen2's has an expert besides that every token shares.
#include "models/decoder.h"

namespace ds::models {
namespace {

Mixture read_mixture(Fields& f, bool shared) {
    Mixture m;
    m.experts = f.integer("num_experts", shared ? 60 : f.has("num_local_experts") ? f.integer("num_local_experts") : 128);
    m.chosen = f.integer("num_experts_per_tok", shared ? 4 : 8);
    m.inner = f.integer("moe_intermediate_size", shared ? 1408 : 768);
    m.shared_inner = shared ? f.integer("shared_expert_intermediate_size", 5632) : 0;
    m.shares_sum_to_one = f.boolean("norm_topk_prob", false);
    m.balance = f.boolean("output_router_logits", false) ? f.number("router_aux_loss_coef", 0.001) : 0;
    return m;
}

Result<std::set<int64_t>> read_plain_layers(Fields& f, int64_t layers) {
    std::set<int64_t> plain;
    const int64_t step = f.integer("decoder_sparse_step", 1);
    if (step < 1) return fail(Code::E_CONFIG, "config.json: decoder_sparse_step must be 1 or more, not {}", step);
    for (int64_t i = 0; i < layers; ++i)
        if ((i + 1) % step) plain.insert(i);
    if (!f.has("mlp_only_layers")) return plain;
    const Json& named = f.json()["mlp_only_layers"];
    if (!named.is_array()) return fail(Code::E_CONFIG, "config.json: mlp_only_layers must be a list of layers, not {}", named.dump());
    for (const Json& layer : named) {
        if (!layer.is_number_integer())
            return fail(Code::E_CONFIG, "config.json: mlp_only_layers must be a list of layers, not {}", named.dump());
        plain.insert(layer.get<int64_t>());
    }
    return plain;
}

}  // namespace

Result<std::unique_ptr<Model>> qwen_moe(const Json& config, Task task) {
    auto m = std::make_unique<Decoder>();
    Fields f(config);
    const bool second = f.text("model_type", "") == "qwen2_moe";
    m->mixture = read_mixture(f, second);
    m->out_bias = !second && f.boolean("attention_bias", false);
    m->qkv_bias = second ? f.boolean("qkv_bias", true) : m->out_bias;
    if (!second) m->head_norms = Decoder::HeadNorms::each;
    DS_CHECK(read_decoder(*m, f, task, {.kv_heads = second ? 16 : 4}));
    DS_CHECK(check_mixture(*m->mixture, "num_experts"));
    DS_TRY(m->plain_layers, read_plain_layers(f, m->layers));
    const int64_t window = f.boolean("use_sliding_window", false) ? f.integer("sliding_window", f.has("sliding_window") ? 0 : 4096) : 0;
    const int64_t last = f.integer("max_window_layers", 28);
    DS_TRY(m->windows, read_windows(f, m->layers, window, second, [&](int64_t i) { return !second || (i % 2 == 0 && i < last); }));
    DS_CHECK(f.status());
    return std::unique_ptr<Model>(std::move(m));
}

}  // namespace ds::models
