// BERT (Devlin et al. 2018, arXiv 1810.04805), as transformers' BertModel and its heads for masked language modelling, classification of
// sequences and tokens, and question answering.
#include "models/blocks.h"

namespace ds::models {
namespace {

struct Bert : Model {
    int64_t width = 768, layers = 12, heads = 12, inner = 3072;
    double eps = 1e-12, dropout = 0.1, attention_dropout = 0.1, classifier_dropout = 0.1, range = 0.02;
    bool tied = true;
    Activation activation;

    bool pools() const { return task == Task::none || task == Task::sequence_classification; }

    void build(Builder& b, TokenStream& s) const override {
        Blocks m(b, range);
        const Scope root{task == Task::none ? "" : "bert"}, e = root("embeddings");
        const ValueId words = m.weight(e("word_embeddings"), "weight", {vocabulary, width});
        ValueId x = b.add(m.words(words, s.ids(), pad_id), m.embedding(s.types(), e("token_type_embeddings"), token_types, width));
        x = b.add(x, m.embedding(s.positions(), e("position_embeddings"), max_positions, width));
        x = m.boundary(s.dropout(m.layernorm(x, e("LayerNorm"), eps), dropout));
        for (int64_t i = 0; i < layers; ++i) x = m.boundary(layer(m, s, x, root("encoder.layer")(std::to_string(i))));
        s.output("last_hidden_state", x);
        if (task == Task::none || task == Task::sequence_classification) {
            const ValueId pooled = b.call("tanh", {m.linear(s.first_of_rows(x), root("pooler.dense"), width)});
            s.output("pooler_output", pooled);
            if (task == Task::sequence_classification) sequence_head(m, s, pooled);
        }
        if (task == Task::masked_lm) masked_lm_head(m, s, x, words);
        if (task == Task::token_classification)
            s.classify_tokens(x, [&](ValueId rows) { return m.linear(s.dropout(rows, classifier_dropout), Scope{"classifier"}, labels); });
        if (task == Task::question_answering) answer_head(m, s, x);
    }

    ValueId layer(Blocks& m, TokenStream& s, ValueId x, const Scope& w) const {
        Builder& b = m.b;
        const Scope self = w("attention.self"), out = w("attention.output");
        const ValueId q = m.linear(x, self("query"), width), k = m.linear(x, self("key"), width), v = m.linear(x, self("value"), width);
        ValueId h = s.attention(q, k, v, {.heads = heads, .dropout = attention_dropout});
        x = m.layernorm(b.add(x, s.dropout(m.linear(h, out("dense"), width), dropout)), out("LayerNorm"), eps);
        h = activation(b, m.linear(x, w("intermediate.dense"), inner));
        return m.layernorm(b.add(x, s.dropout(m.linear(h, w("output.dense"), width), dropout)), w("output.LayerNorm"), eps);
    }

    void sequence_head(Blocks& m, TokenStream& s, ValueId pooled) const {
        s.classify_rows(m.linear(s.dropout(pooled, classifier_dropout), Scope{"classifier"}, labels));
    }

    void masked_lm_head(Blocks& m, TokenStream& s, ValueId x, ValueId words) const {
        const Scope p{"cls.predictions"};
        s.classify_tokens(x, [&](ValueId rows) {
            const ValueId h = m.layernorm(activation(m.b, m.linear(rows, p("transform.dense"), width)), p("transform.LayerNorm"), eps);
            const ValueId head = tied ? words : m.weight(p("decoder"), "weight", {vocabulary, width});
            ValueId bias = m.zeros(p, "bias", {vocabulary});
            if (!tied) bias = m.zeros(p("decoder"), "bias", {vocabulary});  // transformers 5 keeps the other too, and does not use it
            return m.b.call("matmul", {h, head, bias}, Matmul{.transpose_b = true}, "logits");
        });
    }

