#include "lr/params.h"

#include <algorithm>
#include <cmath>

#include "base/nearest.h"

namespace ds {
namespace {

bool within(double value, const std::optional<Bounds>& bounds) {
    if (!std::isfinite(value)) return false;
    return !bounds || value > bounds->least || (bounds->or_equal && value == bounds->least);
}

bool is_integral(const Json& value) {
    return value.is_number() && std::abs(value.get<double>()) < 9e15 && std::trunc(value.get<double>()) == value.get<double>();
}

std::string wanted(const char* what, const std::optional<Bounds>& bounds) {
    return bounds ? fmt::format("{} {}", what, bounds->words) : what;
}

}  // namespace

const Json* Params::find(const char* name) {
    if (std::find(known_.begin(), known_.end(), name) == known_.end()) known_.push_back(name);
    const auto it = given_.find(name);
    return it == given_.end() || it->is_null() ? nullptr : &*it;
}

void Params::fault(std::string message) {
    if (fault_.empty()) fault_ = std::move(message);
}

void Params::reject(const char* name, const std::string& accepted) {
    const Json* value = find(name);
    const char* hint = value && *value == "auto" ? R"( (Hugging Face's Trainer fills in "auto"))" : "";
    fault(fmt::format("config: scheduler.params.{}: must be {}, is {}{}", name, accepted, value ? value->dump() : "absent", hint));
}

bool Params::has(const char* name) { return find(name) != nullptr; }

double Params::number(const char* name, std::optional<double> fallback, std::optional<Bounds> bounds) {
    const Json* value = find(name);
    if (!value && fallback) return *fallback;
    if (!value) fault(fmt::format("config: scheduler.params.{}: {} needs it; must be {}", name, type_, wanted("a number", bounds)));
    else if (value->is_number() && within(value->get<double>(), bounds)) return value->get<double>();
    else reject(name, wanted("a number", bounds));
    return 1;
}

int64_t Params::integer(const char* name, std::optional<int64_t> fallback, std::optional<Bounds> bounds) {
    const Json* value = find(name);
    if (!value && fallback) return *fallback;
    if (!value) fault(fmt::format("config: scheduler.params.{}: {} needs it; must be {}", name, type_, wanted("an integer", bounds)));
    else if (is_integral(*value) && within(value->get<double>(), bounds)) return static_cast<int64_t>(value->get<double>());
    else reject(name, wanted("an integer", bounds));
    return 1;
}

bool Params::flag(const char* name, bool fallback) {
    const Json* value = find(name);
    if (!value) return fallback;
    if (!value->is_boolean()) reject(name, "true or false");
    return value->is_boolean() && value->get<bool>();
}

std::string Params::text(const char* name, const char* fallback) {
    const Json* value = find(name);
    if (!value) return fallback;
    if (!value->is_string()) reject(name, "a string");
    return value->is_string() ? value->get<std::string>() : std::string();
}

std::vector<double> Params::per_group(const char* name, std::optional<std::vector<double>> fallback, size_t groups) {
    const Json* value = find(name);
    if (value && value->is_array()) {
        const bool numbers = std::all_of(value->begin(), value->end(), [](const Json& x) { return x.is_number(); });
        if (numbers && value->size() == groups) return value->get<std::vector<double>>();
        reject(name, fmt::format("a number, or a list of {} (one a parameter group)", groups));
        return std::vector<double>(groups);
    }
    if (!value && fallback) return *fallback;
    return std::vector<double>(groups, number(name, std::nullopt));
}

Status Params::finish() {
    for (const auto& item : given_.items())
        if (std::find(known_.begin(), known_.end(), item.key()) == known_.end())
            fault(fmt::format("config: scheduler.params.{}: unknown key; did you mean scheduler.params.{}? ({} has {})", item.key(),
                              nearest(item.key(), known_), type_, fmt::join(known_, ", ")));
    return fault_.empty() ? ok() : Status(Code::E_CONFIG, fault_);
}

}  // namespace ds
