// BART (Lewis et al. 2019, arXiv 1910.13461) and its kin, as transformers' *ForConditionalGeneration, MarianMTModel and *Model. Marian
// (Junczys-Dowmunt et al. 2018, arXiv 1804.00344) computes its positions and normalises no embeddings; mBART and Pegasus normalise before
// each sublayer, and at the end.
#include <cmath>

#include "models/blocks.h"

namespace ds::models {
namespace {

struct Side {
    int64_t layers = 0, heads = 0, inner = 0;
};

struct Bart : Model {
    int64_t width = 1024, positions = 1024;
    Side encoder, decoder;
    double dropout = 0.1, attention_dropout = 0, activation_dropout = 0, embedding_scale = 1, range = 0.02;
    bool tied = true, shared = true;  // the head with the decoder's words; the encoder's with the decoder's
    bool sinusoidal = false, norm_first = false, norm_embeddings = true;
    Activation activation;

    void build(Builder& b, TokenStream& s) const override {
        Blocks m(b, range);
        const Scope root{task == Task::none ? "" : "model"};
        ValueId words = kNone, source_words = kNone;
        if (shared)
            words = source_words = m.weight(root("shared"), "weight", {vocabulary, width});  // an untied folder has it too, without use
        if (!shared || !tied) {
            source_words = m.weight(root("encoder.embed_tokens"), "weight", {source_vocabulary, width});
            words = m.weight(root("decoder.embed_tokens"), "weight", {vocabulary, width});
        }
        ValueId encoded = embed(m, s.source(), source_words, root("encoder"));
        for (int64_t i = 0; i < encoder.layers; ++i)
            encoded = m.boundary(layer(m, s.source(), s, encoded, kNone, root("encoder.layers")(std::to_string(i)), encoder));
        if (norm_first) encoded = m.layernorm(encoded, root("encoder.layer_norm"), kEps);
        s.output("encoder_last_hidden_state", encoded);
        ValueId x = embed(m, s, words, root("decoder"));
        for (int64_t i = 0; i < decoder.layers; ++i)
            x = m.boundary(layer(m, s, s, x, encoded, root("decoder.layers")(std::to_string(i)), decoder));
        if (norm_first) x = m.layernorm(x, root("decoder.layer_norm"), kEps);
        s.output("last_hidden_state", x);
        if (task == Task::none) return;
        const ValueId bias = b.reshape(b.param("final_logits_bias", {1, vocabulary}, {Init::Type::zeros}, false), {vocabulary});
        s.classify_tokens(x, [&](ValueId rows) {
            return m.head(rows, tied ? words : m.weight(Scope{"lm_head"}, "weight", {vocabulary, width}), bias);
        });
    }

    ValueId embed(Blocks& m, TokenStream& s, ValueId words, const Scope& w) const {
        Builder& b = m.b;
        ValueId x = m.words(words, s.ids(), pad_id);
        if (embedding_scale != 1) x = b.scale(x, embedding_scale);
        x = b.add(x, sinusoidal ? waves(b, s) : m.embedding(s.positions(), w("embed_positions"), positions + position_offset, width));
        if (norm_embeddings) x = m.layernorm(x, w("layernorm_embedding"), kEps);
        return m.boundary(s.dropout(x, dropout));
    }

    // sin(position * frequency) in the first half of the columns, cos in the second.
    ValueId waves(Builder& b, TokenStream& s) const {
        RopeAngles angles;
        for (int64_t i = 0; i < width / 2; ++i)
            angles.inv_freq.push_back(std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(width)));
        const auto parts = b.call_all("split", {b.call("rope_angles", {s.positions()}, angles)}, Split{-1, {width / 2, width / 2}});
        return b.call("concat", {parts[1], parts[0]}, Axis{-1});
    }

