#include "models/decoder.h"

namespace ds::models {

void Decoder::build(Builder& b, TokenStream& s) const {
    Blocks m(b, range);
    Mixture::Load load;
    const Scope root{task == Task::none ? "" : "model"};
    const ValueId table = m.weight(root("embed_tokens"), "weight", {vocabulary, width});
    ValueId x = m.words(table, s.ids(), pad_id);
    if (embedding_scale != 1) x = b.scale(x, embedding_scale);
    x = m.boundary(x);
    const ValueId turns = b.call("rope_angles", {s.positions()}, angles);
    for (int64_t i = 0; i < layers; ++i) x = m.boundary(block(m, s, x, turns, root("layers"), i, load));
    x = norm(m, x, root("norm"));
    s.output("last_hidden_state", x);
    if (task == Task::none) return;
    s.classify_tokens(x, [&](ValueId rows) {
        const ValueId scaled = logit_scale == 1 ? rows : b.scale(rows, logit_scale);
        return m.head(scaled, tied ? table : m.weight(Scope{"lm_head"}, "weight", {vocabulary, width}));
    });
    if (load.layers && b.graph().loss != kNone)
        b.graph().loss = b.add(b.graph().loss, b.scale(mixture->imbalance(b, s, load), mixture->balance));
}

ValueId Decoder::block(Blocks& m, TokenStream& s, ValueId x, ValueId turns, const Scope& layers_scope, int64_t i,
                       Mixture::Load& load) const {
    Builder& b = m.b;
    const Scope w = layers_scope(std::to_string(i));
    const auto sublayer = [&](const char* before, const char* after, const std::function<ValueId(ValueId)>& compute) {
        ValueId y = compute(post_norms ? x : norm(m, x, w(before)));
        if (post_norms) y = norm(m, y, w(after));
        y = s.dropout(y, residual_dropout);
        x = b.add(x, residual_scale == 1 ? y : b.scale(y, residual_scale));
    };
    sublayer("input_layernorm", "post_attention_layernorm",
             [&](ValueId h) { return attention(m, s, h, turns, w("self_attn"), windows.empty() ? 0 : windows[static_cast<size_t>(i)]); });
    sublayer("post_attention_layernorm", "post_feedforward_layernorm", [&](ValueId h) {
        return mixture && !plain_layers.contains(i) ? mixture->build(m, s, h, activation, w(mixture_scope), load) : mlp(m, h, w("mlp"));
    });
    return x;
}

ValueId Decoder::attention(Blocks& m, TokenStream& s, ValueId h, ValueId turns, const Scope& w, int64_t window) const {
    Builder& b = m.b;
    const int64_t columns = heads * head_dim, kv_columns = kv_heads * head_dim;
    std::vector<ValueId> parts;
    if (fused) parts = m.linears(h, w("qkv_proj"), {columns, kv_columns, kv_columns}, qkv_bias);
    const auto part = [&](size_t i, const char* name, int64_t out) { return fused ? parts[i] : m.linear(h, w(name), out, qkv_bias); };
    const auto turned = [&](ValueId y, const char* norm_name) {
        return b.call("rope", {head_norm(m, y, w(norm_name)), turns}, Rope{.head_dim = head_dim});
    };
    const ValueId q = turned(part(0, "q_proj", columns), "q_norm");
    const ValueId k = turned(part(1, "k_proj", kv_columns), "k_norm");
    const ValueId v = part(2, "v_proj", kv_columns);
    h = s.attention(
        q, k, v,
        {.heads = heads, .kv_heads = kv_heads, .causal = true, .window = window, .scale = attention_scale, .dropout = attention_dropout});
    return m.linear(h, w("o_proj"), width, out_bias);
}

ValueId Decoder::mlp(Blocks& m, ValueId h, const Scope& w) const {
    if (!fused) return gated_mlp(m, h, activation, w, inner, mlp_bias);
    const auto both = m.linears(h, w("gate_up_proj"), {inner, inner}, mlp_bias);
    return m.linear(m.b.mul(activation(m.b, both[0]), both[1]), w("down_proj"), width, mlp_bias);
}

ValueId Decoder::norm(Blocks& m, ValueId x, const Scope& w) const {
    if (!shifted_gains) return m.rmsnorm(x, w, eps);
    const Shape features{m.width(x)};
    const ValueId gain = m.b.add(m.zeros(w, "weight", features), m.b.call("fill", {}, Fill{.value = 1, .shape = features}));
    return m.b.call("rmsnorm", {x, gain}, Norm{.eps = eps}, w.prefix);
}

ValueId Decoder::head_norm(Blocks& m, ValueId x, const Scope& w) const {
    if (head_norms == HeadNorms::none || x == kNone) return x;
    if (head_norms == HeadNorms::together) return norm(m, x, w);
    const Shape flat = m.b.type(x).shape;
    return m.b.reshape(norm(m, m.b.reshape(x, {elements(flat) / head_dim, head_dim}), w), flat);
}

Status read_decoder(Decoder& m, Fields& f, Task task, const DecoderDefaults& d) {
    DS_CHECK(only_causal(f, task));
    m.width = f.integer("hidden_size", d.width);
    m.layers = f.integer("num_hidden_layers", d.layers);
    m.heads = f.integer("num_attention_heads", d.heads);
    m.kv_heads = f.integer("num_key_value_heads", f.json().contains("num_key_value_heads") ? m.heads : d.kv_heads.value_or(m.heads));
    m.head_dim = f.integer("head_dim", d.head_dim.value_or(m.width / std::max<int64_t>(m.heads, 1)));
    m.inner = f.integer("intermediate_size", d.inner);
    m.vocabulary = f.integer("vocab_size", d.vocabulary);
    const int64_t positions = f.integer("max_position_embeddings", d.positions);
    m.eps = f.number("rms_norm_eps", d.eps);
    m.attention_dropout = f.number("attention_dropout", 0.0);
    m.range = f.number("initializer_range", 0.02);
    m.tied = f.boolean("tie_word_embeddings", d.tied);
    read_padding(m, f, d.pad_id);
    DS_TRY(m.activation, activation_named(f.text("hidden_act", d.activation), "hidden_act"));
    DS_CHECK(f.status());
    if (m.heads == 0 || m.kv_heads == 0 || m.heads % m.kv_heads)
        return fail(Code::E_CONFIG, "config.json: num_attention_heads {} is not a multiple of num_key_value_heads {}", m.heads, m.kv_heads);
    DS_TRY(m.angles, read_rope(m, f.json(), m.head_dim, positions, d.rope));
    m.names.base_prefix = "model.";
    tie(m, m.tied && task != Task::none, "model.embed_tokens.weight", {"lm_head.weight"});
    decoder_outputs(m, task);
    if (m.mixture) {
        m.couples_rows = m.mixture->balance != 0;
        m.one_piece = true;
    }
    return ok();
}

Result<std::vector<int64_t>> read_windows(Fields& f, int64_t layers, int64_t window, bool listed,
                                          const std::function<bool(int64_t)>& rule) {
    std::vector<int64_t> windows(static_cast<size_t>(layers), 0);
    const Json types = listed && f.has("layer_types") ? f.json()["layer_types"] : Json();
    if (!types.is_null() && (!types.is_array() || types.size() != windows.size()))
        return fail(Code::E_CONFIG, "config.json: layer_types must list {} layers", layers);
    for (size_t i = 0; i < types.size(); ++i)
        if (types[i] != "full_attention" && types[i] != "sliding_attention" && types[i] != "attention")
            return fail(Code::E_UNSUPPORTED,
                        "config.json: layer_types: {} is not built; there are \"full_attention\" and \"sliding_attention\"",
                        types[i].dump());
    for (size_t i = 0; i < windows.size(); ++i)
        if (types.is_null() ? rule(static_cast<int64_t>(i)) : types[i] == "sliding_attention") windows[i] = window;
    return windows;
}

}  // namespace ds::models
