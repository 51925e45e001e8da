#include "data/labels.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace ds {
namespace {

constexpr size_t kMostClasses = 100000;

std::string_view trimmed(std::string_view text) {
    const size_t begin = text.find_first_not_of(" \t");
    if (begin == text.npos) return {};
    return text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

template <class T>
std::optional<T> parsed(std::string_view text) {
    text = trimmed(text);
    if (text.starts_with('+')) text.remove_prefix(1);
    T value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return value;
}

std::string list_of(const std::vector<std::string>& names) {
    const size_t n = std::min<size_t>(names.size(), 10);
    return fmt::format("\"{}\"{}", fmt::join(names.begin(), names.begin() + static_cast<ptrdiff_t>(n), "\", \""),
                       names.size() > n ? fmt::format(" and {} more", names.size() - n) : "");
}

}  // namespace

std::optional<int64_t> integer_of(std::string_view text) { return parsed<int64_t>(text); }
std::optional<double> real_of(std::string_view text) { return parsed<double>(text); }

Result<std::string> separator_of(const Column& column) {
    const std::string standard = column.role == "words" || column.role == "tags" ? " " : ",";
    const Json value = column.rule.value("separator", Json(standard));
    if (!value.is_string() || value.get_ref<const std::string&>().empty())
        return fail(Code::E_CONFIG, "data: columns: {}: separator: found {}, a text is accepted", column.role, excerpt(value.dump()));
    return value.get<std::string>();
}

Result<std::vector<std::string>> text_items(const Cell& value, std::string_view role, std::string_view separator) {
    std::vector<std::string> out;
    if (value.kind == Cell::Kind::list) {
        for (const Cell& item : value.items) {
            if (item.kind != Cell::Kind::text && item.kind != Cell::Kind::number)
                return fail(Code::E_CORRUPT, "column {}: found {} in the list, strings and numbers are accepted", role, describe(item));
            out.push_back(item.text);
        }
        return out;
    }
    if (value.kind != Cell::Kind::text)
        return fail(Code::E_CORRUPT, "column {}: found {}, a list or a text is accepted", role, describe(value));
    for (size_t at = 0; at <= value.text.size();) {
        const size_t end = std::min(value.text.find(separator, at), value.text.size());
        if (end > at) out.push_back(value.text.substr(at, end - at));
        at = end + separator.size();
    }
    return out;
}

void LabelRule::use(std::vector<std::string> names) {
    names_ = std::move(names);
    classes_.clear();
    for (size_t i = 0; i < names_.size(); ++i) classes_.emplace(names_[i], static_cast<int64_t>(i));
}

Status LabelRule::read_rule(const std::string& key, const Json& value, const std::string& place) {
    if (key == "greater_than") {
        if (!value.is_number())
            return fail(Code::E_CONFIG, "{}: greater_than: found {}, a number is accepted", place, excerpt(value.dump()));
        if (num_labels_ != 0 && num_labels_ != 2)
            return fail(Code::E_CONFIG, "{}: greater_than gives 2 classes, the model has num_labels {}", place, num_labels_);
        threshold_ = value.get<double>();
        num_labels_ = 2;
    } else if (key == "names") {
        if (!value.is_array() || value.empty())
            return fail(Code::E_CONFIG, "{}: names: found {}, a list of strings is accepted", place, excerpt(value.dump()));
        for (const Json& name : value) {
            if (!name.is_string()) return fail(Code::E_CONFIG, "{}: names: found {}, strings are accepted", place, excerpt(name.dump()));
            const bool fresh = classes_.emplace(name.get<std::string>(), static_cast<int64_t>(names_.size())).second;
            if (!fresh) return fail(Code::E_CONFIG, "{}: names: {} appears twice", place, excerpt(name.dump()));
            names_.push_back(name.get<std::string>());
        }
        const auto count = static_cast<int64_t>(names_.size());
        if (num_labels_ != 0 && count > num_labels_)
            return fail(Code::E_CONFIG, "{}: names: {} names, the model has num_labels {}", place, count, num_labels_);
        if (num_labels_ == 0) num_labels_ = count;
    } else if (key == "map") {
        if (!value.is_object() || value.empty())
            return fail(Code::E_CONFIG, "{}: map: found {}, an object of class numbers is accepted", place, excerpt(value.dump()));
        for (const auto& [name, number] : value.items()) {
            if (!number.is_number_integer())
                return fail(Code::E_CONFIG, "{}: map: {}: found {}, a class number is accepted", place, name, excerpt(number.dump()));
            if (Status s = check_class(number.get<int64_t>(), place + ": map: " + name); !s.ok())
                return Status(Code::E_CONFIG, s.message());
            classes_[name] = number.get<int64_t>();
        }
        if (num_labels_ == 0)
            for (const auto& [name, number] : classes_) num_labels_ = std::max(num_labels_, number + 1);
    } else if (key == "auto") {
        if (value != true) return fail(Code::E_CONFIG, "{}: auto: found {}, true is accepted", place, excerpt(value.dump()));
        automatic_ = true;
    }
    return ok();
}

Result<LabelRule> LabelRule::parse(const Column& column, int64_t num_labels, std::span<const std::string> model_names) {
    LabelRule out;
    out.role_ = column.role;
    out.num_labels_ = num_labels;
    const std::string place = "data: columns: " + column.role;
    DS_TRY(out.separator_, separator_of(column));
    int rules = 0;
    for (const auto& [key, value] : column.rule.items()) {
        if (key == "separator") continue;
        DS_CHECK(out.read_rule(key, value, place));
        ++rules;
    }
    if (rules > 1) return fail(Code::E_CONFIG, "{}: greater_than, names, map and auto exclude each other", place);
    out.numeric_ = rules == 0;
    if (out.numeric_) out.use({model_names.begin(), model_names.end()});
    else out.model_names_.assign(model_names.begin(), model_names.end());
    return out;
}

Status LabelRule::learn(const Cell& value) {
    DS_TRY(const std::vector<Cell> all, items(value));
    for (const Cell& item : all) {
        if (item.kind == Cell::Kind::null || item.kind == Cell::Kind::object || item.kind == Cell::Kind::list)
            return fail(Code::E_CORRUPT, "column {}: found {}, a text or a number is accepted", role_, describe(item));
        classes_.emplace(item.text, 0);
    }
    if (classes_.size() > kMostClasses)
        return fail(Code::E_CORRUPT, "column {}: more than {} different values for auto classes", role_, kMostClasses);
    return ok();
}

Status LabelRule::finish_learning() {
    // Then a value that the model has no name for is an error of its row.
    if (std::any_of(model_names_.begin(), model_names_.end(), [&](const std::string& name) { return classes_.contains(name); })) {
        use(std::move(model_names_));
        return ok();
    }
    for (const auto& [name, number] : classes_) names_.push_back(name);
    if (std::all_of(names_.begin(), names_.end(), [](const std::string& name) { return integer_of(name).has_value(); }))
        std::stable_sort(names_.begin(), names_.end(),
                         [](const std::string& a, const std::string& b) { return *integer_of(a) < *integer_of(b); });
    if (num_labels_ != 0 && static_cast<int64_t>(names_.size()) > num_labels_)
        return fail(Code::E_CORRUPT, "data: columns: {}: {} different values ({}), the model has num_labels {}", role_, names_.size(),
                    list_of(names_), num_labels_);
    for (size_t i = 0; i < names_.size(); ++i) classes_[names_[i]] = static_cast<int64_t>(i);
    if (num_labels_ == 0) num_labels_ = static_cast<int64_t>(names_.size());
    return ok();
}

std::string LabelRule::accepted() const {
    std::vector<std::string> names = names_;
    if (names.empty())
        for (const auto& [name, number] : classes_) names.push_back(name);
    if (!numeric_ && !names.empty()) return list_of(names);
    return accepted_numbers() + (names.empty() ? "" : " or one of " + list_of(names));
}

std::string LabelRule::accepted_numbers() const {
    return num_labels_ > 0 ? fmt::format("an integer from 0 to {}", num_labels_ - 1) : "an integer from 0";
}

Status LabelRule::check_class(int64_t number, const std::string& what) const {
    if (number >= 0 && (num_labels_ == 0 || number < num_labels_)) return ok();
    return fail(Code::E_CORRUPT, "{}: found {}, {} is accepted", what, number, accepted_numbers());
}

Result<int64_t> LabelRule::class_of(const Cell& value) const {
    const std::string what = "column " + role_;
    const bool scalar = value.kind == Cell::Kind::text || value.kind == Cell::Kind::number || value.kind == Cell::Kind::boolean;
    if (scalar && threshold_) {
        const std::optional<double> number = real_of(value.text);
        if (!number || std::isnan(*number)) return fail(Code::E_CORRUPT, "{}: found {}, a number is accepted", what, describe(value));
        return *number > *threshold_ ? 1 : 0;
    }
    if (scalar && numeric_) {
        if (value.kind == Cell::Kind::boolean) return value.text == "true" ? 1 : 0;
        if (const std::optional<int64_t> number = integer_of(value.text)) {
            DS_CHECK(check_class(*number, what));
            return *number;
        }
    }
    if (scalar) {
        auto found = classes_.find(value.text);
        if (found == classes_.end()) found = classes_.find(trimmed(value.text));
        if (found != classes_.end()) return found->second;
    }
    if (scalar && numeric_) {
        return fail(Code::E_CORRUPT, "{}: found {}, {} is accepted, or give the names of the classes (\"names\", \"map\" or \"auto\")",
                    what, describe(value), accepted());
    }
    return fail(Code::E_CORRUPT, "{}: found {}, accepted: {}", what, describe(value), accepted());
}

Result<float> LabelRule::number_of(const Cell& value) const {
    const bool scalar = value.kind == Cell::Kind::text || value.kind == Cell::Kind::number;
    const std::optional<double> number = scalar ? real_of(value.text) : std::nullopt;
    if (!number || !std::isfinite(*number))
        return fail(Code::E_CORRUPT, "column {}: found {}, a finite number is accepted", role_, describe(value));
    return static_cast<float>(*number);
}

Result<std::vector<Cell>> LabelRule::items(const Cell& value) const {
    if (role_ == "label") return std::vector<Cell>{value};
    if (value.kind == Cell::Kind::list) return value.items;
    DS_TRY(const std::vector<std::string> texts, text_items(value, role_, separator_));
    std::vector<Cell> out;
    for (const std::string& text : texts) out.push_back(Cell::of(text));
    return out;
}

}  // namespace ds
