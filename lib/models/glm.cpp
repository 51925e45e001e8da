// GLM (Du et al. 2021, arXiv 2103.10360; GLM-4, arXiv 2406.12793): transformers' GlmForCausalLM and Glm4ForCausalLM, and the ChatGLM 2 and
// 3 and GLM-4 folders with the names of their own code (model_type "chatglm"), which compute the same. Rotary pairs are (2i, 2i + 1) of the
// first half of a head.
#include "models/blocks.h"
#include "models/rope.h"

namespace ds::models {
namespace {

struct Glm : Model {
    int64_t width = 0, layers = 0, heads = 0, kv_heads = 0, head_dim = 0, inner = 0;
    double eps = 1e-5, attention_dropout = 0, range = 0.02;
    bool qkv_bias = true, other_bias = false, tied = false;
    bool post_norms = false;  // glm4: also what attention and MLP give is normalised
    bool chat = false;        // ChatGLM's own names
    Activation activation;
    RopeAngles angles;

    void build(Builder& b, TokenStream& s) const override {
        Blocks m(b, range);
        const Scope root{task == Task::none && !chat ? "" : chat ? "transformer" : "model"};
        const Scope body = chat ? root("encoder") : root;
        const ValueId table = m.weight(root(chat ? "embedding.word_embeddings" : "embed_tokens"), "weight", {vocabulary, width});
        ValueId x = m.boundary(m.words(table, s.ids(), pad_id));
        const ValueId turns = b.call("rope_angles", {s.positions()}, angles);
        for (int64_t i = 0; i < layers; ++i) x = m.boundary(block(m, s, x, turns, body("layers")(std::to_string(i))));
        x = m.rmsnorm(x, body(chat ? "final_layernorm" : "norm"), eps);
        s.output("last_hidden_state", x);
        if (task == Task::none) return;
        const Scope head{chat ? "transformer.output_layer" : "lm_head"};
        s.classify_tokens(x, [&](ValueId rows) { return m.head(rows, tied ? table : m.weight(head, "weight", {vocabulary, width})); });
    }

    ValueId block(Blocks& m, TokenStream& s, ValueId x, ValueId turns, const Scope& w) const {
        Builder& b = m.b;
        const auto normed = [&](ValueId y, const char* name) { return post_norms ? m.rmsnorm(y, w(name), eps) : y; };
        x = b.add(x, normed(attention(m, s, m.rmsnorm(x, w("input_layernorm"), eps), turns, w), "post_self_attn_layernorm"));
        const ValueId h = m.rmsnorm(x, w("post_attention_layernorm"), eps);
        const auto both = m.linears(h, w(chat ? "mlp.dense_h_to_4h" : "mlp.gate_up_proj"), {inner, inner}, other_bias);
        const ValueId y =
            m.linear(b.mul(activation(b, both[0]), both[1]), w(chat ? "mlp.dense_4h_to_h" : "mlp.down_proj"), width, other_bias);
        return b.add(x, normed(y, "post_mlp_layernorm"));
    }

