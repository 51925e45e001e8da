// Layers of long short-term memory over embedded words, and a linear head on what the last layer knows at the end of a text (read backwards
// too: at its beginning). transformers has no such family; config.json has model_type "lstm", vocab_size, embedding_size, hidden_size,
// num_layers, bidirectional, dropout, num_labels, pad_token_id, and parameters have torch's names of nn.Embedding, nn.LSTM and nn.Linear:
// embedding, lstm, classifier.
#include <cmath>

#include "models/blocks.h"

namespace ds::models {
namespace {

struct LstmText : Model {
    int64_t embedding = 128, width = 128, layers = 1;
    double dropout = 0;
    bool both_ways = true;

    void build(Builder& b, TokenStream& s) const override {
        if (s.shape().embedded)
            return b.fail_with(fail(Code::E_UNSUPPORTED, "graph: model: lstm can't be part of a graph; the op lstm can"));
        Blocks m(b, 1);
        const ValueId table = m.weight(Scope{"embedding"}, "weight", {vocabulary, embedding});
        ValueId x = s.dropout(m.words(table, s.ids(), pad_id), dropout), ahead = kNone, back = kNone;
        for (int64_t i = 0; i < layers; ++i) {
            if (i > 0) x = s.dropout(x, dropout);
            const std::string suffix = "_l" + std::to_string(i);
            ahead = layer(m, s, x, suffix, false);
            back = both_ways ? layer(m, s, x, suffix + "_reverse", true) : kNone;
            x = m.boundary(both_ways ? b.call("concat", {ahead, back}, Axis{-1}) : ahead);
        }
        s.output("last_hidden_state", x);
        if (task == Task::none) return;
        ValueId end = s.last_of_rows(ahead);
        if (both_ways) end = b.call("concat", {end, s.first_of_rows(back)}, Axis{-1});
        const Scope head{"classifier"};
        const double bound = 1 / std::sqrt(static_cast<double>(m.width(end)));
        const ValueId weight = b.param(head.name("weight"), {labels, m.width(end)}, {Init::Type::uniform, bound}),
                      bias = b.param(head.name("bias"), {labels}, {Init::Type::uniform, bound});
        s.classify_rows(m.head(s.dropout(end, dropout), weight, bias));
    }

    ValueId layer(Blocks& m, TokenStream& s, ValueId x, const std::string& suffix, bool reverse) const {
        Builder& b = m.b;
        const Scope w{"lstm"};
        const Init init{Init::Type::uniform, 1 / std::sqrt(static_cast<double>(width))};
        const auto weight = [&](const char* name, int64_t columns) { return b.param(w.name(name + suffix), {4 * width, columns}, init); };
        const ValueId bias =
            b.add(b.param(w.name("bias_ih" + suffix), {4 * width}, init), b.param(w.name("bias_hh" + suffix), {4 * width}, init));
        const ValueId gates = b.call("matmul", {x, weight("weight_ih", m.width(x)), bias}, Matmul{.transpose_b = true});
        return b.call("lstm", {gates, weight("weight_hh", width), s.segments()}, Lstm{reverse});
    }
};

}  // namespace

Result<std::unique_ptr<Model>> lstm(const Json& config, Task task) {
    auto m = std::make_unique<LstmText>();
    Fields f(config);
    if (task != Task::none && task != Task::sequence_classification)
        return fail(Code::E_UNSUPPORTED, "config.json: lstm has no {} head here; there are *ForSequenceClassification and *Model",
                    name_of(task));
    m->vocabulary = f.integer("vocab_size");
    m->width = f.integer("hidden_size", 128);
    m->embedding = f.integer("embedding_size", m->width);
    m->layers = f.integer("num_layers", 1);
    m->both_ways = f.boolean("bidirectional", true);
    m->dropout = f.number("dropout", 0.0);
    m->labels = read_labels(f);
    read_padding(*m, f);
    DS_CHECK(f.status());
    if (m->width < 1 || m->embedding < 1 || m->layers < 1)
        return fail(Code::E_CONFIG, "config.json: hidden_size {}, embedding_size {} and num_layers {} must be positive", m->width,
                    m->embedding, m->layers);
    m->reads_ends = m->one_piece = true;
    m->outputs = {"last_hidden_state"};
    m->token_outputs = {"last_hidden_state"};
    if (task != Task::none) {
        DS_CHECK(read_row_loss(*m, f));
        m->outputs.insert(m->outputs.begin(), "logits");
    }
    return std::unique_ptr<Model>(std::move(m));
}

}  // namespace ds::models
