// Python's methods of strings, lists and mappings that templates use.
#include <utf8proc.h>

#include <algorithm>
#include <map>

#include "data/jinja/builtins.h"
#include "data/tokenizer/unicode.h"

namespace ds::jinja {

std::string strip(const std::string& text, const std::string* characters, bool left, bool right) {
    const std::u32string points = code_points(text), set = characters ? code_points(*characters) : std::u32string();
    const auto goes = [&](char32_t c) {
        return characters ? set.find(c) != set.npos : tokenizer::is_whitespace(c) || (c >= 0x1C && c <= 0x1F);
    };
    size_t begin = 0, end = points.size();
    while (left && begin < end && goes(points[begin])) ++begin;
    while (right && end > begin && goes(points[end - 1])) --end;
    return utf8(std::u32string_view(points).substr(begin, end - begin));
}

std::string with_case(std::string_view text, bool upper) {
    std::u32string points = code_points(text);
    for (char32_t& c : points)
        c = static_cast<char32_t>(upper ? utf8proc_toupper(static_cast<utf8proc_int32_t>(c))
                                        : utf8proc_tolower(static_cast<utf8proc_int32_t>(c)));
    return utf8(points);
}

std::string replaced(const std::string& text, const std::string& from, const std::string& to, int64_t most) {
    std::string out;
    size_t at = 0;
    while (most != 0 && !from.empty()) {
        const size_t found = text.find(from, at);
        if (found == text.npos) break;
        out.append(text, at, found - at);
        out += to;
        if (out.size() > kMaxBytes) break;  // the caller looks
        at = found + from.size();
        --most;
    }
    return out + text.substr(at);
}

namespace {

template <class... Args>
Status wrong(fmt::format_string<Args...> format, Args&&... args) {
    return fail(Code::E_INVALID_ARGUMENT, format, std::forward<Args>(args)...);
}

using Method = Result<Value> (*)(const std::string& self, const Arguments& a);

Result<Value> split(const std::string& self, const Arguments& a, bool from_right) {
    const Value separator = a.get(0, "sep", None{});
    int64_t most = a.get(1, "maxsplit", int64_t{-1}).integer();
    List out;
    if (!separator.text()) {  // runs of white space
        const std::u32string points = code_points(self);
        std::u32string word;
        for (size_t i = 0; i <= points.size(); ++i) {
            const bool gap = i == points.size() || tokenizer::is_whitespace(points[i]);
            if (!gap && most >= 0 && static_cast<int64_t>(out.size()) == most && word.empty()) {
                out.emplace_back(strip(utf8(std::u32string_view(points).substr(i)), nullptr, false, true));
                return Value(std::move(out));
            }
            if (!gap) word += points[i];
            else if (!word.empty()) out.emplace_back(utf8(word)), word.clear();
        }
        return Value(std::move(out));
    }
    const std::string& by = *separator.text();
    if (by.empty()) return wrong("split: the separator is empty");
    std::string rest = self;
    while (most != 0) {
        const size_t found = from_right ? rest.rfind(by) : rest.find(by);
        if (found == rest.npos) break;
        out.emplace_back(from_right ? rest.substr(found + by.size()) : rest.substr(0, found));
        rest = from_right ? rest.substr(0, found) : rest.substr(found + by.size());
        --most;
        if (out.size() > kMaxElements) return wrong("split: makes more than {} parts", kMaxElements);
    }
    out.emplace_back(rest);
    if (from_right) std::reverse(out.begin(), out.end());
    return Value(std::move(out));
}

Result<Value> has_affix(const std::string& self, const Arguments& a, bool prefix) {
    const Value given = a.get(0, "prefix", None{});
    const List options = given.list() ? *given.list() : List{given};
    for (const Value& v : options) {
        if (!v.text()) return wrong("startswith, endswith: take a string or a list of them, not {}", v.kind());
        if (prefix ? self.starts_with(*v.text()) : self.ends_with(*v.text())) return Value(true);
    }
    return Value(false);
}

Result<Value> stripped(const std::string& self, const Arguments& a, bool left, bool right) {
    const Value characters = a.get(0, "chars", None{});
    return Value(strip(self, characters.text(), left, right));
}

Result<Value> capitalized(const std::string& self, bool every_word) {
    std::u32string points = code_points(with_case(self, false));
    bool begins = true;
    for (char32_t& c : points) {
        if (begins) c = static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c)));
        begins = every_word && !tokenizer::is_letter(c);
        if (!every_word) break;
    }
    return Value(utf8(points));
}

Result<Value> place_of(const std::string& self, const Arguments& a, bool last) {
    const std::string what = a.get(0, "sub", "").str();
    const size_t found = last ? self.rfind(what) : self.find(what);
    return Value(found == self.npos ? int64_t{-1}
                                    : static_cast<int64_t>(tokenizer::count_code_points(std::string_view(self).substr(0, found))));
}

bool all_of(const std::string& self, bool (*holds)(char32_t)) {
    const std::u32string points = code_points(self);
    return !points.empty() && std::all_of(points.begin(), points.end(), holds);
}

