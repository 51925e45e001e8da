// OLMo 2 (OLMo Team 2024, arXiv 2501.00656), as transformers' Olmo2ForCausalLM and Olmo2Model: LLaMA with norms behind its sublayers, and
// of all heads' queries and keys together.
#include "models/decoder.h"

namespace ds::models {

Result<std::unique_ptr<Model>> olmo2(const Json& config, Task task) {
    auto m = std::make_unique<Decoder>();
    Fields f(config);
    m->tensors.attention_norm = m->tensors.mlp_norm = "";
    m->tensors.attention_out_norm = "post_attention_layernorm", m->tensors.mlp_out_norm = "post_feedforward_layernorm";
    m->head_norms = Decoder::HeadNorms::together;
    m->out_bias = m->qkv_bias = f.boolean("attention_bias", false);
    DS_CHECK(read_decoder(*m, f, task, {.pad_id = 1, .positions = 2048, .eps = 1e-5}));
    return std::unique_ptr<Model>(std::move(m));
}

}  // namespace ds::models
