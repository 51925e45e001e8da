// StableLM (Bellagente et al. 2024, arXiv 2402.17834), as transformers' StableLmForCausalLM and StableLmModel: LLaMA with layer norms and
// rotary embedding of a part of each head.
#include "models/decoder.h"

namespace ds::models {

Result<std::unique_ptr<Model>> stablelm(const Json& config, Task task) {
    auto m = std::make_unique<Decoder>();
    Fields f(config);
    m->norms = Decoder::Norms::layer;
    m->qkv_bias = f.boolean("use_qkv_bias", false);
    m->parallel = f.boolean("use_parallel_residual", false);
    if (m->parallel) m->tensors.mlp_norm = m->tensors.attention_norm;
    if (f.boolean("qk_layernorm", false))
        return fail(Code::E_UNSUPPORTED, "config.json: qk_layernorm: true is not built for stablelm; queries and keys are as they are");
    m->mlp_dropout = m->token_dropout = f.number("hidden_dropout", 0.0);
    DS_CHECK(read_decoder(*m, f, task,
                          {.width = 2560,
                           .layers = 32,
                           .heads = 32,
                           .inner = 6912,
                           .vocabulary = 50304,
                           .kv_heads = 32,
                           .positions = 4096,
                           .eps = 1e-5,
                           .rope = {.partial = 0.25},
                           .eps_key = "layer_norm_eps"}));
    return std::unique_ptr<Model>(std::move(m));
}

}  // namespace ds::models