    ValueId attention(Blocks& m, TokenStream& s, ValueId h, ValueId turns, const Scope& w) const {
        Builder& b = m.b;
        const int64_t columns = heads * head_dim, kv_columns = kv_heads * head_dim;
        std::vector<ValueId> qkv;
        if (chat) qkv = m.linears(h, w("self_attention.query_key_value"), {columns, kv_columns, kv_columns}, qkv_bias);
        else
            for (const char* name : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"})
                qkv.push_back(m.linear(h, w(name), qkv.empty() ? columns : kv_columns, qkv_bias));
        for (size_t i = 0; i < 2; ++i) qkv[i] = b.call("rope", {qkv[i], turns}, Rope{.head_dim = head_dim, .interleaved = true});
        h = s.attention(qkv[0], qkv[1], qkv[2], {.heads = heads, .kv_heads = kv_heads, .causal = true, .dropout = attention_dropout});
        return m.linear(h, w(chat ? "self_attention.dense" : "self_attn.o_proj"), width, other_bias);
    }
};

// ChatGLM's config.json has other names for the same fields.
Status read_chat(Glm& m, Fields& f, const Json& config) {
    m.chat = true;
    m.width = f.integer("hidden_size", 4096);
    m.layers = f.integer("num_layers", 28);
    m.heads = f.integer("num_attention_heads", 32);
    m.kv_heads = f.boolean("multi_query_attention", false) ? f.integer("multi_query_group_num", 1) : m.heads;
    m.head_dim = f.integer("kv_channels", 128);
    m.inner = f.integer("ffn_hidden_size", 13696);
    m.vocabulary = f.integer("padded_vocab_size", f.has("vocab_size") ? f.integer("vocab_size") : 65024);
    m.eps = f.number("layernorm_epsilon", 1e-5);
    m.attention_dropout = f.number("attention_dropout", 0.0);
    m.other_bias = f.boolean("add_bias_linear", false);
    m.qkv_bias = m.other_bias || f.boolean("add_qkv_bias", false);
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
                    config["hidden_dropout"].dump());
    DS_CHECK(f.status());
    DS_TRY(m.angles,
           read_rope(m, config, m.head_dim, f.integer("seq_length", 2048), {.theta = 10000 * f.number("rope_ratio", 1.0), .partial = 0.5}));
    return f.status();
}

Status read(Glm& m, Fields& f, const Json& config, const std::string& type) {
    m.post_norms = type == "glm4";
    m.width = f.integer("hidden_size", 4096);
    m.layers = f.integer("num_hidden_layers", 40);
    m.heads = f.integer("num_attention_heads", 32);
    m.kv_heads = f.integer("num_key_value_heads", 2);
    m.head_dim = f.integer("head_dim", 128);
    m.inner = f.integer("intermediate_size", 13696);
    m.vocabulary = f.integer("vocab_size", 151552);
    m.eps = f.number("rms_norm_eps", 1.5625e-07);
    m.attention_dropout = f.number("attention_dropout", 0.0);
    m.range = f.number("initializer_range", 0.02);
    m.qkv_bias = f.boolean("attention_bias", true);
    m.tied = f.boolean("tie_word_embeddings", false);
    read_padding(m, f);
    DS_TRY(m.activation, activation_named(f.text("hidden_act", "silu"), "hidden_act"));
    const int64_t positions = f.integer("max_position_embeddings", 131072);
    DS_CHECK(f.status());
    DS_TRY(m.angles, read_rope(m, config, m.head_dim, positions, {.partial = 0.5}));
    return ok();
}

}  // namespace

Result<std::unique_ptr<Model>> glm(const Json& config, Task task) {
    auto m = std::make_unique<Glm>();
    Fields f(config);
    const std::string type = f.text("model_type", "glm");
    // ChatGLM's folders name the class by the body: ChatGLMModel, or ChatGLMForConditionalGeneration, always with the head.
    if (type == "chatglm" && (task == Task::none || task == Task::seq2seq_lm)) m->always_causal = true, task = Task::causal_lm;
    DS_CHECK(only_causal(f, task));
    DS_CHECK(type == "chatglm" ? read_chat(*m, f, config) : read(*m, f, config, type));
    if (m->heads == 0 || m->kv_heads == 0 || m->heads % m->kv_heads)
        return fail(Code::E_CONFIG, "config.json: {} attention heads are not a multiple of {} key-value heads", m->heads, m->kv_heads);
    m->names.base_prefix = m->chat ? "" : "model.";
    if (m->chat) tie(*m, m->tied, "transformer.embedding.word_embeddings.weight", {"transformer.output_layer.weight"});
    else tie(*m, m->tied && task != Task::none, "model.embed_tokens.weight", {"lm_head.weight"});
    decoder_outputs(*m, task);
    m->splits_rows = !m->chat;
    return std::unique_ptr<Model>(std::move(m));
}

}  // namespace ds::models
