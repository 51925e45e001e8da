// T5 (Raffel et al. 2019, arXiv 1910.10683) and mT5, as transformers' T5ForConditionalGeneration and T5Model. No positions are embedded:
// the scores of self attention have a bias by distance, one table for all layers of a stack, and are not scaled.
#include <cmath>

#include "models/blocks.h"

namespace ds::models {
namespace {

struct T5 : Model {
    int64_t width = 512, inner = 2048, heads = 8, head_dim = 64, encoder_layers = 6, decoder_layers = 6, buckets = 32, max_distance = 128;
    double eps = 1e-6, dropout = 0.1, factor = 1;
    bool gated = false, tied = true, scaled = true;  // scaled: what goes to the head, by 1 / sqrt(width)
    Activation activation;

    void build(Builder& b, TokenStream& s) const override {
        Blocks m(b, factor);
        const ValueId table = m.weight(Scope{"shared"}, "weight", {vocabulary, width});
        const ValueId encoded = stack(m, s.source(), table, kNone, s, Scope{"encoder"}, encoder_layers);
        s.output("encoder_last_hidden_state", encoded);
        const ValueId x = stack(m, s, table, encoded, s, Scope{"decoder"}, decoder_layers);
        s.output("last_hidden_state", x);
        if (task == Task::none) return;
        s.classify_tokens(x, [&](ValueId rows) {
            const ValueId head = tied ? table : m.weight(Scope{"lm_head"}, "weight", {vocabulary, width});
            return m.head(scaled ? b.scale(rows, 1 / std::sqrt(static_cast<double>(width))) : rows, head);
        });
    }

    // encoded: what the decoder looks at; kNone makes the encoder.
    ValueId stack(Blocks& m, TokenStream& s, ValueId table, ValueId encoded, TokenStream& whole, const Scope& w, int64_t layers) const {
        Builder& b = m.b;
        const bool decodes = encoded != kNone;
        const ValueId bias =
            b.param(w("block.0.layer.0.SelfAttention.relative_attention_bias").name("weight"), {buckets, heads}, normal(width));
        ValueId x = m.boundary(s.dropout(b.call("embedding", {table, s.ids()}), dropout));
        const Attention alone{
            .heads = heads, .causal = decodes, .scale = 1, .dropout = dropout, .max_distance = max_distance, .both_ways = !decodes};
        for (int64_t i = 0; i < layers; ++i) {
            const Scope layer = w("block")(std::to_string(i))("layer");
            const Scope self = layer("0.SelfAttention");
            ValueId h = m.rmsnorm(x, layer("0.layer_norm"), eps);
            h = s.attention(query(m, h, self), key(m, h, self("k")), key(m, h, self("v")), alone, bias);
            x = b.add(x, s.dropout(linear(m, h, self("o"), width, normal(heads * head_dim)), dropout));
            if (decodes) {
                const Scope cross = layer("1.EncDecAttention");
                h = m.rmsnorm(x, layer("1.layer_norm"), eps);
                h = whole.cross_attention(query(m, h, cross), key(m, encoded, cross("k")), key(m, encoded, cross("v")),
                                          {.heads = heads, .scale = 1, .dropout = dropout});
                x = b.add(x, s.dropout(linear(m, h, cross("o"), width, normal(heads * head_dim)), dropout));
            }
            x = m.boundary(b.add(x, s.dropout(feed_forward(m, s, x, layer(decodes ? "2" : "1")), dropout)));
        }
        return s.dropout(m.rmsnorm(x, w("final_layer_norm"), eps), dropout);
    }

    ValueId feed_forward(Blocks& m, TokenStream& s, ValueId x, const Scope& w) const {
        const Scope dense = w("DenseReluDense");
        const ValueId h = m.rmsnorm(x, w("layer_norm"), eps);
        ValueId y = activation(m.b, linear(m, h, dense(gated ? "wi_0" : "wi"), inner, normal(width)));
        if (gated) y = m.b.mul(y, linear(m, h, dense("wi_1"), inner, normal(width)));
        return linear(m, s.dropout(y, dropout), dense("wo"), width, normal(inner));
    }

