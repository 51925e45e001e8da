// StarCoder 2 (Lozhkov et al. 2024, arXiv 2402.19173), as transformers' Starcoder2ForCausalLM and Starcoder2Model: LLaMA's attention with
// layer norms, a plain MLP and biases.
#include "models/decoder.h"

namespace ds::models {

Result<std::unique_ptr<Model>> starcoder2(const Json& config, Task task) {
    auto m = std::make_unique<Decoder>();
    Fields f(config);
    m->tensors.up = "c_fc", m->tensors.down = "c_proj";
    m->norms = Decoder::Norms::layer;
    m->mlp_kind = Decoder::Mlp::plain;
    m->qkv_bias = m->out_bias = m->mlp_bias = f.boolean("use_bias", true);
    m->embedding_dropout = f.number("embedding_dropout", 0.0);
    m->attention_out_dropout = m->mlp_dropout = f.number("residual_dropout", 0.0);
    DS_CHECK(read_decoder(*m, f, task,
                          {.width = 3072,
                           .layers = 30,
                           .heads = 24,
                           .inner = 12288,
                           .vocabulary = 49152,
                           .kv_heads = 2,
                           .positions = 4096,
                           .eps = 1e-5,
                           .range = 0.018042,
                           .tied = true,
                           .activation = "gelu_pytorch_tanh",
                           .eps_key = "norm_epsilon"}));
    m->windows.assign(static_cast<size_t>(m->layers), f.integer("sliding_window", 0));
    DS_CHECK(f.status());
    return std::unique_ptr<Model>(std::move(m));
}

}  // namespace ds::models
