#include "models/model.h"

#include <algorithm>

namespace ds {

#define DS_MODEL(type, family)                                            \
    namespace models {                                                    \
    Result<std::unique_ptr<Model>> family(const Json& config, Task task); \
    }
#include "models/models.def"
#undef DS_MODEL

namespace {

constexpr std::pair<std::string_view, Task> kHeads[] = {
    {"ForCausalLM", Task::causal_lm},
    {"LMHeadModel", Task::causal_lm},
    {"ForMaskedLM", Task::masked_lm},
    {"ForPreTraining", Task::masked_lm},
    {"ForSequenceClassification", Task::sequence_classification},
    {"ForTokenClassification", Task::token_classification},
    {"ForQuestionAnswering", Task::question_answering},
    {"ForConditionalGeneration", Task::seq2seq_lm},
    {"MTModel", Task::seq2seq_lm},
    {"Model", Task::none},
};
constexpr std::string_view kDoubleHeads = "DoubleHeadsModel";  // ends as a body does, and is none

Result<Task> task_of(const Json& config) {
    const auto found = config.find("architectures");
    if (found == config.end() || found->is_null() || found->empty()) return Task::none;
    if (!found->is_array() || !found->front().is_string())
        return fail(Code::E_CONFIG, "config.json: architectures must be a list of names, not {}", found->dump());
    const std::string name = found->front().get<std::string>();
    for (const auto& [suffix, task] : kHeads)
        if (name.ends_with(suffix) && !name.ends_with(kDoubleHeads)) return task;
    return fail(
        Code::E_UNSUPPORTED,
        "config.json: architectures: {}: this head is not built; there are *ForCausalLM, *LMHeadModel, *ForMaskedLM, "
        "*ForSequenceClassification, *ForTokenClassification, *ForQuestionAnswering, *ForConditionalGeneration, *MTModel and *Model",
        name);
}

}  // namespace

std::string_view name_of(Task task) {
    constexpr std::string_view names[] = {
        "", "causal", "mlm", "sequence_classification", "token_classification", "question_answering", "seq2seq"};
    return names[static_cast<int>(task)];
}

void TokenStream::classify_tokens(ValueId hidden, const std::function<ValueId(ValueId)>& logits_of) {
    if (wants("logits")) {
        const ValueId logits = logits_of(hidden);
        output("logits", logits);
        if (shape_.labels) b_.graph().loss = b_.call("cross_entropy", {labelled(logits), labels()}, {}, "loss");
    } else if (shape_.labels) {
        b_.graph().loss = b_.call("cross_entropy", {logits_of(labelled(hidden)), labels()}, {}, "loss");
    }
}

void TokenStream::classify_rows(ValueId logits) {
    output("logits", logits);
    if (!shape_.labels || logits == kNone) return;
    if (shape_.row_loss == RowLoss::cross_entropy) {
        b_.graph().loss = b_.call("cross_entropy", {logits, row_labels()}, {}, "loss");
        return;
    }
    const ValueId values = input("row_values", b_.type(logits).shape, DType::f32);
    if (shape_.row_loss == RowLoss::binary_cross_entropy) {
        b_.graph().loss = b_.call("binary_cross_entropy", {logits, values}, {}, "loss");
        return;
    }
    const ValueId error = b_.sub(logits, values);
    b_.graph().loss = b_.call("mean", {b_.mul(error, error)}, {}, "loss");
}

ValueId TokenStream::dropout(ValueId x, double p) {
    if (p <= 0 || x == kNone) return x;
    const Shape& shape = b_.type(x).shape;
    ValueId where = kNone;
    if (!shape_.embedded) where = b_.places_of(x);
    else if (elements(shape) == shape_.tokens * shape.back()) where = places();
    return b_.call("dropout", {x, where}, Dropout{p, next_salt()});
}

ValueId TokenStream::first_of_rows(ValueId x) {
    if (!shape_.embedded) return b_.call("embedding", {x, input("first", {shape_.rows})}, Embedding{.inside = true}, "first");
    const int64_t width = x == kNone ? 0 : b_.type(x).shape.back();
    const ValueId rows = b_.reshape(x, {shape_.rows, shape_.length, width});
    return b_.reshape(b_.call("slice", {rows}, Slice{1, 0, 1}), {shape_.rows, width});
}

ValueId TokenStream::last_of_rows(ValueId x) {
    return b_.call("embedding", {x, input("last", {shape_.rows})}, Embedding{.inside = true}, "last");
}

ValueId TokenStream::attention(ValueId q, ValueId k, ValueId v, Attention attrs, ValueId bias) {
    if (attrs.dropout > 0) attrs.salt = next_salt();
    if (!shape_.embedded) {
        const bool by_place = attrs.window > 0 || attrs.dropout > 0 || bias != kNone;
        return b_.call("attention", {q, k, v, segments(), by_place ? places() : kNone, key_mask(), kNone, kNone, kNone, bias}, attrs);
    }
    const auto by_rows = [&](ValueId x) {
        return x == kNone ? kNone : b_.reshape(x, {shape_.rows, shape_.length, b_.type(x).shape.back()});
    };
    const ValueId y =
        b_.call("attention", {by_rows(q), by_rows(k), by_rows(v), kNone, kNone, key_mask(), kNone, kNone, kNone, bias}, attrs);
    return y == kNone ? y : b_.reshape(y, {shape_.tokens, b_.type(y).shape.back()});
}

TokenStream& TokenStream::source() {
    if (!source_) {
        source_ = std::make_unique<TokenStream>(
            b_, StreamShape{.tokens = shape_.source_tokens, .rows = shape_.rows, .masked = shape_.source_masked}, outputs_);
        source_->of_ = this;
    }
    return *source_;
}

ValueId TokenStream::cross_attention(ValueId q, ValueId k, ValueId v, Attention attrs) {
    if (attrs.dropout > 0) attrs.salt = next_salt();
    const bool by_place = attrs.dropout > 0;
    return b_.call(
        "attention",
        {q, k, v, segments(), by_place ? places() : kNone, source().key_mask(), source().segments(), by_place ? source().places() : kNone},
        attrs);
}

int64_t Fields::integer(const char* key, std::optional<int64_t> otherwise) {
    const auto found = config_.find(key);
    if ((found == config_.end() || found->is_null()) && otherwise) return *otherwise;
    if (found == config_.end() || !found->is_number_integer() || found->get<int64_t>() < 0 || found->get<int64_t>() > INT32_MAX) {
        refuse(fail(Code::E_CONFIG, "config.json: {} must be a non-negative integer, not {}", key,
                    found == config_.end() ? "absent" : found->dump()));
        return 1;
    }
    return found->get<int64_t>();
}

double Fields::number(const char* key, std::optional<double> otherwise) {
    const auto found = config_.find(key);
    if ((found == config_.end() || found->is_null()) && otherwise) return *otherwise;
    if (found == config_.end() || !found->is_number()) {
        refuse(fail(Code::E_CONFIG, "config.json: {} must be a number, not {}", key, found == config_.end() ? "absent" : found->dump()));
        return 0;
    }
    return found->get<double>();
}

bool Fields::boolean(const char* key, bool otherwise) {
    const auto found = config_.find(key);
    if (found == config_.end() || found->is_null()) return otherwise;
    if (!found->is_boolean()) refuse(fail(Code::E_CONFIG, "config.json: {} must be true or false, not {}", key, found->dump()));
    return found->is_boolean() && found->get<bool>();
}

std::string Fields::text(const char* key, const std::string& otherwise) {
    const auto found = config_.find(key);
    if (found == config_.end() || found->is_null()) return otherwise;
    if (!found->is_string()) {
        refuse(fail(Code::E_CONFIG, "config.json: {} must be a string, not {}", key, found->dump()));
        return otherwise;
    }
    return found->get<std::string>();
}

Result<std::unique_ptr<Model>> make_model(const Json& config) {
    if (!config.is_object()) return fail(Code::E_CONFIG, "config.json: must be an object");
    const std::string type = config.value("model_type", Json("")).is_string() ? config.value("model_type", std::string()) : "";
    DS_TRY(const Task task, task_of(config));
    std::string known;
#define DS_MODEL(model_type, builder)                                \
    known += (known.empty() ? "" : ", ") + std::string(#model_type); \
    if (type == #model_type) {                                       \
        DS_TRY(auto model, models::builder(config, task));           \
        model->task = model->always_causal ? Task::causal_lm : task; \
        model->family = type;                                        \
        model->config = config;                                      \
        return model;                                                \
    }
#include "models/models.def"
#undef DS_MODEL
    return fail(Code::E_UNSUPPORTED, "config.json: model_type \"{}\" is not built; there are: {}", type, known);
}

}  // namespace ds