const std::map<std::string_view, Method>& methods() {
    static const std::map<std::string_view, Method> table{
        {"strip", [](const std::string& s, const Arguments& a) { return stripped(s, a, true, true); }},
        {"lstrip", [](const std::string& s, const Arguments& a) { return stripped(s, a, true, false); }},
        {"rstrip", [](const std::string& s, const Arguments& a) { return stripped(s, a, false, true); }},
        {"split", [](const std::string& s, const Arguments& a) { return split(s, a, false); }},
        {"rsplit", [](const std::string& s, const Arguments& a) { return split(s, a, true); }},
        {"splitlines",
         [](const std::string& s, const Arguments&) -> Result<Value> {
             List out;
             for (size_t at = 0; at < s.size();) {
                 const size_t end = std::min(s.find_first_of("\r\n", at), s.size());
                 out.emplace_back(s.substr(at, end - at));
                 at = end + 1 + (s.compare(end, 2, "\r\n") == 0);
             }
             return Value(std::move(out));
         }},
        {"startswith", [](const std::string& s, const Arguments& a) { return has_affix(s, a, true); }},
        {"endswith", [](const std::string& s, const Arguments& a) { return has_affix(s, a, false); }},
        {"removeprefix",
         [](const std::string& s, const Arguments& a) -> Result<Value> {
             const std::string p = a.get(0, "", "").str();
             return Value(s.starts_with(p) ? s.substr(p.size()) : s);
         }},
        {"removesuffix",
         [](const std::string& s, const Arguments& a) -> Result<Value> {
             const std::string p = a.get(0, "", "").str();
             return Value(s.ends_with(p) ? s.substr(0, s.size() - p.size()) : s);
         }},
        {"upper", [](const std::string& s, const Arguments&) -> Result<Value> { return Value(with_case(s, true)); }},
        {"lower", [](const std::string& s, const Arguments&) -> Result<Value> { return Value(with_case(s, false)); }},
        {"capitalize", [](const std::string& s, const Arguments&) { return capitalized(s, false); }},
        {"title", [](const std::string& s, const Arguments&) { return capitalized(s, true); }},
        {"replace",
         [](const std::string& s, const Arguments& a) -> Result<Value> {
             const Value from = a.get(0, "old", None{}), to = a.get(1, "new", None{});
             if (!from.text() || !to.text()) return wrong("replace: takes two strings");
             std::string out = replaced(s, *from.text(), *to.text(), a.get(2, "count", int64_t{-1}).integer());
             if (out.size() > kMaxBytes) return wrong("replace: makes more than {} bytes", kMaxBytes);
             return Value(std::move(out));
         }},
        {"find", [](const std::string& s, const Arguments& a) { return place_of(s, a, false); }},
        {"rfind", [](const std::string& s, const Arguments& a) { return place_of(s, a, true); }},
        {"count",
         [](const std::string& s, const Arguments& a) -> Result<Value> {
             const std::string what = a.get(0, "sub", "").str();
             if (what.empty()) return wrong("count: the string to count is empty");
             int64_t n = 0;
             for (size_t at = s.find(what); at != s.npos; at = s.find(what, at + what.size())) ++n;
             return Value(n);
         }},
        {"join",
         [](const std::string& s, const Arguments& a) -> Result<Value> {
             DS_TRY(const List parts, elements_of(a.get(0, "iterable", None{})));
             std::string out;
             for (size_t i = 0; i < parts.size(); ++i) {
                 if (!parts[i].text()) return wrong("join: takes strings, not {}", parts[i].kind());
                 out += (i ? s : "") + *parts[i].text();
                 if (out.size() > kMaxBytes) return wrong("join: makes more than {} bytes", kMaxBytes);
             }
             return Value(std::move(out));
         }},
        {"isdigit", [](const std::string& s, const Arguments&) -> Result<Value> { return Value(all_of(s, tokenizer::is_number)); }},
        {"isalpha", [](const std::string& s, const Arguments&) -> Result<Value> { return Value(all_of(s, tokenizer::is_letter)); }},
        {"isspace", [](const std::string& s, const Arguments&) -> Result<Value> { return Value(all_of(s, tokenizer::is_whitespace)); }},
        {"isupper",
         [](const std::string& s, const Arguments&) -> Result<Value> {
             return Value(with_case(s, true) == s && with_case(s, false) != s);
         }},
        {"islower", [](const std::string& s, const Arguments&) -> Result<Value> {
             return Value(with_case(s, false) == s && with_case(s, true) != s);
         }}};
    return table;
}

Result<Value> dict_method(const Dict& dict, std::string_view name, const Arguments& a) {
    List out;
    if (name == "get") {
        const Value key = a.get(0, "key", None{});
        const Value* found = key.text() ? dict.find(*key.text()) : nullptr;
        return found ? *found : a.get(1, "default", None{});
    }
    for (const auto& [key, value] : dict.items) {
        if (name == "keys") out.emplace_back(key);
        else if (name == "values") out.push_back(value);
        else out.emplace_back(List{Value(key), value});
    }
    return Value(std::move(out));
}

Result<Value> list_method(const List& list, std::string_view name, const Arguments& a) {
    const Value what = a.get(0, "value", None{});
    int64_t n = 0;
    for (size_t i = 0; i < list.size(); ++i) {
        if (!equal(list[i], what)) continue;
        if (name == "index") return Value(static_cast<int64_t>(i));
        ++n;
    }
    if (name == "index") return wrong("index: the list has no such element");
    return Value(n);
}

}  // namespace

bool is_method(const Value& of, std::string_view name) {
    if (of.text()) return methods().contains(name);
    if (of.dict()) return !of.dict()->is_namespace && (name == "get" || name == "items" || name == "keys" || name == "values");
    return of.list() && (name == "index" || name == "count");
}

Result<Value> call_method(const Value& of, std::string_view name, const Arguments& a) {
    if (of.dict()) return dict_method(*of.dict(), name, a);
    return of.list() ? list_method(*of.list(), name, a) : methods().at(name)(*of.text(), a);
}

}  // namespace ds::jinja
