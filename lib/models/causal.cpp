#include "models/causal.h"

#include <algorithm>

namespace ds::models {

void CausalModel::head(Blocks& m, TokenStream& s, ValueId x, const std::function<ValueId(ValueId)>& words) const {
    s.output("last_hidden_state", x);
    if (task == Task::causal_lm) s.classify_tokens(x, words);
    if (task == Task::token_classification)
        s.classify_tokens(x, [&](ValueId tokens) { return m.linear(s.dropout(tokens, token_dropout), Scope{token_head}, labels); });
    if (task != Task::sequence_classification) return;
    if (s.shape().embedded)
        return m.b.fail_with(fail(Code::E_UNSUPPORTED,
                                  "graph: model: {} with a head over rows can't be part of a graph, where their ends are unknown; its "
                                  "*Model can, and a head of the graph's own",
                                  family));
    s.classify_rows(m.linear(s.last_of_rows(x), Scope{"score"}, labels, false));
}

Status finish_causal(CausalModel& m, Fields& f, Task task, const std::string& root, const std::string& words, const std::string& words_head,
                     bool tied) {
    constexpr Task heads[] = {Task::none, Task::causal_lm, Task::sequence_classification, Task::token_classification};
    if (std::find(std::begin(heads), std::end(heads), task) == std::end(heads))
        return fail(
            Code::E_UNSUPPORTED,
            "config.json: {} has no {} head here; there are *ForCausalLM, *ForSequenceClassification, *ForTokenClassification and *Model",
            f.text("model_type", ""), name_of(task));
    m.labels = read_labels(f);
    m.token_dropout = f.number("classifier_dropout", m.token_dropout);
    if (task == Task::sequence_classification) DS_CHECK(read_row_loss(m, f));
    DS_CHECK(f.status());
    m.names.base_prefix = root.empty() ? "" : root + ".";
    if (tied && task == Task::causal_lm) m.names.others[m.names.base_prefix + words + ".weight"] = {words_head + ".weight"};
    m.reads_last = task == Task::sequence_classification;
    m.splits_rows = !m.reads_last;
    m.outputs = {"last_hidden_state"};
    if (task != Task::none) m.outputs.insert(m.outputs.begin(), "logits");
    m.token_outputs = m.outputs;
    if (m.reads_last) m.token_outputs = {"last_hidden_state"};
    return ok();
}

}  // namespace ds::models
