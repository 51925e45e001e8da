// Pieces of transformers that the families share. Parameter names are those transformers saves.
#pragma once

#include <numeric>

#include "models/model.h"

namespace ds::models {

// A prefix of parameter names: w("mlp") / "c_fc" is "...mlp.c_fc".
struct Scope {
    std::string prefix;
    Scope operator()(const std::string& name) const { return {prefix.empty() ? name : prefix + "." + name}; }
    std::string name(const std::string& leaf) const { return prefix.empty() ? leaf : prefix + "." + leaf; }
};

class Blocks {
public:
    Blocks(Builder& builder, double initializer_range) : b(builder), std_(initializer_range) {}

    // share: of the standard deviation that the model's weights begin with.
    ValueId weight(const Scope& w, const std::string& leaf, Shape shape, double share = 1) {
        return b.param(w.name(leaf), std::move(shape), {Init::Type::normal, std_ * share});
    }
    ValueId zeros(const Scope& w, const std::string& leaf, Shape shape) {
        return b.param(w.name(leaf), std::move(shape), {Init::Type::zeros});
    }
    ValueId ones(const Scope& w, const std::string& leaf, Shape shape) {
        return b.param(w.name(leaf), std::move(shape), {Init::Type::ones});
    }

    // torch's Linear: weight [out, in].
    ValueId linear(ValueId x, const Scope& w, int64_t out, bool bias = true) {
        const ValueId weight_id = weight(w, "weight", {out, width(x)});
        return b.call("matmul", {x, weight_id, bias ? zeros(w, "bias", {out}) : kNone}, Matmul{.transpose_b = true}, w.prefix);
    }
    // Several of them whose weights are one, one after the other.
    std::vector<ValueId> linears(ValueId x, const Scope& w, std::vector<int64_t> outs, bool bias) {
        const int64_t all = std::accumulate(outs.begin(), outs.end(), int64_t{0});
        return b.call_all("split", {linear(x, w, all, bias)}, Split{-1, std::move(outs)});
    }
    // GPT-2's Conv1D: weight [in, out].
    ValueId conv1d(ValueId x, const Scope& w, int64_t out, double share = 1) {
        const ValueId weight_id = weight(w, "weight", {width(x), out}, share);
        return b.call("matmul", {x, weight_id, zeros(w, "bias", {out})}, Matmul{}, w.prefix);
    }
    ValueId layernorm(ValueId x, const Scope& w, double eps) {
        return b.call("layernorm", {x, ones(w, "weight", {width(x)}), zeros(w, "bias", {width(x)})}, Norm{.eps = eps}, w.prefix);
    }
    ValueId rmsnorm(ValueId x, const Scope& w, double eps) {
        return b.call("rmsnorm", {x, ones(w, "weight", {width(x)})}, Norm{.eps = eps}, w.prefix);
    }
    ValueId embedding(ValueId ids, const Scope& w, int64_t rows, int64_t features) {
        return b.call("embedding", {weight(w, "weight", {rows, features}), ids}, {}, w.prefix);
    }
    // Logits over a vocabulary whose rows are `table`'s.
    ValueId head(ValueId x, ValueId table, ValueId bias = kNone) {
        return b.call("matmul", {x, table, bias}, Matmul{.transpose_b = true}, "logits");
    }
    // A vocabulary's rows. padding: the row that torch begins with zeros and keeps (nn.Embedding's padding_idx).
    ValueId words(ValueId table, ValueId ids, std::optional<int64_t> padding) {
        if (padding && table != kNone) b.graph().value(table).init.zero_row = *padding;
        return b.call("embedding", {table, ids}, Embedding{.padding = padding.value_or(-1)});
    }
    ValueId boundary(ValueId x) {
        if (x != kNone) b.graph().value(x).boundary = 1;
        return x;
    }
    int64_t width(ValueId x) const { return x == kNone || b.type(x).shape.empty() ? 0 : b.type(x).shape.back(); }

