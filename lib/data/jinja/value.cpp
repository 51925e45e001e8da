#include "data/jinja/value.h"

#include <utf8proc.h>

#include <algorithm>
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

void Extent::add(const Extent& part) {
    bytes += part.bytes;
    depth = std::max(depth, part.depth + 1);
    has_namespace |= part.has_namespace;
}

Value::Value(std::string v) : data_(std::make_shared<const std::string>(std::move(v))) { extent_.bytes += text()->size(); }

Value::Value(List v) : data_(std::make_shared<const List>(std::move(v))) {
    extent_.depth = 1;
    for (const Value& element : *list()) extent_.add(element.extent());
}

Value::Value(Dict v) : data_(std::make_shared<Dict>(std::move(v))) {
    extent_.depth = 1;
    extent_.has_namespace = dict()->is_namespace;
    for (const auto& [key, value] : dict()->items) {
        extent_.bytes += key.size();
        extent_.add(value.extent());
    }
}

Value::Value(Function v) : data_(std::move(v)) {
    if (const auto& self = as<Function>()->self) extent_.add(self->extent());
}

Value Value::of(const OrderedJson& json) {
    if (json.is_null()) return None{};
    if (json.is_boolean()) return json.get<bool>();
    if (json.is_number_unsigned() && json.get<uint64_t>() > INT64_MAX) return json.get<double>();  // as larger ones are read
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
    std::string out;
    if (text()) return *text();
    if (!undefined()) print(*this, out);
    return out;
}

void print(const Value& v, std::string& out) {
    if (out.size() > kMaxBytes) return;
    auto separate = [&, first = true]() mutable { out += std::exchange(first, false) ? "" : ", "; };
    if (v.undefined()) out += "Undefined";
    else if (v.none()) out += "None";
    else if (const bool* b = v.as<bool>()) out += *b ? "True" : "False";
    else if (const int64_t* i = v.as<int64_t>()) out += std::to_string(*i);
    else if (const double* d = v.as<double>()) out += float_text(*d);
    else if (v.text()) out += quoted(*v.text());
    else if (const List* list = v.list()) {
        out += '[';
        for (const Value& x : *list) separate(), print(x, out);
        out += ']';
    } else if (const Dict* dict = v.dict()) {
        out += dict->is_namespace ? "<Namespace {" : "{";
        for (const auto& [key, x] : dict->items) separate(), out += quoted(key) + ": ", print(x, out);
        out += dict->is_namespace ? "}>" : "}";
    } else out += "<function " + v.as<Function>()->name + ">";
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
        if (a.dict() == b.dict() || a.dict()->is_namespace || b.dict()->is_namespace) return a.dict() == b.dict();
        if (a.dict()->items.size() != b.dict()->items.size()) return false;
        for (const auto& [key, value] : a.dict()->items) {
            const Value* other = b.dict()->find(key);
            if (!other || !equal(value, *other)) return false;
        }
        return true;
    }
    return (a.none() && b.none()) || (a.undefined() && b.undefined());
}

void dump_json(const Value& v, const JsonStyle& style, size_t depth, std::string& out) {
    if (out.size() > kMaxBytes) return;
    const auto quoted = [&](const std::string& text) {
        return OrderedJson(text).dump(-1, ' ', style.ascii, OrderedJson::error_handler_t::replace);
    };
    const auto line = [&](size_t d) {
        if (!style.indent) return;
        out += '\n';
        for (size_t i = 0; i < d; ++i) out += *style.indent;
    };
    bool first = true;
    const auto element = [&] {
        if (!std::exchange(first, false)) out += style.between;
        line(depth + 1);
    };
    if (const List* list = v.list()) {
        out += '[';
        for (const Value& x : *list) element(), dump_json(x, style, depth + 1, out);
        if (!first) line(depth);
        out += ']';
    } else if (const Dict* dict = v.dict()) {
        auto items = dict->items;
        if (style.sorted) std::sort(items.begin(), items.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
        out += '{';
        for (const auto& [key, x] : items) {
            element();
            out += quoted(key) + style.behind_key;
            dump_json(x, style, depth + 1, out);
        }
        if (!first) line(depth);
        out += '}';
    } else if (v.text()) out += quoted(*v.text());
    else if (const bool* b = v.as<bool>()) out += *b ? "true" : "false";
    else if (v.is_number()) print(v, out);
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