    // transformers begins with these deviations.
    Init normal(int64_t fan_in) const { return {Init::Type::normal, factor / std::sqrt(static_cast<double>(fan_in))}; }
    ValueId query(Blocks& m, ValueId x, const Scope& w) const { return linear(m, x, w("q"), heads * head_dim, normal(width * head_dim)); }
    ValueId key(Blocks& m, ValueId x, const Scope& w) const { return linear(m, x, w, heads * head_dim, normal(width)); }
    static ValueId linear(Blocks& m, ValueId x, const Scope& w, int64_t out, Init init) {
        return m.b.call("matmul", {x, m.b.param(w.name("weight"), {out, m.width(x)}, init)}, Matmul{.transpose_b = true}, w.prefix);
    }
};

// "relu", "gated-gelu", "gated-silu" ...
Status read_feed_forward(T5& m, Fields& f, const std::string& otherwise) {
    std::string name = f.text("feed_forward_proj", otherwise);
    m.gated = name.starts_with("gated-");
    if (m.gated) name = name.substr(6);
    if (m.gated && name == "gelu") name = "gelu_new";  // as transformers reads it
    // What transformers works out of that it writes too, and then reads first.
    m.gated = f.boolean("is_gated_act", m.gated);
    const char* key = f.has("dense_act_fn") ? "dense_act_fn" : "feed_forward_proj";
    DS_TRY(m.activation, activation_named(f.text("dense_act_fn", name), key));
    return ok();
}

}  // namespace

Result<std::unique_ptr<Model>> t5(const Json& config, Task task) {
    auto m = std::make_unique<T5>();
    Fields f(config);
    const bool mt5 = f.text("model_type", "t5") == "mt5";
    DS_CHECK(only_seq2seq(f, config, task));
    m->width = f.integer("d_model", 512);
    m->inner = f.integer("d_ff", mt5 ? 1024 : 2048);
    m->heads = f.integer("num_heads", mt5 ? 6 : 8);
    m->head_dim = f.integer("d_kv", 64);
    m->encoder_layers = f.integer("num_layers", mt5 ? 8 : 6);
    m->decoder_layers = f.integer("num_decoder_layers", m->encoder_layers);
    m->buckets = f.integer("relative_attention_num_buckets", 32);
    m->max_distance = f.integer("relative_attention_max_distance", 128);
    m->vocabulary = m->source_vocabulary = f.integer("vocab_size", mt5 ? 250112 : 32128);
    m->eps = f.number("layer_norm_epsilon", 1e-6);
    m->dropout = f.number("dropout_rate", 0.1);
    m->factor = f.number("initializer_factor", 1.0);
    // Folders of transformers 4 scale where they tie; those of 5 always tie and say whether they scale. mT5 never does.
    m->tied = f.boolean("tie_word_embeddings", true);
    m->scaled = !mt5 && f.boolean("scale_decoder_outputs", m->tied);
    DS_CHECK(read_feed_forward(*m, f, mt5 ? "gated-gelu" : "relu"));
    m->pad_id = 0;
    if (mt5) m->decoder_start_id = 0;
    read_special_ids(*m, f);
    DS_CHECK(f.status());
    if (m->heads == 0 || m->head_dim == 0)
        return fail(Code::E_CONFIG, "config.json: num_heads {} and d_kv {} must be positive", m->heads, m->head_dim);
    if (m->buckets < 4 || m->buckets % 2 || m->max_distance <= m->buckets / 2)
        return fail(Code::E_CONFIG,
                    "config.json: relative_attention_num_buckets {} must be even, at least 4 and less than twice "
                    "relative_attention_max_distance {}",
                    m->buckets, m->max_distance);
    m->names.others["shared.weight"] = {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight"};
    if (m->tied && task != Task::none) m->names.others["shared.weight"].push_back("lm_head.weight");
    seq2seq_outputs(*m, task);
    return std::unique_ptr<Model>(std::move(m));
}

}  // namespace ds::models
