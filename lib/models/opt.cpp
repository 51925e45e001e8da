// OPT (Zhang et al. 2022, arXiv 2205.01068), as transformers' OPTForCausalLM and OPTModel: learned positions, counted over what is not
// masked, whose table begins with two rows of padding.
#include "models/causal.h"

namespace ds::models {
namespace {

struct Opt : CausalModel {
    int64_t width = 768, word_width = 768, layers = 12, heads = 12, inner = 3072, positions = 2048;
    double eps = 1e-5, dropout = 0.1, attention_dropout = 0, range = 0.02;
    bool norm_before = true, last_norm = true, bias = true, tied = true;
    Activation activation;

    void build(Builder& b, TokenStream& s) const override {
        Blocks m(b, range);
        const Scope root{task == Task::none ? "" : "model"}, body = root("decoder");
        const ValueId table = m.weight(body("embed_tokens"), "weight", {vocabulary, word_width});
        ValueId x = m.words(table, s.ids(), pad_id);
        if (word_width != width) x = m.linear(x, body("project_in"), width, false);
        x = m.boundary(b.add(x, m.embedding(s.positions(), body("embed_positions"), positions + position_offset, width)));
        for (int64_t i = 0; i < layers; ++i) x = m.boundary(layer(m, s, x, body("layers")(std::to_string(i))));
        if (last_norm) x = m.layernorm(x, body("final_layer_norm"), eps);
        if (word_width != width) x = m.linear(x, body("project_out"), word_width, false);
        head(m, s, x, [&](ValueId rows) {
            return m.head(rows, tied ? table : m.weight(Scope{"lm_head"}, "weight", {vocabulary, word_width}));
        });
    }

    ValueId layer(Blocks& m, TokenStream& s, ValueId x, const Scope& w) const {
        const auto sublayer = [&](const char* name, const std::function<ValueId(ValueId)>& compute) {
            const auto normed = [&](ValueId y) { return m.layernorm(y, w(name), eps); };
            const ValueId y = m.b.add(x, s.dropout(compute(norm_before ? normed(x) : x), dropout));
            x = norm_before ? y : normed(y);
        };
        sublayer("self_attn_layer_norm", [&](ValueId h) {
            const Scope self = w("self_attn");
            const ValueId q = m.linear(h, self("q_proj"), width, bias), k = m.linear(h, self("k_proj"), width, bias),
                          v = m.linear(h, self("v_proj"), width, bias);
            return m.linear(s.attention(q, k, v, {.heads = heads, .causal = true, .dropout = attention_dropout}), self("out_proj"), width,
                            bias);
        });
        sublayer("final_layer_norm",
                 [&](ValueId h) { return m.linear(activation(m.b, m.linear(h, w("fc1"), inner, bias)), w("fc2"), width, bias); });
        return x;
    }
};

}  // namespace

Result<std::unique_ptr<Model>> opt(const Json& config, Task task) {
    auto m = std::make_unique<Opt>();
    Fields f(config);
    m->width = f.integer("hidden_size", 768);
    m->word_width = f.integer("word_embed_proj_dim", m->width);
    m->layers = f.integer("num_hidden_layers", 12);
    m->heads = f.integer("num_attention_heads", 12);
    m->inner = f.integer("ffn_dim", 3072);
    m->vocabulary = f.integer("vocab_size", 50272);
    m->positions = m->max_positions = f.integer("max_position_embeddings", 2048);
    m->dropout = f.number("dropout", 0.1);
    m->attention_dropout = f.number("attention_dropout", 0.0);
    m->range = f.number("init_std", 0.02);
    m->norm_before = f.boolean("do_layer_norm_before", true);
    m->last_norm = m->norm_before && !f.boolean("_remove_final_layer_norm", false);
    m->bias = f.boolean("enable_bias", true);
    m->tied = f.boolean("tie_word_embeddings", true);
    read_padding(*m, f, 1);
    DS_TRY(m->activation, activation_named(f.text("activation_function", "relu"), "activation_function"));
    if (!f.boolean("layer_norm_elementwise_affine", true))
        return fail(Code::E_UNSUPPORTED, "config.json: layer_norm_elementwise_affine: false is not built for opt; there is true");
    if (f.number("layerdrop", 0.0) != 0)
        return fail(Code::E_UNSUPPORTED, "config.json: layerdrop {} is not built; there is 0: every layer is computed",
                    config["layerdrop"].dump());
    DS_CHECK(f.status());
    DS_CHECK(check_heads(m->width, m->heads, "hidden_size", "num_attention_heads"));
    m->position_offset = 2;
    m->positions_skip = Model::Skipped::masked;
    DS_CHECK(finish_causal(*m, f, task, "model", "decoder.embed_tokens", "lm_head", m->tied));
    return std::unique_ptr<Model>(std::move(m));
}

}  // namespace ds::models
