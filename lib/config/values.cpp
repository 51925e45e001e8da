#include "config/values.h"

#include <algorithm>
#include <cmath>
#include <iterator>

namespace ds {
namespace {

std::string lower(std::string text) {
    std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return text;
}

bool is_limit(const Json& value) { return value.is_number() && std::isfinite(value.get<double>()) && value.get<double>() >= 0; }

}  // namespace

std::optional<Clipping> parse_clipping(const Json& value) {
    if (is_limit(value)) return Clipping{value.get<double>(), 0};
    if (!value.is_object() || value.size() != 1 || !is_limit(value.begin().value())) return std::nullopt;
    const double limit = value.begin().value();
    if (value.contains("norm")) return Clipping{limit, 0};
    if (value.contains("value")) return Clipping{0, limit};
    return std::nullopt;
}

std::optional<std::vector<PrecisionRule>> parse_precision(const Json& value) {
    std::vector<PrecisionRule> rules;
    const auto add = [&](const std::string& pattern, const Json& dtype) {
        const auto type = parse_float_dtype(dtype);
        if (type && !pattern.empty()) rules.push_back({pattern, *type});
        return type && !pattern.empty();
    };
    if (value.is_object()) {
        for (const auto& item : value.items())
            if (!add(item.key(), item.value())) return std::nullopt;
        std::stable_sort(rules.begin(), rules.end(),
                         [](const PrecisionRule& a, const PrecisionRule& b) { return a.pattern.size() > b.pattern.size(); });
        return rules;
    }
    if (!value.is_array()) return std::nullopt;
    for (const Json& rule : value) {
        if (!rule.is_object() || rule.size() != 2 || !rule.contains("match") || !rule.contains("dtype")) return std::nullopt;
        const Json matches = rule["match"].is_array() ? rule["match"] : Json::array({rule["match"]});
        for (const Json& match : matches)
            if (!match.is_string() || !add(match, rule["dtype"])) return std::nullopt;
    }
    return rules;
}

std::optional<DType> parse_float_dtype(const Json& value) {
    if (!value.is_string()) return std::nullopt;
    std::string name = lower(value);
    if (name.starts_with("torch.")) name.erase(0, 6);
    if (name == "f32" || name == "fp32" || name == "float32" || name == "float") return DType::f32;
    if (name == "f16" || name == "fp16" || name == "float16" || name == "half") return DType::f16;
    if (name == "bf16" || name == "bfloat16") return DType::bf16;
    return std::nullopt;
}

std::optional<int> parse_recompute(const Json& value) {
    if (value == "auto") return -1;
    if (!value.is_number_integer() || value < 0 || value > 2) return std::nullopt;
    return value.get<int>();
}

std::optional<int> parse_log_level(const Json& value) {
    if (!value.is_string()) return std::nullopt;
    const std::string name = lower(value);
    if (name == "warning") return 3;
    if (name == "critical") return 4;
    constexpr const char* kLevels[] = {"trace", "debug", "info", "warn", "error", "off"};
    const auto it = std::find(std::begin(kLevels), std::end(kLevels), name);
    return it == std::end(kLevels) ? std::nullopt : std::optional(static_cast<int>(it - std::begin(kLevels)));
}

}  // namespace ds
