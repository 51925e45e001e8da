// LLaMA and its kin: llama, mistral, qwen2, qwen3. They differ in which projections have a bias, in the norms of queries and keys, and in
// windows. Touvron et al. 2023 (arXiv 2302.13971), as transformers' *ForCausalLM and *Model.
#include "models/blocks.h"
#include "models/rope.h"

namespace ds::models {
namespace {

struct Llama : Model {
    int64_t width = 0, layers = 0, heads = 0, kv_heads = 0, head_dim = 0, inner = 0;
    double eps = 1e-6, attention_dropout = 0, range = 0.02;
    bool qkv_bias = false, out_bias = false, mlp_bias = false, head_norms = false, tied = false;
    std::vector<int64_t> windows;  // of each layer; 0: full attention
    Activation activation;
    RopeAngles angles;

    void build(Builder& b, TokenStream& s) const override {
        Blocks m(b, range);
        const Scope root{task == Task::none ? "" : "model"};
        const ValueId table = m.weight(root("embed_tokens"), "weight", {vocabulary, width});
        ValueId x = m.boundary(m.words(table, s.ids(), pad_id));
        const ValueId turns = b.call("rope_angles", {s.positions()}, angles);
        for (int64_t i = 0; i < layers; ++i)
            x = m.boundary(block(m, s, x, turns, root("layers")(std::to_string(i)), windows[static_cast<size_t>(i)]));
        x = m.rmsnorm(x, root("norm"), eps);
        s.output("last_hidden_state", x);
        if (task == Task::none) return;
        s.classify_tokens(x, [&](ValueId rows) {
            const ValueId head = tied ? table : m.weight(Scope{"lm_head"}, "weight", {vocabulary, width});
            return b.call("matmul", {rows, head}, Matmul{.transpose_b = true}, "logits");
        });
    }

    ValueId block(Blocks& m, TokenStream& s, ValueId x, ValueId turns, const Scope& w, int64_t window) const {
        Builder& b = m.b;
        const Scope self = w("self_attn"), mlp = w("mlp");
        ValueId h = m.rmsnorm(x, w("input_layernorm"), eps);
        const ValueId q = b.call("rope", {normed(m, m.linear(h, self("q_proj"), heads * head_dim, qkv_bias), self("q_norm")), turns},
                                 Rope{.head_dim = head_dim});
        const ValueId k = b.call("rope", {normed(m, m.linear(h, self("k_proj"), kv_heads * head_dim, qkv_bias), self("k_norm")), turns},
                                 Rope{.head_dim = head_dim});
        const ValueId v = m.linear(h, self("v_proj"), kv_heads * head_dim, qkv_bias);
        h = s.attention(q, k, v, {.heads = heads, .kv_heads = kv_heads, .causal = true, .window = window, .dropout = attention_dropout});
        x = b.add(x, m.linear(h, self("o_proj"), width, out_bias));
        h = m.rmsnorm(x, w("post_attention_layernorm"), eps);
        const ValueId gate = activation(b, m.linear(h, mlp("gate_proj"), inner, mlp_bias)),
                      up = m.linear(h, mlp("up_proj"), inner, mlp_bias);
        return b.add(x, m.linear(b.mul(gate, up), mlp("down_proj"), width, mlp_bias));
    }

