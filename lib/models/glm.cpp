// GLM (Du et al. 2021, arXiv 2103.10360; GLM-4, arXiv 2406.12793): transformers' GlmForCausalLM and Glm4ForCausalLM, and the ChatGLM 2 and
// 3 and GLM-4 folders with the names of their own code (model_type "chatglm"), which compute the same. Rotary pairs are (2i, 2i + 1) of the
// first half of a head.
#include "models/decoder.h"

namespace ds::models {
namespace {

// ChatGLM's config.json has other names for the same fields.
Status read_chat(Decoder& m, Fields& f) {
    DecoderNames& n = m.tensors;
    n.root = "transformer", n.words = "embedding.word_embeddings", n.layers = "encoder.layers", n.norm = "encoder.final_layernorm";
    n.head = "transformer.output_layer";
    n.qkv = "self_attention.query_key_value", n.attention_out = "self_attention.dense";
    n.gate_up = "dense_h_to_4h", n.down = "dense_4h_to_h";
    m.projections = Decoder::Projections::fused;
    m.width = f.integer("hidden_size", 4096);
    m.layers = f.integer("num_layers", 28);
    m.heads = f.integer("num_attention_heads", 32);
    m.kv_heads = f.boolean("multi_query_attention", false) ? f.integer("multi_query_group_num", 1) : m.heads;
    m.head_dim = f.integer("kv_channels", 128);
    m.inner = f.integer("ffn_hidden_size", 13696);
    m.vocabulary = f.integer("padded_vocab_size", f.has("vocab_size") ? f.integer("vocab_size") : 65024);
    m.eps = f.number("layernorm_epsilon", 1e-5);
    m.attention_dropout = f.number("attention_dropout", 0.0);
    m.mlp_bias = m.out_bias = f.boolean("add_bias_linear", false);
    m.qkv_bias = m.out_bias || f.boolean("add_qkv_bias", false);
    m.tied = f.boolean("tie_word_embeddings", false);
    m.activation = {"silu", {}};
    for (const char* key : {"position_encoding_2d", "apply_residual_connection_post_layernorm"})
        if (f.boolean(key, false))
            return fail(Code::E_UNSUPPORTED,
                        "config.json: {}: true is not built; there are the ChatGLM 2, ChatGLM 3 and GLM-4 layouts, where it is false", key);
    for (const char* key : {"rmsnorm", "original_rope", "post_layer_norm"})
        if (!f.boolean(key, true))
            return fail(Code::E_UNSUPPORTED,
                        "config.json: {}: false is not built; there are the ChatGLM 2, ChatGLM 3 and GLM-4 layouts, where it is true", key);
    if (f.has("pre_seq_len")) return fail(Code::E_UNSUPPORTED, "config.json: pre_seq_len: prefix tuning is not built");
    if (f.number("hidden_dropout", 0.0) != 0)
        return fail(Code::E_UNSUPPORTED, "config.json: hidden_dropout {} is not built for chatglm; there is 0",
                    f.json()["hidden_dropout"].dump());
    DS_CHECK(f.status());
    DS_TRY(m.angles, read_rope(m, f.json(), m.head_dim, f.integer("seq_length", 2048),
                               {.theta = 10000 * f.number("rope_ratio", 1.0), .partial = 0.5}));
    return f.status();
}

}  // namespace

Result<std::unique_ptr<Model>> glm(const Json& config, Task task) {
    auto m = std::make_unique<Decoder>();
    Fields f(config);
    const std::string type = f.text("model_type", "glm");
    m->mlp_kind = Decoder::Mlp::gated_fused;
    m->interleaved = true;
    if (type == "chatglm") {
        // Its folders name the class by the body: ChatGLMModel, or ChatGLMForConditionalGeneration, always with the head.
        if (task == Task::none || task == Task::seq2seq_lm) m->always_causal = true, task = Task::causal_lm;
        if (task != Task::causal_lm)
            return fail(Code::E_UNSUPPORTED,
                        "config.json: chatglm has no {} head here; there are ChatGLMModel and ChatGLMForConditionalGeneration",
                        name_of(task));
        DS_CHECK(read_chat(*m, f));
        DS_CHECK(finish_decoder(*m, f, task));
        m->names.base_prefix = "";
        m->splits_rows = false;
        return std::unique_ptr<Model>(std::move(m));
    }
    if (type == "glm4") m->tensors.attention_out_norm = "post_self_attn_layernorm", m->tensors.mlp_out_norm = "post_mlp_layernorm";
    m->qkv_bias = f.boolean("attention_bias", true);
    DS_CHECK(read_decoder(*m, f, task,
                          {.width = 4096,
                           .layers = 40,
                           .heads = 32,
                           .inner = 13696,
                           .vocabulary = 151552,
                           .kv_heads = 2,
                           .head_dim = 128,
                           .pad_id = 151329,
                           .positions = 131072,
                           .eps = 1.5625e-07,
                           .rope = {.partial = 0.5}}));
    return std::unique_ptr<Model>(std::move(m));
}

}  // namespace ds::models
