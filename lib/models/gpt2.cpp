// GPT-2 (Radford et al. 2019), as transformers' GPT2LMHeadModel, GPT2Model and their kin with heads over rows and tokens.
#include <cmath>

#include "models/causal.h"

namespace ds::models {
namespace {

struct Gpt2 : CausalModel {
    int64_t width = 768, layers = 12, heads = 12, inner = 0;
    double eps = 1e-5, embd_dropout = 0.1, attn_dropout = 0.1, resid_dropout = 0.1, range = 0.02;
    bool scale_weights = true, scale_by_layer = false, tied = true;
    Activation activation;

    void build(Builder& builder, TokenStream& s) const override {
        Blocks m(builder, range);
        Builder& b = builder;
        const Scope root{task == Task::none ? "" : "transformer"};
        const ValueId wte = m.weight(root("wte"), "weight", {vocabulary, width});
        ValueId x = b.add(b.call("embedding", {wte, s.ids()}), m.embedding(s.positions(), root("wpe"), max_positions, width));
        if (s.has_types()) x = b.add(x, b.call("embedding", {wte, s.types()}));
        x = m.boundary(s.dropout(x, embd_dropout));
        for (int64_t i = 0; i < layers; ++i) x = m.boundary(block(m, s, x, root("h")(std::to_string(i)), i));
        head(m, s, m.layernorm(x, root("ln_f"), eps), [&](ValueId rows) {
            return m.head(rows, tied ? wte : m.weight(Scope{"lm_head"}, "weight", {vocabulary, width}));
        });
    }

    ValueId block(Blocks& m, TokenStream& s, ValueId x, const Scope& w, int64_t layer) const {
        Builder& b = m.b;
        ValueId h = m.layernorm(x, w("ln_1"), eps);
        const auto qkv = b.call_all("split", {m.conv1d(h, w("attn.c_attn"), 3 * width)}, Split{-1, {width, width, width}});
        double scale = scale_weights ? 0 : 1;
        if (scale_by_layer)
            scale = (scale_weights ? 1 / std::sqrt(static_cast<double>(width / heads)) : 1.0) / static_cast<double>(layer + 1);
        h = s.attention(qkv[0], qkv[1], qkv[2], {.heads = heads, .causal = true, .scale = scale, .dropout = attn_dropout});
        const double share = 1 / std::sqrt(2 * static_cast<double>(layers));  // of the spread of what is added to x (section 2.3)
        x = b.add(x, s.dropout(m.conv1d(h, w("attn.c_proj"), width, share), resid_dropout));
        h = activation(b, m.conv1d(m.layernorm(x, w("ln_2"), eps), w("mlp.c_fc"), inner));
        return b.add(x, s.dropout(m.conv1d(h, w("mlp.c_proj"), width, share), resid_dropout));
    }
};

}  // namespace

Result<std::unique_ptr<Model>> gpt2(const Json& config, Task task) {
    auto m = std::make_unique<Gpt2>();
    Fields f(config);
    m->width = f.integer("n_embd", f.integer("hidden_size", 768));
    m->layers = f.integer("n_layer", f.integer("num_hidden_layers", 12));
    m->heads = f.integer("n_head", f.integer("num_attention_heads", 12));
    m->inner = f.integer("n_inner", 4 * m->width);
    m->vocabulary = f.integer("vocab_size", 50257);
    m->max_positions = f.integer("n_positions", f.integer("max_position_embeddings", 1024));
    m->eps = f.number("layer_norm_epsilon", 1e-5);
    m->embd_dropout = f.number("embd_pdrop", 0.1);
    m->attn_dropout = f.number("attn_pdrop", 0.1);
    m->resid_dropout = f.number("resid_pdrop", 0.1);
    m->range = f.number("initializer_range", 0.02);
    m->scale_weights = f.boolean("scale_attn_weights", true);
    m->scale_by_layer = f.boolean("scale_attn_by_inverse_layer_idx", false);
    m->tied = f.boolean("tie_word_embeddings", true);
    if (f.boolean("add_cross_attention", false))
        return fail(Code::E_UNSUPPORTED, "config.json: add_cross_attention: cross-attention is not built for gpt2");
    DS_TRY(m->activation, activation_named(f.text("activation_function", "gelu_new"), "activation_function"));
    DS_CHECK(f.status());
    if (m->heads == 0 || m->width % m->heads)
        return fail(Code::E_CONFIG, "config.json: n_embd {} is not a multiple of n_head {}", m->width, m->heads);
    m->token_head = "classifier";
    read_padding(*m, f);
    DS_CHECK(finish_causal(*m, f, task, "transformer", "wte", "lm_head", m->tied));
    return std::unique_ptr<Model>(std::move(m));
}

}  // namespace ds::models
