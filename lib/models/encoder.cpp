#include "models/encoder.h"

namespace ds::models {

void Encoder::build(Builder& b, TokenStream& s) const {
    Blocks m(b, range);
    const Scope root{task == Task::none ? "" : tensors.root}, e = root("embeddings");
    const ValueId words = m.weight(e("word_embeddings"), "weight", {vocabulary, width});
    ValueId x = m.words(words, s.ids(), pad_id);
    if (token_types) x = b.add(x, m.embedding(s.types(), e("token_type_embeddings"), token_types, width));
    const ValueId places = m.weight(e("position_embeddings"), "weight", {position_rows, width});
    if (sinusoids && places != kNone) b.graph().value(places).init = {Init::Type::sinusoid, 10000};
    x = b.add(x, m.words(places, s.positions(), positions_skip == Skipped::pad_ids ? pad_id : std::nullopt));
    x = m.boundary(s.dropout(m.layernorm(x, e("LayerNorm"), eps), dropout));
    for (int64_t i = 0; i < layers; ++i) x = m.boundary(layer(m, s, x, root(tensors.layers)(std::to_string(i))));
    s.output("last_hidden_state", x);
    ValueId first = pools || task == Task::sequence_classification ? s.first_of_rows(x) : kNone;
    if (pools) s.output("pooler_output", first = b.call("tanh", {m.linear(first, root("pooler.dense"), width)}));
    if (task == Task::sequence_classification) s.classify_rows(row_logits(m, s, first));
    if (task == Task::masked_lm) s.classify_tokens(x, [&](ValueId rows) { return word_logits(m, rows, words); });
    if (task == Task::token_classification)
        s.classify_tokens(x, [&](ValueId rows) { return m.linear(s.dropout(rows, head_dropout), Scope{"classifier"}, labels); });
    if (task == Task::question_answering) answer_head(m, s, s.dropout(x, answer_dropout));
}

ValueId Encoder::layer(Blocks& m, TokenStream& s, ValueId x, const Scope& w) const {
    Builder& b = m.b;
    const EncoderNames& n = tensors;
    const ValueId q = m.linear(x, w(n.query), width), k = m.linear(x, w(n.key), width), v = m.linear(x, w(n.value), width);
    ValueId h = s.attention(q, k, v, {.heads = heads, .dropout = attention_dropout});
    x = m.layernorm(b.add(x, s.dropout(m.linear(h, w(n.attention_out), width), attention_out_dropout)), w(n.attention_norm), eps);
    h = activation(b, m.linear(x, w(n.inner), inner));
    return m.layernorm(b.add(x, s.dropout(m.linear(h, w(n.out), width), dropout)), w(n.out_norm), eps);
}

ValueId Encoder::word_logits(Blocks& m, ValueId x, ValueId words) const {
    const EncoderNames& n = tensors;
    const ValueId h = m.layernorm(word_activation(m.b, m.linear(x, Scope{n.word_dense}, width)), Scope{n.word_norm}, eps);
    ValueId bias = m.zeros(Scope{n.word_bias}, "bias", {vocabulary});
    // With a head of its own transformers 5 keeps the other bias too, and does not use it.
    if (!tied && n.word_bias != n.word_head) bias = m.zeros(Scope{n.word_head}, "bias", {vocabulary});
    return m.head(h, tied ? words : m.weight(Scope{n.word_head}, "weight", {vocabulary, width}), bias);
}

// The softmax runs over the positions of a row, masked ones included, as transformers has it.
void Encoder::answer_head(Blocks& m, TokenStream& s, ValueId x) const {
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

EncoderNames bert_names(std::string root, std::string word_dense, std::string word_norm, std::string word_bias, std::string word_head) {
    return {.root = std::move(root),
            .layers = "encoder.layer",
            .query = "attention.self.query",
            .key = "attention.self.key",
            .value = "attention.self.value",
            .attention_out = "attention.output.dense",
            .attention_norm = "attention.output.LayerNorm",
            .inner = "intermediate.dense",
            .out = "output.dense",
            .out_norm = "output.LayerNorm",
            .word_dense = std::move(word_dense),
            .word_norm = std::move(word_norm),
            .word_bias = std::move(word_bias),
            .word_head = std::move(word_head)};
}

Status read_bert(Encoder& m, Fields& f, int64_t vocabulary) {
    m.width = f.integer("hidden_size", 768);
    m.layers = f.integer("num_hidden_layers", 12);
    m.heads = f.integer("num_attention_heads", 12);
    m.inner = f.integer("intermediate_size", 3072);
    m.vocabulary = f.integer("vocab_size", vocabulary);
    m.position_rows = f.integer("max_position_embeddings", 512);
    m.token_types = f.integer("type_vocab_size", 2);
    m.eps = f.number("layer_norm_eps", 1e-12);
    m.dropout = m.attention_out_dropout = f.number("hidden_dropout_prob", 0.1);
    m.attention_dropout = f.number("attention_probs_dropout_prob", 0.1);
    m.head_dropout = f.number("classifier_dropout", m.dropout);
    if (f.text("position_embedding_type", "absolute") != "absolute")
        return fail(Code::E_UNSUPPORTED, "config.json: position_embedding_type \"{}\" is not built; there is absolute",
                    f.text("position_embedding_type", ""));
    for (const char* key : {"is_decoder", "add_cross_attention"})
        if (f.boolean(key, false)) return fail(Code::E_UNSUPPORTED, "config.json: {}: decoders of the bert family are not built", key);
    return ok();
}

Status finish_encoder(Encoder& m, Fields& f, Task task, const char* hidden_act, const char* width, const char* heads) {
    if (task == Task::causal_lm) return fail(Code::E_UNSUPPORTED, "config.json: {} has no causal head here", f.text("model_type", ""));
    m.range = f.number("initializer_range", 0.02);
    m.tied = f.boolean("tie_word_embeddings", true);
    m.labels = read_labels(f);
    m.max_positions = m.position_rows - m.position_offset;
    DS_TRY(m.activation, activation_named(f.text(hidden_act, "gelu"), hidden_act));
    if (m.word_activation.op.empty()) m.word_activation = m.activation;
    DS_CHECK(f.status());
    DS_CHECK(check_heads(m.width, m.heads, width, heads));
    if (task == Task::sequence_classification) DS_CHECK(read_row_loss(m, f));
    const EncoderNames& n = m.tensors;
    m.names.base_prefix = n.root + ".";
    if (task == Task::masked_lm && m.tied) {
        m.names.others[n.root + ".embeddings.word_embeddings.weight"] = {n.word_head + ".weight"};
        if (n.word_bias != n.word_head) m.names.others[n.word_bias + ".bias"] = {n.word_head + ".bias"};
    }
    m.outputs = {"last_hidden_state"};
    if (m.pools) m.outputs.push_back("pooler_output");
    if (task == Task::question_answering) m.outputs.insert(m.outputs.begin(), {"start_logits", "end_logits"});
    else if (task != Task::none) m.outputs.insert(m.outputs.begin(), "logits");
    m.token_outputs = {"last_hidden_state"};
    if (task == Task::masked_lm || task == Task::token_classification) m.token_outputs.push_back("logits");
    return ok();
}

}  // namespace ds::models