    Builder& b;

private:
    double std_;
};

// The activation functions of transformers' ACT2FN that the families use: op(slope x) / slope, perhaps squared.
struct Activation {
    std::string op;
    Attrs attrs;
    double slope = 1;
    bool squared = false;
    ValueId operator()(Builder& b, ValueId x) const {
        ValueId y = b.call(op, {slope == 1 ? x : b.scale(x, slope)}, attrs);
        if (slope != 1) y = b.scale(y, 1 / slope);
        return squared ? b.mul(y, y) : y;
    }
};
// down(activation(gate(x)) * up(x)).
inline ValueId gated_mlp(Blocks& m, ValueId x, const Activation& activation, const Scope& w, int64_t inner, bool bias) {
    const ValueId gate = activation(m.b, m.linear(x, w("gate_proj"), inner, bias)), up = m.linear(x, w("up_proj"), inner, bias);
    return m.linear(m.b.mul(gate, up), w("down_proj"), m.width(x), bias);
}
inline Result<Activation> activation_named(const std::string& name, const char* key) {
    const Activation gelu{"gelu", Gelu{false}}, gelu_tanh{"gelu", Gelu{true}}, silu{"silu", {}};
    const std::vector<std::pair<std::string_view, Activation>> known = {
        {"gelu", gelu},
        {"gelu_python", gelu},
        {"gelu_new", gelu_tanh},
        {"gelu_pytorch_tanh", gelu_tanh},
        {"gelu_fast", gelu_tanh},
        {"gelu_accurate", gelu_tanh},
        {"gelu_python_tanh", gelu_tanh},
        {"quick_gelu", {"silu", {}, 1.702}},
        {"silu", silu},
        {"swish", silu},
        {"relu", {"relu", {}}},
        {"relu2", {"relu", {}, 1, true}},
        {"tanh", {"tanh", {}}},
    };
    std::vector<std::string_view> names;
    for (const auto& [other, activation] : known) {
        if (other == name) return activation;
        names.push_back(other);
    }
    return fail(Code::E_UNSUPPORTED, "config.json: {}: \"{}\" is not built; there are {}", key, name, fmt::join(names, ", "));
}

// Checks that several families make.
inline int64_t read_labels(Fields& f) {
    return f.integer("num_labels", f.has("id2label") ? static_cast<int64_t>(f.json()["id2label"].size()) : 2);
}
inline Status read_row_loss(Model& m, Fields& f) {  // as transformers decides
    const std::string problem = f.text("problem_type", m.labels == 1 ? "regression" : "");
    if (problem == "single_label_classification") m.row_loss = RowLoss::cross_entropy;
    else if (problem == "multi_label_classification") m.row_loss = RowLoss::binary_cross_entropy;
    else if (problem == "regression") m.row_loss = RowLoss::squared_error;
    else if (!problem.empty())
        return fail(Code::E_CONFIG,
                    "config.json: problem_type must be single_label_classification, multi_label_classification or regression, not \"{}\"",
                    problem);
    return ok();
}
// otherwise: where the field is absent; null is none, as is the negative id of some folders.
inline void read_padding(Model& m, Fields& f, std::optional<int64_t> otherwise = {}) {
    if (!f.json().contains("pad_token_id")) m.pad_id = otherwise;
    else if (const Json& id = f.json()["pad_token_id"]; id.is_number_integer()) m.pad_id = id.get<int64_t>();
    if (m.pad_id && (*m.pad_id < 0 || *m.pad_id >= m.vocabulary)) m.pad_id.reset();
}
inline Status check_heads(int64_t width, int64_t heads, const char* width_key, const char* heads_key) {
    return heads > 0 && width % heads == 0
               ? ok()
               : fail(Code::E_CONFIG, "config.json: {} {} is not a multiple of {} {}", width_key, width, heads_key, heads);
}
inline Status only_seq2seq(Fields& f, const Json& config, Task task) {
    const std::string type = f.text("model_type", "");
    const Json name = config.value("architectures", Json::array());
    if (name.is_array() && !name.empty() && name[0].is_string() && name[0].get<std::string>().ends_with("EncoderModel"))
        return fail(Code::E_UNSUPPORTED,
                    "config.json: architectures: {}: an encoder alone is not built; there are *ForConditionalGeneration and *Model",
                    name[0].get<std::string>());
    if (task == Task::none || task == Task::seq2seq_lm) return ok();
    return fail(Code::E_UNSUPPORTED, "config.json: {} has no {} head here; there are *ForConditionalGeneration and *Model", type,
                name_of(task));
}
inline void read_special_ids(Model& m, Fields& f) {
    // null is none, absent what the family begins with.
    const auto read = [&](const char* key, std::optional<int64_t>& id) {
        if (!f.json().contains(key)) return;
        id = f.has(key) ? std::optional(f.integer(key)) : std::nullopt;
    };
    read("pad_token_id", m.pad_id);
    read("decoder_start_token_id", m.decoder_start_id);
}
inline void seq2seq_outputs(Model& m, Task task) {
    m.encoder_decoder = m.one_piece = true;
    m.token_outputs = {"last_hidden_state"};
    if (task == Task::seq2seq_lm) m.token_outputs.insert(m.token_outputs.begin(), "logits");
    m.source_outputs = {"encoder_last_hidden_state"};
    m.outputs = m.token_outputs;
    m.outputs.push_back("encoder_last_hidden_state");
}

}  // namespace ds::models
