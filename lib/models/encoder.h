// Encoders of BERT's kind: layers that see the whole row and normalise after each sublayer, and heads for masked words, rows, tokens and
// answers. A family says what its tensors are called and how its own heads are made.
#pragma once

#include "models/blocks.h"

namespace ds::models {

struct EncoderNames {
    std::string root, layers, query, key, value, attention_out, attention_norm, inner, out, out_norm;
    std::string word_dense, word_norm, word_bias, word_head;  // the head of words; word_bias: whose bias a tied head has
};

struct Encoder : Model {
    explicit Encoder(EncoderNames names_of_tensors) : tensors(std::move(names_of_tensors)) {}
    void build(Builder& b, TokenStream& s) const override;

    // The head of rows. first: each row's first token, or what the pooler makes of it.
    virtual ValueId row_logits(Blocks& m, TokenStream& s, ValueId first) const = 0;

    const EncoderNames tensors;
    int64_t width = 768, layers = 12, heads = 12, inner = 3072, position_rows = 512;
    double eps = 1e-12, range = 0.02;
    double dropout = 0.1, attention_dropout = 0.1, attention_out_dropout = 0.1, head_dropout = 0.1, answer_dropout = 0;
    bool sinusoids = false;  // the table of positions begins as sines and cosines
    bool pools = false;      // the first token goes through a layer of its own
    bool tied = true;        // the head of words with their table
    Activation activation, word_activation;

private:
    ValueId layer(Blocks& m, TokenStream& s, ValueId x, const Scope& w) const;
    ValueId word_logits(Blocks& m, ValueId x, ValueId words) const;
    void answer_head(Blocks& m, TokenStream& s, ValueId x) const;
};

// BERT's names, which RoBERTa has, too, but for the root's and those of the head of words.
EncoderNames bert_names(std::string root, std::string word_dense, std::string word_norm, std::string word_bias, std::string word_head);
// The fields that BERT and RoBERTa share.
Status read_bert(Encoder& m, Fields& f, int64_t vocabulary);
// What every family reads, checks and gives, once the fields are read that it calls by names of its own. hidden_act, width, heads: names of
// fields.
Status finish_encoder(Encoder& m, Fields& f, Task task, const char* hidden_act, const char* width, const char* heads);

}  // namespace ds::models