    // The softmax runs over the positions of a row, masked ones included, as transformers has it.
    void answer_head(Blocks& m, TokenStream& s, ValueId x) const {
        Builder& b = m.b;
        const ValueId logits = m.linear(x, Scope{"qa_outputs"}, 2);
        const auto both = b.call_all("split", {b.call("transpose", {logits})}, Split{0, {1, 1}});
        const Shape grid{s.shape().rows, s.shape().length};
        const ValueId start = b.reshape(both[0], grid), end = b.reshape(both[1], grid);
        s.output("start_logits", start);
        s.output("end_logits", end);
        if (!s.shape().labels) return;
        const ValueId loss = b.add(b.call("cross_entropy", {start, s.row_labels("start_positions")}),
                                   b.call("cross_entropy", {end, s.row_labels("end_positions")}));
        b.graph().loss = b.scale(loss, 0.5);
    }
};

}  // namespace

Result<std::unique_ptr<Model>> bert(const Json& config, Task task) {
    auto m = std::make_unique<Bert>();
    Fields f(config);
    if (task == Task::causal_lm) return fail(Code::E_UNSUPPORTED, "config.json: bert has no causal head here");
    m->width = f.integer("hidden_size", 768);
    m->layers = f.integer("num_hidden_layers", 12);
    m->heads = f.integer("num_attention_heads", 12);
    m->inner = f.integer("intermediate_size", 3072);
    m->vocabulary = f.integer("vocab_size", 30522);
    m->max_positions = f.integer("max_position_embeddings", 512);
    m->token_types = f.integer("type_vocab_size", 2);
    m->eps = f.number("layer_norm_eps", 1e-12);
    m->dropout = f.number("hidden_dropout_prob", 0.1);
    m->attention_dropout = f.number("attention_probs_dropout_prob", 0.1);
    m->classifier_dropout = f.number("classifier_dropout", m->dropout);
    m->range = f.number("initializer_range", 0.02);
    if (!config.contains("pad_token_id")) m->pad_id = 0;
    read_padding(*m, f);
    m->tied = f.boolean("tie_word_embeddings", true);
    m->labels = f.integer("num_labels", f.has("id2label") ? static_cast<int64_t>(config["id2label"].size()) : 2);
    DS_TRY(m->activation, activation_named(f.text("hidden_act", "gelu"), "hidden_act"));
    if (f.text("position_embedding_type", "absolute") != "absolute")
        return fail(Code::E_UNSUPPORTED, "config.json: position_embedding_type \"{}\" is not built; there is absolute",
                    f.text("position_embedding_type", ""));
    for (const char* key : {"is_decoder", "add_cross_attention"})
        if (f.boolean(key, false)) return fail(Code::E_UNSUPPORTED, "config.json: {}: decoders of the bert family are not built", key);
    DS_CHECK(f.status());
    if (m->heads == 0 || m->width % m->heads)
        return fail(Code::E_CONFIG, "config.json: hidden_size {} is not a multiple of num_attention_heads {}", m->width, m->heads);
    if (task == Task::sequence_classification) DS_CHECK(read_row_loss(*m, f));
    m->names.base_prefix = "bert.";
    if (task == Task::masked_lm && m->tied) {
        m->names.others["bert.embeddings.word_embeddings.weight"] = {"cls.predictions.decoder.weight"};
        m->names.others["cls.predictions.bias"] = {"cls.predictions.decoder.bias"};
    }
    m->outputs = {"last_hidden_state"};
    if (m->pools()) m->outputs.push_back("pooler_output");
    if (task == Task::question_answering) m->outputs.insert(m->outputs.begin(), {"start_logits", "end_logits"});
    else if (task != Task::none) m->outputs.insert(m->outputs.begin(), "logits");
    m->token_outputs = {"last_hidden_state"};
    if (task == Task::masked_lm || task == Task::token_classification) m->token_outputs.push_back("logits");
    return std::unique_ptr<Model>(std::move(m));
}

}  // namespace ds::models
