#include "models/decoder.h"

namespace ds::models {

void Decoder::build(Builder& b, TokenStream& s) const {
    Blocks m(b, range);
    Mixture::Load load;
    const Scope root{task == Task::none ? "" : tensors.root};
    const ValueId table = m.weight(root(tensors.words), "weight", {vocabulary, width});
    ValueId x = m.words(table, s.ids(), keeps_padding ? pad_id : std::nullopt);
    if (embedding_scale != 1) x = b.scale(x, embedding_scale);
    x = m.boundary(s.dropout(x, embedding_dropout));
    const ValueId turns = b.call("rope_angles", {s.positions()}, angles);
    const ValueId near = window_angles ? b.call("rope_angles", {s.positions()}, *window_angles) : turns;
    for (int64_t i = 0; i < layers; ++i)
        x = m.boundary(layer(m, s, x, window(i) ? near : turns, root(tensors.layers)(std::to_string(i)), i, load));
    head(m, s, norm(m, x, root(tensors.norm)), [&](ValueId rows) {
        const ValueId scaled = logit_scale == 1 ? rows : b.scale(rows, logit_scale);
        const Scope w{tensors.head};
        return m.head(scaled, tied ? table : m.weight(w, "weight", {vocabulary, width}),
                      head_bias ? m.zeros(w, "bias", {vocabulary}) : kNone);
    });
    if (load.layers && b.graph().loss != kNone)
        b.graph().loss = b.add(b.graph().loss, b.scale(mixture->imbalance(b, s, load), mixture->balance));
}

ValueId Decoder::layer(Blocks& m, TokenStream& s, ValueId x, ValueId turns, const Scope& w, int64_t i, Mixture::Load& load) const {
    Builder& b = m.b;
    const DecoderNames& n = tensors;
    const auto normed = [&](ValueId y, const std::string& name) { return name.empty() ? y : norm(m, y, w(name)); };
    const auto given = [&](ValueId y, const std::string& name, double dropout) {
        y = s.dropout(normed(y, name), dropout);
        return residual_scale == 1 ? y : b.scale(y, residual_scale);
    };
    const ValueId h = normed(x, n.attention_norm);
    const ValueId attended = given(attention(m, s, h, turns, w, window(i)), n.attention_out_norm, attention_out_dropout);
    const ValueId between = parallel ? x : b.add(x, attended);
    const ValueId taken = parallel && n.mlp_norm == n.attention_norm ? h : normed(between, n.mlp_norm);
    const Scope scope = w(n.mlp);
    const ValueId computed =
        mixture && !plain_layers.contains(i) ? mixture->build(m, s, taken, activation, scope, load) : mlp(m, taken, scope);
    const ValueId y = b.add(between, given(computed, n.mlp_out_norm, mlp_dropout));
    return parallel ? b.add(y, attended) : y;
}

ValueId Decoder::attention(Blocks& m, TokenStream& s, ValueId h, ValueId turns, const Scope& w, int64_t window_size) const {
    const auto parts = queries_keys_values(m, s, h, w);
    const auto turned = [&](ValueId y, const std::string& norm_name) {
        return m.b.call("rope", {head_norm(m, y, w(norm_name)), turns}, Rope{.head_dim = head_dim, .interleaved = interleaved});
    };
    const ValueId q = turned(parts[0], tensors.query_norm), k = turned(parts[1], tensors.key_norm);
    h = s.attention(q, k, parts[2],
                    {.heads = heads,
                     .kv_heads = kv_heads,
                     .causal = true,
                     .window = window_size,
                     .scale = attention_scale,
                     .dropout = attention_dropout});
    return m.linear(h, w(tensors.attention_out), width, out_bias);
}

std::vector<ValueId> Decoder::queries_keys_values(Blocks& m, TokenStream& s, ValueId h, const Scope& w) const {
    Builder& b = m.b;
    const int64_t columns = heads * head_dim, kv_columns = kv_heads * head_dim, tokens = s.shape().tokens;
    if (projections == Projections::apart)
        return {m.linear(h, w(tensors.query), columns, qkv_bias), m.linear(h, w(tensors.key), kv_columns, qkv_bias),
                m.linear(h, w(tensors.value), kv_columns, qkv_bias)};
    if (projections == Projections::fused) return m.linears(h, w(tensors.qkv), {columns, kv_columns, kv_columns}, qkv_bias);
    const ValueId all = m.linear(h, w(tensors.qkv), columns + 2 * kv_columns, qkv_bias);
    const int64_t queries = heads / kv_heads * head_dim;
    auto parts =
        b.call_all("split", {b.reshape(all, {tokens * kv_heads, queries + 2 * head_dim})}, Split{-1, {queries, head_dim, head_dim}});
    for (size_t i = 0; i < 3; ++i) parts[i] = b.reshape(parts[i], {tokens, i == 0 ? columns : kv_columns});
    return parts;
}

ValueId Decoder::mlp(Blocks& m, ValueId h, const Scope& w) const {
    if (mlp_kind == Mlp::gated) return gated_mlp(m, h, activation, w, inner, mlp_bias);
    ValueId y;
    if (mlp_kind == Mlp::plain) {
        y = activation(m.b, m.linear(h, w(tensors.up), inner, mlp_bias));
    } else {
        const auto both = m.linears(h, w(tensors.gate_up), {inner, inner}, mlp_bias);
        y = m.b.mul(activation(m.b, both[0]), both[1]);
    }
    return m.linear(y, w(tensors.down), width, mlp_bias);
}

ValueId Decoder::norm(Blocks& m, ValueId x, const Scope& w) const {
    if (norms == Norms::layer) return m.layernorm(x, w, eps);
    if (norms == Norms::rms) return m.rmsnorm(x, w, eps);
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
    m.width = f.integer("hidden_size", d.width);
    m.layers = f.integer("num_hidden_layers", d.layers);
    m.heads = f.integer("num_attention_heads", d.heads);
    m.kv_heads = f.integer("num_key_value_heads", f.json().contains("num_key_value_heads") ? m.heads : d.kv_heads.value_or(m.heads));
    m.head_dim = f.integer("head_dim", d.head_dim.value_or(m.width / std::max<int64_t>(m.heads, 1)));
    m.inner = f.integer("intermediate_size", d.inner);
    m.vocabulary = f.integer("vocab_size", d.vocabulary);
    const int64_t positions = f.integer("max_position_embeddings", d.positions);
    m.eps = f.number(d.eps_key, d.eps);
    m.attention_dropout = f.number("attention_dropout", 0.0);
    m.range = f.number("initializer_range", d.range);
    m.tied = f.boolean("tie_word_embeddings", d.tied);
    read_padding(m, f, d.pad_id);
    DS_TRY(m.activation, activation_named(f.text("hidden_act", d.activation), "hidden_act"));
    DS_CHECK(f.status());
    DS_TRY(m.angles, read_rope(m, f.json(), m.head_dim, positions, d.rope));
    return finish_decoder(m, f, task);
}

Status finish_decoder(Decoder& m, Fields& f, Task task) {
    DS_CHECK(f.status());
    if (m.heads == 0 || m.kv_heads == 0 || m.heads % m.kv_heads)
        return fail(Code::E_CONFIG, "config.json: {} attention heads are not a multiple of {} key-value heads", m.heads, m.kv_heads);
    DS_CHECK(finish_causal(m, f, task, m.tensors.root, m.tensors.words, m.tensors.head, m.tied));
    if (m.mixture) {
        if (task != Task::causal_lm) m.mixture->balance = 0;  // other heads have no such term
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
