#include "config/keys.h"

#include <algorithm>
#include <cmath>

#include "base/nearest.h"
#include "config/values.h"

namespace ds {
namespace {

bool above_zero(const Json& x) { return x.get<double>() > 0; }
bool from_zero(const Json& x) { return x.get<double>() >= 0; }
bool from_zero_to_one(const Json& x) { return x.get<double>() >= 0 && x.get<double>() <= 1; }
bool from_zero_below_one(const Json& x) { return x.get<double>() >= 0 && x.get<double>() < 1; }
bool is_even(const Json& x) { return x.get<int64_t>() >= 0 && x.get<int64_t>() % 2 == 0; }
bool stage_exists(const Json& x) { return x.get<int64_t>() >= 0 && x.get<int64_t>() <= 3; }
bool a_power_of_f32(const Json& x) { return x.get<int64_t>() >= 0 && x.get<int64_t>() <= 100; }
bool only_texts(const Json& x) {
    return std::all_of(x.begin(), x.end(), [](const Json& item) { return item.is_string(); });
}

constexpr KeyRule any{""}, strict{""}, loose{""};
constexpr KeyRule positive{" above 0", above_zero}, not_negative{" of at least 0", from_zero}, fraction{" from 0 to 1", from_zero_to_one},
    below_one{" of at least 0 and below 1", from_zero_below_one};
constexpr KeyRule even{" that is even and not negative", is_even}, zero_stage{" from 0 to 3", stage_exists},
    scale_power{" from 0 to 100", a_power_of_f32};
constexpr KeyRule is_false{"false (DeepSpeed withdrew it)", [](const Json& x) { return x == false; }};
constexpr KeyRule texts{" of strings", only_texts};
constexpr KeyRule model_form{"a path or an object (the model's config.json)", [](const Json& x) { return x.is_string() || x.is_object(); }};
constexpr KeyRule patterns{"a glob or an array of globs",
                           [](const Json& x) { return x.is_string() || (x.is_array() && !x.empty() && only_texts(x)); }};
constexpr KeyRule clip_form{"a number of at least 0, {\"norm\": x} or {\"value\": x}",
                            [](const Json& x) { return parse_clipping(x).has_value(); }};
constexpr KeyRule partition_form{"best, cost, uniform, parameters or type:REGEX", [](const Json& x) {
                                     const std::string method = x.get<std::string>();
                                     return method == "best" || method == "cost" || method == "uniform" || method == "parameters" ||
                                            (method.starts_with("type:") && method.size() > 5);
                                 }};
constexpr KeyRule recompute_form{"0, 1, 2 or \"auto\"", [](const Json& x) { return parse_recompute(x).has_value(); }};
constexpr KeyRule precision_form{"an object {glob: dtype} or an array of {\"match\": glob, \"dtype\": \"f32\", \"bf16\" or \"f16\"}",
                                 [](const Json& x) { return parse_precision(x).has_value(); }};
constexpr KeyRule log_levels{
    " of component: one of TRACE, DEBUG, INFO, WARN, ERROR, OFF",
    [](const Json& x) { return std::all_of(x.begin(), x.end(), [](const Json& level) { return parse_log_level(level).has_value(); }); }};
constexpr KeyRule float_dtype{"one of fp32, fp16, bf16", [](const Json& x) { return parse_float_dtype(x).has_value(); }};

// one_of("a|b"): a rule a list of choices.
template <size_t n>
struct Choices {
    char text[n]{};
    constexpr Choices(const char (&from)[n]) { std::copy_n(from, n, text); }
};
template <Choices list>
constexpr KeyRule choice_rule{"", nullptr, list.text};
#define one_of(list) choice_rule<list>

using enum KeyType;
constexpr KeySupport Live{KeySupport::live, "live", ""}, Runtime{KeySupport::runtime, "live, may change at run time", ""};
constexpr KeySupport OneRank{KeySupport::hint, "accepted", "what ranks exchange follows from the plan"};
constexpr KeySupport Planned{KeySupport::hint, "accepted", "libdsrt settles this by itself"};
constexpr KeySupport Idle{KeySupport::hint, "accepted", "only parts that are off read it"};
constexpr KeySupport Missing{KeySupport::missing, "unsupported", ""};

constexpr Key kKeys[] = {
#define DS_KEY(path, type, fallback, rule, support, meaning) {path, type, #fallback, &rule, &support, meaning},
#define DS_SPELLING(older, path)
#include "config/keys.def"
#undef DS_KEY
#undef DS_SPELLING
};
constexpr Spelling kSpellings[] = {
#define DS_KEY(path, type, fallback, rule, support, meaning)
#define DS_SPELLING(older, path) {older, path},
#include "config/keys.def"
#undef DS_KEY
#undef DS_SPELLING
};

constexpr const char* kTypeNames[] = {"boolean", "integer", "number", "string", "integer or \"auto\"", "array", "object", "object", "any"};
constexpr const char* kTypeWords[] = {"true or false", "an integer", "a number",  "a string", "\"auto\" or an integer",
                                      "an array",      "an object",  "an object", ""};

std::string_view last_of(std::string_view path) {
    const size_t dot = path.rfind('.');
    return dot == path.npos ? path : path.substr(dot + 1);
}

// The text of a whole number or number, as pydantic takes it in strict sections.
bool number_from_text(Json& value) {
    const std::string text = value.get<std::string>();
    char* end = nullptr;
    const double number = std::strtod(text.c_str(), &end);
    if (text.empty() || end != text.c_str() + text.size() || !std::isfinite(number)) return false;
    value = number;
    return true;
}

bool as_integer(Json& value) {
    if (value.is_number_float()) {
        const double x = value.get<double>();
        if (x != std::trunc(x) || std::abs(x) > 9e18) return false;
        value = static_cast<int64_t>(x);
    }
    if (value.is_number_unsigned() && value.get<uint64_t>() > uint64_t{INT64_MAX}) return false;
    if (value.is_number_integer()) value = value.get<int64_t>();
    return value.is_number_integer();
}

bool as_boolean(Json& value, bool lax) {
    if (lax && (value == 0 || value == "false")) value = false;
    if (lax && (value == 1 || value == "true")) value = true;
    return value.is_boolean();
}

bool has_type(const Key& key, bool lax, Json& value) {
    if (lax && value.is_string() && (key.type == Int || key.type == Float) && !number_from_text(value)) return false;
    switch (key.type) {
    case Bool: return as_boolean(value, lax);
    case Int: return as_integer(value);
    case Float: return value.is_number() && std::isfinite(value.get<double>());
    case Text: return value.is_string();
    case IntOrAuto: return value == "auto" || as_integer(value);
    case List: return value.is_array();
    case Map:
    case Section: return value.is_object();
    case Any: return true;
    }
    return false;
}

bool take_choice(const char* choices, Json& value) {
    const std::string word = value.get<std::string>();
    for (std::string_view rest = choices; !rest.empty();) {
        const std::string_view choice = rest.substr(0, rest.find('|'));
        if (edit_distance(choice, word) == 0) return value = std::string(choice), true;
        rest.remove_prefix(std::min(choice.size() + 1, rest.size()));
    }
    return false;
}

bool meets_rule(const Key& key, Json& value) {
    if (key.type == IntOrAuto && value == "auto") return true;
    if (key.rule->choices) return take_choice(key.rule->choices, value);
    return !key.rule->holds || key.rule->holds(value);
}

}  // namespace

Json Key::default_value() const {
    std::string_view text = fallback;
    if (text.starts_with('(')) text = text.substr(1, text.size() - 2);
    Json value = Json::parse(text);
    if (type == KeyType::Int) as_integer(value);
    return value;
}

std::span<const Key> config_keys() { return kKeys; }
std::span<const Spelling> config_spellings() { return kSpellings; }
bool is_strict_section(const Key& section) { return section.rule == &strict; }
const char* type_name(KeyType type) { return kTypeNames[static_cast<int>(type)]; }

const Key* find_key(std::string_view path) {
    const auto it = std::find_if(std::begin(kKeys), std::end(kKeys), [&](const Key& key) { return key.path == path; });
    return it == std::end(kKeys) ? nullptr : it;
}

std::string accepted_values(const Key& key) {
    std::string words;
    if (key.rule->choices) {
        std::string list = key.rule->choices;
        for (size_t at = 0; (at = list.find('|', at)) != list.npos; at += 2) list.replace(at, 1, ", ");
        words = "one of " + list;
    } else {
        const bool extends = key.rule->accepted[0] == ' ' || key.rule->accepted[0] == 0;
        words = extends ? std::string(kTypeWords[static_cast<int>(key.type)]) + key.rule->accepted : key.rule->accepted;
        if (key.type == KeyType::Any && words.empty()) words = "anything";
    }
    return key.default_value().is_null() ? words + ", or null" : words;
}

std::string nearest_path(const std::string& path) {
    std::string best;
    size_t least = SIZE_MAX;
    const auto consider = [&](const char* candidate) {
        size_t distance = edit_distance(path, candidate);
        // A key in the wrong section is more likely than a mistyped section.
        const size_t names = edit_distance(last_of(path), last_of(candidate));
        if (last_of(path).size() > 3 && names * 3 <= last_of(path).size()) distance = std::min(distance, names + 2);
        if (distance < least) least = distance, best = candidate;
    };
    for (const Key& key : kKeys) consider(key.path);
    for (const Spelling& spelling : kSpellings) consider(spelling.older);
    return best;
}

std::string short_dump(const Json& value) {
    std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
    if (text.size() <= 80) return text;
    size_t end = 77;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;  // not inside a character
    return text.substr(0, end) + "...";
}

Status check_value(const Key& key, const std::string& shown, bool strict_section, Json& value) {
    if (value.is_null() && key.default_value().is_null()) return ok();
    const Json given = value;
    if (has_type(key, strict_section, value) && meets_rule(key, value)) return ok();
    const char* hint = given == "auto" ? R"( (Hugging Face's Trainer fills in "auto"; give a value, or leave the key out))" : "";
    return fail(Code::E_CONFIG, "config: {}: must be {}, is {}{}", shown, accepted_values(key), short_dump(given), hint);
}

const Json* at_path(const Json& object, std::string_view path) {
    const Json* at = &object;
    while (!path.empty()) {
        const std::string_view name = path.substr(0, path.find('.'));
        path.remove_prefix(std::min(name.size() + 1, path.size()));
        if (!at->is_object()) return nullptr;
        const auto next = at->find(std::string(name));
        if (next == at->end()) return nullptr;
        at = &*next;
    }
    return at;
}

void set_path(Json& object, std::string_view path, Json value) {
    Json* at = &object;
    for (size_t dot; (dot = path.find('.')) != path.npos; path.remove_prefix(dot + 1)) {
        at = &(*at)[std::string(path.substr(0, dot))];
        if (!at->is_object()) *at = Json::object();
    }
    (*at)[std::string(path)] = std::move(value);
}

void erase_path(Json& object, std::string_view path) {
    const size_t dot = path.rfind('.');
    const Json* parent = dot == path.npos ? &object : at_path(object, path.substr(0, dot));
    if (parent && parent->is_object()) const_cast<Json*>(parent)->erase(std::string(path.substr(dot == path.npos ? 0 : dot + 1)));
}

}  // namespace ds
