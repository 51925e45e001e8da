// BERT (Devlin et al. 2018, arXiv 1810.04805), as transformers' BertModel and its heads for masked language modelling, classification of
// sequences and tokens, and question answering.
#include "models/encoder.h"

namespace ds::models {
namespace {

struct Bert : Encoder {
    Bert()
        : Encoder(bert_names("bert", "cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions",
                             "cls.predictions.decoder")) {}

    ValueId row_logits(Blocks& m, TokenStream& s, ValueId first) const override {
        return m.linear(s.dropout(first, head_dropout), Scope{"classifier"}, labels);
    }
};

}  // namespace

Result<std::unique_ptr<Model>> bert(const Json& config, Task task) {
    auto m = std::make_unique<Bert>();
    Fields f(config);
    DS_CHECK(read_bert(*m, f, 30522));
    read_padding(*m, f, 0);
    m->pools = task == Task::none || task == Task::sequence_classification;
    DS_CHECK(finish_encoder(*m, f, task, "hidden_act", "hidden_size", "num_attention_heads"));
    return std::unique_ptr<Model>(std::move(m));
}

}  // namespace ds::models
