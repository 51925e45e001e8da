// How a column's value becomes a class: by number, the model's own name, threshold, list of names, map, or names learned from the data.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "data/readers/table.h"

namespace ds {

class LabelRule {
public:
    // num_labels 0 = unknown: then any class number counts. model_names: what the model calls its classes, where it says.
    static Result<LabelRule> parse(const Column& column, int64_t num_labels, std::span<const std::string> model_names);

    bool learns() const { return automatic_; }
    Status learn(const Cell& value);  // collects names, list items too
    Status finish_learning();  // sorts them: by value where all are integers, else by bytes; the model's own hold where any is among them

    Result<int64_t> class_of(const Cell& value) const;
    Result<float> number_of(const Cell& value) const;  // for models with one label
    bool is_number() const { return num_labels_ == 1 && numeric_; }
    // A list's items; a field of text is cut at the separator.
    Result<std::vector<Cell>> items(const Cell& value) const;
    int64_t classes() const { return num_labels_; }  // 0 = unknown
    const std::vector<std::string>& names() const { return names_; }

private:
    void use(std::vector<std::string> names);
    Status read_rule(const std::string& key, const Json& value, const std::string& place);
    Status check_class(int64_t number, const std::string& what) const;
    std::string accepted() const;
    std::string accepted_numbers() const;

    std::string role_;
    int64_t num_labels_ = 0;
    bool numeric_ = true;  // integers are class numbers
    bool automatic_ = false;
    std::optional<double> threshold_;
    std::map<std::string, int64_t, std::less<>> classes_;
    std::vector<std::string> names_, model_names_;
    std::string separator_;
};

// What cuts a column's text into a list.
Result<std::string> separator_of(const Column& column);
// A list of texts: a list of strings, or a field of text cut at the separator (blanks: runs of them).
Result<std::vector<std::string>> text_items(const Cell& value, std::string_view role, std::string_view separator);

std::optional<int64_t> integer_of(std::string_view text);  // the whole text, blanks around it aside
std::optional<double> real_of(std::string_view text);

}  // namespace ds
