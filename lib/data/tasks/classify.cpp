// Rows as inputs alone, and rows with a label: a class, a value (one label), several values (regression), or several classes at once.
#include "data/tasks/task.h"

namespace ds {
namespace {

class Inputs : public DataTask {
public:
    explicit Inputs(const TaskSetup& setup) : input_(setup) {}
    Target target() const override { return Target::none; }
    bool emits_types() const override { return input_.has_pair(); }
    Status check(const Record& record) const override { return input_.check(record); }
    Result<Sample> sample(const Record& record, int64_t) const override { return input_.encode(record); }

private:
    TextInput input_;
};

class Classification : public Inputs {
public:
    Classification(const TaskSetup& setup, std::optional<LabelRule> rule, size_t column, bool several)
        : Inputs(setup), rule_(std::move(rule)), column_(column), several_(several), numbers_(setup.problem == "regression") {}

    Target target() const override {
        if (!rule_) return Target::none;
        return several_ ? Target::values : rule_->is_number() ? Target::value : Target::label;
    }
    LabelRule* label_rule() override { return rule_ ? &*rule_ : nullptr; }

    Status check(const Record& record) const override {
        DS_CHECK(Inputs::check(record));
        Sample sample;
        return add_label(record, sample);
    }
    Result<Sample> sample(const Record& record, int64_t part) const override {
        DS_TRY(Sample sample, Inputs::sample(record, part));
        DS_CHECK(add_label(record, sample));
        return sample;
    }

private:
    Status add_label(const Record& record, Sample& sample) const {
        switch (target()) {
        case Target::label: {
            DS_TRY(sample.label, rule_->class_of(record[column_]));
            return ok();
        }
        case Target::value: {
            DS_TRY(const float value, rule_->number_of(record[column_]));
            sample.values = {value};
            return ok();
        }
        case Target::values: {
            DS_TRY(const std::vector<Cell> items, rule_->items(record[column_]));
            if (numbers_) return add_numbers(items, sample);
            sample.values.assign(static_cast<size_t>(rule_->classes()), 0.0f);
            for (const Cell& item : items) {
                DS_TRY(const int64_t number, rule_->class_of(item));
                sample.values[static_cast<size_t>(number)] = 1.0f;
            }
            return ok();
        }
        default: return ok();
        }
    }

    Status add_numbers(const std::vector<Cell>& items, Sample& sample) const {
        if (static_cast<int64_t>(items.size()) != rule_->classes())
            return fail(Code::E_CORRUPT, "column labels: found {} numbers, the model has num_labels {}", items.size(), rule_->classes());
        for (const Cell& item : items) {
            DS_TRY(const float value, rule_->number_of(item));
            sample.values.push_back(value);
        }
        return ok();
    }

    std::optional<LabelRule> rule_;
    size_t column_;
    bool several_, numbers_;
};

}  // namespace

Result<std::unique_ptr<DataTask>> make_inputs(TaskSetup setup) { return std::unique_ptr<DataTask>(std::make_unique<Inputs>(setup)); }

Result<std::unique_ptr<DataTask>> make_sequence_classification(TaskSetup setup) {
    const std::optional<size_t> one = setup.columns.find("label"), several = setup.columns.find("labels");
    if (one && several) return fail(Code::E_CONFIG, "data: columns: label and labels exclude each other");
    if (one && setup.num_labels > 1 && (setup.problem == "regression" || setup.problem == "multi_label_classification"))
        return fail(Code::E_CONFIG, "data: columns: label: the model's problem_type is {} with {} labels a row; give labels, a list",
                    setup.problem, setup.num_labels);
    if (several && setup.problem == "single_label_classification")
        return fail(Code::E_CONFIG, "data: columns: labels: the model's problem_type is {}; give label, one class a row", setup.problem);
    std::optional<LabelRule> rule;
    if (one || several) {
        DS_TRY(rule, LabelRule::parse(setup.columns.all()[one ? *one : *several], setup.num_labels, setup.label_names));
        if (several && rule->classes() == 0 && !rule->learns())
            return fail(
                Code::E_CONFIG,
                "data: columns: labels: the number of classes is unknown; give the model's num_labels, or \"names\", \"map\" or \"auto\"");
    }
    return std::unique_ptr<DataTask>(
        std::make_unique<Classification>(setup, std::move(rule), one.value_or(several.value_or(0)), several.has_value()));
}

}  // namespace ds
