// DistilBERT (Sanh et al. 2019, arXiv 1910.01108), as transformers' DistilBertModel and its heads for masked language modelling,
// classification of sequences and tokens, and question answering: BERT's layers, without types of tokens and without a pooler.
#include "models/encoder.h"

namespace ds::models {
namespace {

struct DistilBert : Encoder {
    DistilBert()
        : Encoder({.root = "distilbert",
                   .layers = "transformer.layer",
                   .query = "attention.q_lin",
                   .key = "attention.k_lin",
                   .value = "attention.v_lin",
                   .attention_out = "attention.out_lin",
                   .attention_norm = "sa_layer_norm",
                   .inner = "ffn.lin1",
                   .out = "ffn.lin2",
                   .out_norm = "output_layer_norm",
                   .word_dense = "vocab_transform",
                   .word_norm = "vocab_layer_norm",
                   .word_bias = "vocab_projector",
                   .word_head = "vocab_projector"}) {}

    ValueId row_logits(Blocks& m, TokenStream& s, ValueId first) const override {
        const ValueId h = m.b.call("relu", {m.linear(first, Scope{"pre_classifier"}, width)});
        return m.linear(s.dropout(h, head_dropout), Scope{"classifier"}, labels);
    }
};

}  // namespace

Result<std::unique_ptr<Model>> distilbert(const Json& config, Task task) {
    auto m = std::make_unique<DistilBert>();
    Fields f(config);
    m->width = f.integer("dim", 768);
    m->layers = f.integer("n_layers", 6);
    m->heads = f.integer("n_heads", 12);
    m->inner = f.integer("hidden_dim", 3072);
    m->vocabulary = f.integer("vocab_size", 30522);
    m->position_rows = f.integer("max_position_embeddings", 512);
    m->dropout = f.number("dropout", 0.1);
    m->attention_dropout = f.number("attention_dropout", 0.1);
    m->attention_out_dropout = 0;
    m->head_dropout = task == Task::sequence_classification ? f.number("seq_classif_dropout", 0.2) : m->dropout;
    m->answer_dropout = f.number("qa_dropout", 0.1);
    m->sinusoids = f.boolean("sinusoidal_pos_embds", false);
    read_padding(*m, f, 0);
    DS_CHECK(finish_encoder(*m, f, task, "activation", "dim", "n_heads"));
    return std::unique_ptr<Model>(std::move(m));
}

}  // namespace ds::models
