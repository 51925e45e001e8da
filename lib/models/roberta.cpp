// RoBERTa (Liu et al. 2019, arXiv 1907.11692) and what was trained like it, XLM-RoBERTa and CamemBERT, as transformers' *Model and its
// heads for masked language modelling, classification of sequences and tokens, and question answering. BERT's layers; positions count the
// tokens that are no padding, from pad_token_id + 1 on.
#include "models/encoder.h"

namespace ds::models {
namespace {

struct Roberta : Encoder {
    Roberta() : Encoder(bert_names("roberta", "lm_head.dense", "lm_head.layer_norm", "lm_head", "lm_head.decoder")) {}

    ValueId row_logits(Blocks& m, TokenStream& s, ValueId first) const override {
        const Scope head{"classifier"};
        const ValueId h = m.b.call("tanh", {m.linear(s.dropout(first, head_dropout), head("dense"), width)});
        return m.linear(s.dropout(h, head_dropout), head("out_proj"), labels);
    }
};

}  // namespace

Result<std::unique_ptr<Model>> roberta(const Json& config, Task task) {
    auto m = std::make_unique<Roberta>();
    Fields f(config);
    const bool first = f.text("model_type", "roberta") == "roberta";
    DS_CHECK(read_bert(*m, f, first ? 50265 : 30522));
    m->pad_id = f.integer("pad_token_id", 1);
    m->positions_skip = Model::Skipped::pad_ids;
    m->position_offset = *m->pad_id + 1;
    if (*m->pad_id >= m->vocabulary || m->position_offset >= m->position_rows)
        return fail(
            Code::E_CONFIG,
            "config.json: pad_token_id {} must be less than vocab_size {} and max_position_embeddings - 1, {}: positions count on from it",
            *m->pad_id, m->vocabulary, m->position_rows - 1);
    m->pools = task == Task::none;
    DS_TRY(m->word_activation, activation_named("gelu", "hidden_act"));
    DS_CHECK(finish_encoder(*m, f, task, "hidden_act", "hidden_size", "num_attention_heads"));
    return std::unique_ptr<Model>(std::move(m));
}

}  // namespace ds::models
