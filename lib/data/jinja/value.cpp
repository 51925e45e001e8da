#include "data/jinja/value.h"

#include <utf8proc.h>

#include <cmath>

namespace ds::jinja {

const Value* Dict::find(std::string_view key) const {
    for (const auto& [name, value] : items)
        if (name == key) return &value;
    return nullptr;
}

void Dict::set(std::string_view key, Value value) {
    for (auto& [name, old] : items)
        if (name == key) {
            old = std::move(value);
            return;
        }
    items.emplace_back(key, std::move(value));
}

Value Value::of(const OrderedJson& json) {
    if (json.is_null()) return None{};
    if (json.is_boolean()) return json.get<bool>();
    if (json.is_number_integer()) return json.get<int64_t>();
    if (json.is_number()) return json.get<double>();
    if (json.is_string()) return json.get<std::string>();
    if (json.is_array()) {
        List list;
        for (const auto& element : json) list.push_back(of(element));
        return list;
    }
    Dict dict;
    for (const auto& [key, value] : json.items()) dict.items.emplace_back(key, of(value));
    return dict;
}

int64_t Value::integer() const {
    if (const bool* b = as<bool>()) return *b;
    const int64_t* i = as<int64_t>();
    return i ? *i : 0;
}

double Value::number() const {
    const double* d = as<double>();
    return d ? *d : static_cast<double>(integer());
}

bool Value::truth() const {
    if (undefined() || none()) return false;
    if (is_number()) return number() != 0;
    if (text()) return !text()->empty();
    if (list()) return !list()->empty();
    if (dict()) return dict()->is_namespace || !dict()->items.empty();
    return true;
}

const char* Value::kind() const {
    constexpr const char* names[] = {"undefined", "none", "boolean", "integer", "float", "string", "list", "mapping", "function"};
    return names[data_.index()];
}

namespace {

// Python's repr of a float: the shortest digits that read back the same.
std::string float_text(double v) {
    if (std::isnan(v)) return "nan";
    if (std::isinf(v)) return v > 0 ? "inf" : "-inf";
    if (v == std::floor(v) && std::abs(v) < 1e16) return fmt::format("{:.1f}", v);
    return fmt::format("{}", v);
}

std::string quoted(const std::string& text) {
    const char quote = text.find('\'') != text.npos && text.find('"') == text.npos ? '"' : '\'';
    std::string out(1, quote);
    for (const char c : text) {
        if (c == '\\' || c == quote) out += '\\', out += c;
        else if (c == '\n') out += "\\n";
        else if (c == '\r') out += "\\r";
        else if (c == '\t') out += "\\t";
        else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
        else out += c;
    }
    return out + quote;
}

}  // namespace

std::string Value::str() const {
    if (undefined()) return "";
    return text() ? *text() : repr();
}

std::string Value::repr() const {
    if (undefined()) return "Undefined";
    if (none()) return "None";
    if (const bool* b = as<bool>()) return *b ? "True" : "False";
    if (const int64_t* i = as<int64_t>()) return std::to_string(*i);
    if (const double* d = as<double>()) return float_text(*d);
    if (text()) return quoted(*text());
    std::string out;
    if (const List* l = list()) {
        for (const Value& v : *l) out += (out.empty() ? "" : ", ") + v.repr();
        return "[" + out + "]";
    }
    if (const Dict* d = dict()) {
        for (const auto& [key, v] : d->items) out += (out.empty() ? "" : ", ") + quoted(key) + ": " + v.repr();
        return "{" + out + "}";
    }
    return "<function " + as<Function>()->name + ">";
}

bool equal(const Value& a, const Value& b) {
    if (a.is_number() && b.is_number()) return a.is_integer() && b.is_integer() ? a.integer() == b.integer() : a.number() == b.number();
    if (a.text() && b.text()) return *a.text() == *b.text();
    if (a.list() && b.list()) {
        if (a.list()->size() != b.list()->size()) return false;
        for (size_t i = 0; i < a.list()->size(); ++i)
            if (!equal((*a.list())[i], (*b.list())[i])) return false;
        return true;
    }
    if (a.dict() && b.dict()) {
        if (a.dict() == b.dict()) return true;
        if (a.dict()->items.size() != b.dict()->items.size()) return false;
        for (const auto& [key, value] : a.dict()->items) {
            const Value* other = b.dict()->find(key);
            if (!other || !equal(value, *other)) return false;
        }
        return true;
    }
    return (a.none() && b.none()) || (a.undefined() && b.undefined());
}

void dump_json(const Value& v, int indent, int depth, std::string& out) {
    const auto line = [&](int d) {
        if (indent >= 0) out += "\n" + std::string(static_cast<size_t>(indent * d), ' ');
    };
    const auto element = [&](bool& first) {
        if (!first) out += indent >= 0 ? "," : ", ";
        first = false;
        line(depth + 1);
    };
    bool first = true;
    if (const List* list = v.list()) {
        out += '[';
        for (const Value& x : *list) element(first), dump_json(x, indent, depth + 1, out);
        if (!first) line(depth);
        out += ']';
    } else if (const Dict* dict = v.dict()) {
        out += '{';
        for (const auto& [key, x] : dict->items) {
            element(first);
            out += OrderedJson(key).dump(-1, ' ', false, OrderedJson::error_handler_t::replace) + ": ";
            dump_json(x, indent, depth + 1, out);
        }
        if (!first) line(depth);
        out += '}';
    } else if (v.text()) out += OrderedJson(*v.text()).dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
    else if (const bool* b = v.as<bool>()) out += *b ? "true" : "false";
    else if (v.is_number()) out += v.repr();
    else out += "null";
}

std::u32string code_points(std::string_view text) {
    std::u32string out;
    for (size_t at = 0; at < text.size();) {
        utf8proc_int32_t point = 0;
        const auto n = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + at,
                                        static_cast<utf8proc_ssize_t>(text.size() - at), &point);
        out += n > 0 ? static_cast<char32_t>(point) : U'\uFFFD';
        at += n > 0 ? static_cast<size_t>(n) : 1;
    }
    return out;
}

std::string utf8(std::u32string_view text) {
    std::string out;
    for (const char32_t point : text) {
        utf8proc_uint8_t bytes[4];
        const auto n = utf8proc_encode_char(static_cast<utf8proc_int32_t>(point), bytes);
        out.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(n));
    }
    return out;
}

}  // namespace ds::jinja
