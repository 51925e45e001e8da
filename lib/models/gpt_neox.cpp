// GPT-NeoX (Black et al. 2022, arXiv 2204.06745), as transformers' GPTNeoXForCausalLM and GPTNeoXModel: rotary embedding of a part of each
// head, attention and MLP side by side on the residual stream unless use_parallel_residual says otherwise.
#include "models/decoder.h"

namespace ds::models {

Result<std::unique_ptr<Model>> gpt_neox(const Json& config, Task task) {
    auto m = std::make_unique<Decoder>();
    Fields f(config);
    DecoderNames& n = m->tensors;
    n.root = "gpt_neox", n.words = "embed_in", n.norm = "final_layer_norm", n.head = "embed_out";
    n.qkv = "attention.query_key_value", n.attention_out = "attention.dense";
    n.up = "dense_h_to_4h", n.down = "dense_4h_to_h";
    m->norms = Decoder::Norms::layer;
    m->projections = Decoder::Projections::fused_by_head;
    m->mlp_kind = Decoder::Mlp::plain;
    m->mlp_bias = true;
    m->keeps_padding = false;
    m->parallel = f.boolean("use_parallel_residual", true);
    m->qkv_bias = m->out_bias = f.boolean("attention_bias", true);
    m->embedding_dropout = m->attention_out_dropout = m->mlp_dropout = f.number("hidden_dropout", 0.0);
    m->token_head = "classifier";
    const int64_t heads = f.integer("num_attention_heads", 64), size = f.integer("hidden_size", 6144) / std::max<int64_t>(heads, 1);
    for (const auto& [key, built] : {std::pair{"head_dim", size}, std::pair{"num_key_value_heads", heads}})
        if (const int64_t given = f.integer(key, built); given != built)
            return fail(Code::E_UNSUPPORTED, "config.json: {} {} is not built for gpt_neox; there is {}", key, given, built);
    // Older folders spell the rotated part and the base of the angles otherwise.
    const RopeDefaults rope{.theta = f.number("rotary_emb_base", 10000.0), .partial = f.number("rotary_pct", 0.25)};
    DS_CHECK(read_decoder(*m, f, task,
                          {.width = 6144,
                           .layers = 44,
                           .heads = 64,
                           .inner = 24576,
                           .vocabulary = 50432,
                           .positions = 2048,
                           .eps = 1e-5,
                           .activation = "gelu",
                           .rope = rope,
                           .eps_key = "layer_norm_eps"}));
    m->names.others["embed_out.weight"] = {"lm_head.weight"};  // as the head is called since transformers 5
    if (m->tied && task == Task::causal_lm) m->names.others["gpt_neox.embed_in.weight"].push_back("lm_head.weight");
    return std::unique_ptr<Model>(std::move(m));
}

}  // namespace ds::models
