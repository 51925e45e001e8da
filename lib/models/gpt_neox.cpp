// GPT-NeoX (Black et al. 2022, arXiv 2204.06745), as transformers' GPTNeoXForCausalLM and GPTNeoXModel: rotary embedding of a part of each
// head, attention and MLP side by side on the residual stream unless use_parallel_residual says otherwise.
#include "models/blocks.h"
#include "models/rope.h"

namespace ds::models {
namespace {

struct GptNeox : Model {
    int64_t width = 0, layers = 0, heads = 0, inner = 0;
    double eps = 1e-5, hidden_dropout = 0, attention_dropout = 0, range = 0.02;
    bool parallel = true, attention_bias = true, tied = false;
    Activation activation;
    RopeAngles angles;

    void build(Builder& b, TokenStream& s) const override {
        Blocks m(b, range);
        const Scope root{task == Task::none ? "" : "gpt_neox"};
        const ValueId table = m.weight(root("embed_in"), "weight", {vocabulary, width});
        ValueId x = m.boundary(s.dropout(b.call("embedding", {table, s.ids()}), hidden_dropout));
        const ValueId turns = b.call("rope_angles", {s.positions()}, angles);
        for (int64_t i = 0; i < layers; ++i) x = m.boundary(block(m, s, x, turns, root("layers")(std::to_string(i))));
        x = m.layernorm(x, root("final_layer_norm"), eps);
        s.output("last_hidden_state", x);
        if (task == Task::none) return;
        s.classify_tokens(x, [&](ValueId rows) {
            return m.head(rows, tied ? table : m.weight(Scope{"embed_out"}, "weight", {vocabulary, width}));
        });
    }

    ValueId block(Blocks& m, TokenStream& s, ValueId x, ValueId turns, const Scope& w) const {
        const ValueId attended =
            s.dropout(attention(m, s, m.layernorm(x, w("input_layernorm"), eps), turns, w("attention")), hidden_dropout);
        const ValueId between = parallel ? x : m.b.add(x, attended);
        ValueId h = m.layernorm(between, w("post_attention_layernorm"), eps);
        h = m.linear(activation(m.b, m.linear(h, w("mlp.dense_h_to_4h"), inner)), w("mlp.dense_4h_to_h"), width);
        h = m.b.add(between, s.dropout(h, hidden_dropout));
        return parallel ? m.b.add(h, attended) : h;
    }

    // Query, key and value of one head lie side by side.
    ValueId attention(Blocks& m, TokenStream& s, ValueId h, ValueId turns, const Scope& w) const {
        Builder& b = m.b;
        const int64_t size = width / heads;
        const ValueId all = m.linear(h, w("query_key_value"), 3 * width, attention_bias);
        const auto parts = b.call_all("split", {b.reshape(all, {s.shape().tokens * heads, 3 * size})}, Split{-1, {size, size, size}});
        const auto flat = [&](ValueId x) { return b.reshape(x, {s.shape().tokens, width}); };
        const ValueId q = b.call("rope", {flat(parts[0]), turns}, Rope{.head_dim = size}),
                      k = b.call("rope", {flat(parts[1]), turns}, Rope{.head_dim = size});
        return m.linear(s.attention(q, k, flat(parts[2]), {.heads = heads, .causal = true, .dropout = attention_dropout}), w("dense"),
                        width, attention_bias);
    }
};

}  // namespace

Result<std::unique_ptr<Model>> gpt_neox(const Json& config, Task task) {
    auto m = std::make_unique<GptNeox>();
    Fields f(config);
    DS_CHECK(only_causal(f, task));
    m->width = f.integer("hidden_size", 6144);
    m->layers = f.integer("num_hidden_layers", 44);
    m->heads = f.integer("num_attention_heads", 64);
    m->inner = f.integer("intermediate_size", 24576);
    m->vocabulary = f.integer("vocab_size", 50432);
    const int64_t positions = f.integer("max_position_embeddings", 2048);
    m->eps = f.number("layer_norm_eps", 1e-5);
    m->hidden_dropout = f.number("hidden_dropout", 0.0);
    m->attention_dropout = f.number("attention_dropout", 0.0);
    m->range = f.number("initializer_range", 0.02);
    m->parallel = f.boolean("use_parallel_residual", true);
    m->attention_bias = f.boolean("attention_bias", true);
    m->tied = f.boolean("tie_word_embeddings", false);
    DS_TRY(m->activation, activation_named(f.text("hidden_act", "gelu"), "hidden_act"));
    // Older folders spell the rotated part and the base of the angles otherwise.
    const RopeDefaults rope{.theta = f.number("rotary_emb_base", 10000.0), .partial = f.number("rotary_pct", 0.25)};
    DS_CHECK(f.status());
    DS_CHECK(check_heads(m->width, m->heads, "hidden_size", "num_attention_heads"));
    if (const int64_t size = f.integer("head_dim", m->width / m->heads); size != m->width / m->heads)
        return fail(Code::E_UNSUPPORTED,
                    "config.json: head_dim {} is not built for gpt_neox; there is hidden_size / num_attention_heads, {}", size,
                    m->width / m->heads);
    DS_CHECK(f.status());
    DS_TRY(m->angles, read_rope(*m, config, m->width / m->heads, positions, rope));
    m->names.base_prefix = "gpt_neox.";
    tie(*m, m->tied && task != Task::none, "gpt_neox.embed_in.weight", {"embed_out.weight", "lm_head.weight"});
    m->names.others["embed_out.weight"] = {"lm_head.weight"};  // as the head is called since transformers 5
    decoder_outputs(*m, task);
    return std::unique_ptr<Model>(std::move(m));
}

}  // namespace ds::models