    // Qwen3 normalises each head of queries and keys.
    ValueId normed(Blocks& m, ValueId x, const Scope& w) const {
        if (!head_norms || x == kNone) return x;
        const Shape flat = m.b.type(x).shape;
        return m.b.reshape(m.rmsnorm(m.b.reshape(x, {elements(flat) / head_dim, head_dim}), w, eps), flat);
    }
};

// Which layers look back only so far: mistral's all, qwen's those that layer_types or max_window_layers say.
Result<std::vector<int64_t>> windows_of(Fields& f, const std::string& type, int64_t layers) {
    std::vector<int64_t> windows(static_cast<size_t>(layers), 0);
    const int64_t window = f.integer("sliding_window", f.json().contains("sliding_window") ? 0 : 4096);
    const bool listed = type.starts_with("qwen") && f.has("layer_types");
    const Json types = listed ? f.json()["layer_types"] : Json();
    if (listed && (!types.is_array() || types.size() != windows.size()))
        return fail(Code::E_CONFIG, "config.json: layer_types must list {} layers", layers);
    for (size_t i = 0; i < types.size(); ++i)
        if (types[i] != "full_attention" && types[i] != "sliding_attention" && types[i] != "attention")
            return fail(Code::E_UNSUPPORTED,
                        "config.json: layer_types: {} is not built; there are \"full_attention\" and \"sliding_attention\"",
                        types[i].dump());
    if (window == 0 || type == "llama" || (type != "mistral" && !f.boolean("use_sliding_window", false))) return windows;
    if (listed) {
        for (size_t i = 0; i < windows.size(); ++i) windows[i] = types[i] == "sliding_attention" ? window : 0;
        return windows;
    }
    const int64_t first = type == "mistral" ? 0 : f.integer("max_window_layers", 28);
    for (int64_t i = first; i < layers; ++i) windows[static_cast<size_t>(i)] = window;
    return windows;
}

}  // namespace

Result<std::unique_ptr<Model>> llama(const Json& config, Task task) {
    auto m = std::make_unique<Llama>();
    Fields f(config);
    const std::string type = f.text("model_type", "llama");
    if (task != Task::none && task != Task::causal_lm)
        return fail(Code::E_UNSUPPORTED, "config.json: {} has no {} head here; there are *ForCausalLM and *Model", type, name_of(task));
    m->width = f.integer("hidden_size");
    m->layers = f.integer("num_hidden_layers");
    m->heads = f.integer("num_attention_heads");
    // Absent and null are not the same to transformers.
    m->kv_heads = f.integer("num_key_value_heads", type == "llama" || config.contains("num_key_value_heads") ? m->heads
                                                   : type == "mistral"                                       ? 8
                                                                                                             : 32);
    m->head_dim = f.integer("head_dim", type == "qwen3" ? 128 : m->width / std::max<int64_t>(m->heads, 1));
    m->inner = f.integer("intermediate_size");
    m->vocabulary = f.integer("vocab_size");
    const int64_t positions = f.integer("max_position_embeddings", type == "mistral" ? 131072 : type == "llama" ? 2048 : 32768);
    m->eps = f.number("rms_norm_eps", 1e-6);
    m->attention_dropout = f.number("attention_dropout", 0.0);
    m->range = f.number("initializer_range", 0.02);
    m->out_bias = (type == "llama" || type == "qwen3") && f.boolean("attention_bias", false);
    m->qkv_bias = type == "qwen2" || m->out_bias;
    m->mlp_bias = type == "llama" && f.boolean("mlp_bias", false);
    m->head_norms = type == "qwen3";
    m->tied = f.boolean("tie_word_embeddings", false);
    read_padding(*m, f);
    DS_TRY(m->windows, windows_of(f, type, m->layers));
    DS_TRY(m->activation, activation_named(f.text("hidden_act", "silu"), "hidden_act"));
    DS_CHECK(f.status());
    if (m->heads == 0 || m->kv_heads == 0 || m->heads % m->kv_heads)
        return fail(Code::E_CONFIG, "config.json: num_attention_heads {} is not a multiple of num_key_value_heads {}", m->heads,
                    m->kv_heads);
    DS_TRY(m->angles, read_rope(*m, config, m->head_dim, positions));
    m->names.base_prefix = "model.";
    tie(*m, m->tied && task != Task::none, "model.embed_tokens.weight", {"lm_head.weight"});
    decoder_outputs(*m, task);
    return std::unique_ptr<Model>(std::move(m));
}

}  // namespace ds::models
