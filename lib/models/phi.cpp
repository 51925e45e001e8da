// Phi 1 and 2 (Gunasekar et al. 2023, arXiv 2306.11644), as transformers' PhiForCausalLM and PhiModel: attention and MLP side by side
// behind one norm, rotary embedding of a part of each head, a bias everywhere.
#include "models/decoder.h"

namespace ds::models {

Result<std::unique_ptr<Model>> phi(const Json& config, Task task) {
    auto m = std::make_unique<Decoder>();
    Fields f(config);
    DecoderNames& n = m->tensors;
    n.norm = "final_layernorm", n.mlp_norm = n.attention_norm;
    n.attention_out = "self_attn.dense", n.query_norm = "self_attn.q_layernorm", n.key_norm = "self_attn.k_layernorm";
    n.up = "fc1", n.down = "fc2";
    m->norms = Decoder::Norms::layer;
    m->parallel = m->qkv_bias = m->out_bias = m->mlp_bias = m->head_bias = true;
    m->mlp_kind = Decoder::Mlp::plain;
    if (f.boolean("qk_layernorm", false)) m->head_norms = Decoder::HeadNorms::each;
    m->embedding_dropout = f.number("embd_pdrop", 0.0);
    m->attention_out_dropout = m->mlp_dropout = f.number("resid_pdrop", 0.0);
    DS_CHECK(read_decoder(*m, f, task,
                          {.width = 2048,
                           .layers = 24,
                           .heads = 32,
                           .inner = 8192,
                           .vocabulary = 51200,
                           .positions = 2048,
                           .eps = 1e-5,
                           .activation = "gelu_new",
                           .rope = {.partial = 0.5},
                           .eps_key = "layer_norm_eps"}));
    return std::unique_ptr<Model>(std::move(m));
}

}  // namespace ds::models