    // encoded: what a decoder's layer looks at.
    ValueId layer(Blocks& m, TokenStream& s, TokenStream& whole, ValueId x, ValueId encoded, const Scope& w, const Side& side) const {
        const bool decodes = encoded != kNone;
        x = sublayer(m, s, x, w("self_attn_layer_norm"), [&](ValueId h) {
            const Scope self = w("self_attn");
            const ValueId y =
                s.attention(m.linear(h, self("q_proj"), width), m.linear(h, self("k_proj"), width), m.linear(h, self("v_proj"), width),
                            {.heads = side.heads, .causal = decodes, .dropout = attention_dropout});
            return m.linear(y, self("out_proj"), width);
        });
        if (decodes)
            x = sublayer(m, s, x, w("encoder_attn_layer_norm"), [&](ValueId h) {
                const Scope cross = w("encoder_attn");
                const ValueId y =
                    whole.cross_attention(m.linear(h, cross("q_proj"), width), m.linear(encoded, cross("k_proj"), width),
                                          m.linear(encoded, cross("v_proj"), width), {.heads = side.heads, .dropout = attention_dropout});
                return m.linear(y, cross("out_proj"), width);
            });
        return sublayer(m, s, x, w("final_layer_norm"), [&](ValueId h) {
            return m.linear(s.dropout(activation(m.b, m.linear(h, w("fc1"), side.inner)), activation_dropout), w("fc2"), width);
        });
    }

    // A residual step, normalised before or after.
    ValueId sublayer(Blocks& m, TokenStream& s, ValueId x, const Scope& norm, const std::function<ValueId(ValueId)>& f) const {
        const ValueId y = m.b.add(x, s.dropout(f(norm_first ? m.layernorm(x, norm, kEps) : x), dropout));
        return norm_first ? y : m.layernorm(y, norm, kEps);
    }

    static constexpr double kEps = 1e-5;
};

Side side_of(Fields& f, const std::string& name) {
    return {f.integer((name + "_layers").c_str(), 12), f.integer((name + "_attention_heads").c_str(), 16),
            f.integer((name + "_ffn_dim").c_str(), 4096)};
}

}  // namespace

Result<std::unique_ptr<Model>> bart(const Json& config, Task task) {
    auto m = std::make_unique<Bart>();
    Fields f(config);
    const std::string type = f.text("model_type", "bart");
    DS_CHECK(only_seq2seq(f, config, task));
    m->width = f.integer("d_model", 1024);
    m->positions = f.integer("max_position_embeddings", 1024);
    m->encoder = side_of(f, "encoder");
    m->decoder = side_of(f, "decoder");
    m->dropout = f.number("dropout", 0.1);
    m->attention_dropout = f.number("attention_dropout", 0.0);
    m->activation_dropout = f.number("activation_dropout", 0.0);
    m->range = f.number("init_std", 0.02);
    m->embedding_scale = f.boolean("scale_embedding", false) ? std::sqrt(static_cast<double>(m->width)) : 1;
    m->source_vocabulary = m->vocabulary = f.integer("vocab_size", type == "marian" ? 58101 : 50265);
    m->tied = f.boolean("tie_word_embeddings", true);
    m->sinusoidal = type == "marian";
    m->norm_embeddings = type != "marian";
    if (type == "marian") {
        m->shared = f.boolean("share_encoder_decoder_embeddings", true);
        if (!m->shared) m->vocabulary = f.integer("decoder_vocab_size", m->vocabulary);
    }
    DS_TRY(m->activation, activation_named(f.text("activation_function", "gelu"), "activation_function"));
    for (const char* key : {"encoder_layerdrop", "decoder_layerdrop"})
        if (f.number(key, 0.0) != 0)
            return fail(Code::E_UNSUPPORTED, "config.json: {} {} is not built; there is 0: every layer is computed", key,
                        config[key].dump());
    m->pad_id = type == "marian" ? 58100 : 1;
    m->decoder_start_id = type == "marian" ? 58100 : 2;
    read_special_ids(*m, f);
    DS_CHECK(f.status());
    DS_CHECK(check_heads(m->width, m->encoder.heads, "d_model", "encoder_attention_heads"));
    DS_CHECK(check_heads(m->width, m->decoder.heads, "d_model", "decoder_attention_heads"));
    if (m->sinusoidal && m->width % 2) return fail(Code::E_CONFIG, "config.json: d_model {} must be even for computed positions", m->width);
    m->decodes_its_input = type == "bart";
    m->max_positions = m->positions;
    m->position_offset = m->sinusoidal ? 0 : 2;
    m->names.base_prefix = "model.";
    const std::string root = task == Task::none ? "" : "model.";
    if (m->tied && m->shared)
        m->names.others[root + "shared.weight"] = {root + "encoder.embed_tokens.weight", root + "decoder.embed_tokens.weight",
                                                   "lm_head.weight"};
    else if (m->tied) m->names.others[root + "decoder.embed_tokens.weight"] = {"lm_head.weight"};
    seq2seq_outputs(*m, task);
    return std::unique_ptr<Model>(std::move(m));
}

}  // namespace ds::models
