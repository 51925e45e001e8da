// Python's methods of strings, lists and mappings that templates use.
#include <utf8proc.h>

#include <algorithm>
#include <map>

#include "data/jinja/builtins.h"
#include "data/tokenizer/unicode.h"

namespace ds::jinja {

namespace {
bool parts_words(char32_t c) { return tokenizer::is_whitespace(c) || (c >= 0x1C && c <= 0x1F); }
}  // namespace

std::string strip(const std::string& text, const std::string* characters, bool left, bool right) {
    const std::u32string points = code_points(text), set = characters ? code_points(*characters) : std::u32string();
    const auto goes = [&](char32_t c) { return characters ? set.find(c) != set.npos : parts_words(c); };
    size_t begin = 0, end = points.size();
    while (left && begin < end && goes(points[begin])) ++begin;
    while (right && end > begin && goes(points[end - 1])) --end;
    return utf8(std::u32string_view(points).substr(begin, end - begin));
}

std::string with_case(std::string_view text, bool upper) {
    std::u32string out;
    for (const char32_t c : code_points(text)) {
        const auto point = static_cast<utf8proc_int32_t>(c);
        utf8proc_int32_t folded[4];
        int boundary = 0;
        const auto n = upper && utf8proc_category(point) != UTF8PROC_CATEGORY_LU
                           ? utf8proc_decompose_char(point, folded, 4, UTF8PROC_CASEFOLD, &boundary)
                           : 1;
        if (n > 1)  // as the sharp s, whose large form is two letters
            for (int i = 0; i < n; ++i) out += static_cast<char32_t>(utf8proc_toupper(folded[i]));
        else out += static_cast<char32_t>(upper ? utf8proc_toupper(point) : utf8proc_tolower(point));
    }
    return utf8(out);
}

std::string capitalized(std::string_view word) {
    const size_t first = word.empty() ? 0 : static_cast<size_t>(tokenizer::utf8_bytes(word[0]));
    return with_case(word.substr(0, first), true) + with_case(word.substr(std::min(first, word.size())), false);
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

using Method = Result<Value> (*)(const std::string& self, const Given& a);

// At runs of white space. From the right everything is mirrored.
List words(const std::string& self, int64_t most, bool from_right) {
    std::u32string points = code_points(self);
    if (from_right) std::reverse(points.begin(), points.end());
    List out;
    for (size_t at = 0;;) {
        while (at < points.size() && parts_words(points[at])) ++at;
        if (at == points.size()) break;
        size_t end = at;
        if (static_cast<int64_t>(out.size()) == most) end = points.size();
        while (end < points.size() && !parts_words(points[end])) ++end;
        std::u32string word = points.substr(at, end - at);
        if (from_right) std::reverse(word.begin(), word.end());
        out.emplace_back(utf8(word));
        at = end;
    }
    if (from_right) std::reverse(out.begin(), out.end());
    return out;
}

Result<Value> split(const std::string& self, const Given& a, bool from_right) {
    const Value separator = a.get(0, None{});
    const int64_t most = a.get(1, int64_t{-1}).integer();
    if (separator.none()) return Value(words(self, most, from_right));
    if (!separator.text() || separator.text()->empty()) return wrong("split: the separator must be a string that is not empty");
    const std::string& by = *separator.text();
    List out;
    const std::string_view text = self;
    size_t begin = 0, end = self.size();  // of what is left
    while (static_cast<int64_t>(out.size()) != most) {
        const size_t found = from_right ? text.substr(0, end).rfind(by) : text.find(by, begin);
        if (found == text.npos) break;
        out.emplace_back(
            std::string(from_right ? text.substr(found + by.size(), end - found - by.size()) : text.substr(begin, found - begin)));
        (from_right ? end : begin) = from_right ? found : found + by.size();
        if (out.size() > kMaxElements) return wrong("split: makes more than {} parts", kMaxElements);
    }
    out.emplace_back(std::string(text.substr(begin, end - begin)));
    if (from_right) std::reverse(out.begin(), out.end());
    return Value(std::move(out));
}

// What the arguments start and end leave of a text, and where in it that begins, both in code points; none if start lies behind the text.
struct Part {
    std::string text;
    int64_t begin = 0;
};
std::optional<Part> part_of(const std::string& self, const Given& a) {
    if (!a.find(1) && !a.find(2)) return Part{self};
    const std::u32string points = code_points(self);
    const auto n = static_cast<int64_t>(points.size());
    const auto bound = [&](size_t i, int64_t otherwise) {
        const Value v = a.get(i, None{});
        if (!v.is_integer()) return otherwise;
        return v.integer() < 0 ? std::max<int64_t>(v.integer() + n, 0) : v.integer();
    };
    const int64_t begin = bound(1, 0), end = std::min(bound(2, n), n);
    if (begin > n || begin > end) return std::nullopt;
    return Part{utf8(std::u32string_view(points).substr(static_cast<size_t>(begin), static_cast<size_t>(end - begin))), begin};
}

Result<Value> has_affix(const std::string& self, const Given& a, bool prefix) {
    const Value given = a.get(0, None{});
    const List options = given.list() ? *given.list() : List{given};
    const auto part = part_of(self, a);
    for (const Value& v : options) {
        if (!v.text()) return wrong("startswith, endswith: take a string or a list of them, not {}", v.kind());
        if (part && (prefix ? part->text.starts_with(*v.text()) : part->text.ends_with(*v.text()))) return Value(true);
    }
    return Value(false);
}

Result<Value> stripped(const std::string& self, const Given& a, bool left, bool right) {
    const Value characters = a.get(0, None{});
    return Value(strip(self, characters.text(), left, right));
}

// A letter begins a word where none stands before it.
std::string title(const std::string& self) {
    std::string out;
    const std::u32string points = code_points(self);
    for (size_t at = 0, end = 0; at < points.size(); at = end) {
        const bool word = tokenizer::is_letter(points[at]);
        while (end < points.size() && tokenizer::is_letter(points[end]) == word) ++end;
        const std::string part = utf8(std::u32string_view(points).substr(at, end - at));
        out += word ? capitalized(part) : part;
    }
    return out;
}

Result<Value> place_of(const std::string& self, const Given& a, bool last) {
    const Value what = a.get(0, None{});
    if (!what.text()) return wrong("find: takes a string, not {}", what.kind());
    const auto part = part_of(self, a);
    const size_t found = !part ? self.npos : last ? part->text.rfind(*what.text()) : part->text.find(*what.text());
    if (found == self.npos) return Value(int64_t{-1});
    return Value(part->begin + static_cast<int64_t>(tokenizer::count_code_points(std::string_view(part->text).substr(0, found))));
}

bool all_of(const std::string& self, bool (*holds)(char32_t)) {
    const std::u32string points = code_points(self);
    return !points.empty() && std::all_of(points.begin(), points.end(), holds);
}

struct Row {
    Method call;
    std::vector<std::string_view> parameters = {};
    size_t required = 0;  // of them
};

const std::map<std::string_view, Row>& methods() {
    static const std::map<std::string_view, Row> table{
        {"strip", {[](const std::string& s, const Given& a) { return stripped(s, a, true, true); }, {"chars"}}},
        {"lstrip", {[](const std::string& s, const Given& a) { return stripped(s, a, true, false); }, {"chars"}}},
        {"rstrip", {[](const std::string& s, const Given& a) { return stripped(s, a, false, true); }, {"chars"}}},
        {"split", {[](const std::string& s, const Given& a) { return split(s, a, false); }, {"sep", "maxsplit"}}},
        {"rsplit", {[](const std::string& s, const Given& a) { return split(s, a, true); }, {"sep", "maxsplit"}}},
        {"splitlines",
         {[](const std::string& s, const Given& a) -> Result<Value> {
              List out;
              for (size_t at = 0; at < s.size();) {
                  const size_t end = std::min(s.find_first_of("\r\n", at), s.size());
                  const size_t next = std::min(end + 1 + (s.compare(end, 2, "\r\n") == 0), s.size());
                  out.emplace_back(s.substr(at, (a.get(0, false).truth() ? next : end) - at));
                  at = next;
                  if (out.size() > kMaxElements) return wrong("splitlines: makes more than {} lines", kMaxElements);
              }
              return Value(std::move(out));
          },
          {"keepends"}}},
        {"startswith", {[](const std::string& s, const Given& a) { return has_affix(s, a, true); }, {"prefix", "start", "end"}, 1}},
        {"endswith", {[](const std::string& s, const Given& a) { return has_affix(s, a, false); }, {"suffix", "start", "end"}, 1}},
        {"removeprefix",
         {[](const std::string& s, const Given& a) -> Result<Value> {
              const std::string p = a.get(0, "").str();
              return Value(s.starts_with(p) ? s.substr(p.size()) : s);
          },
          {"prefix"},
          1}},
        {"removesuffix",
         {[](const std::string& s, const Given& a) -> Result<Value> {
              const std::string p = a.get(0, "").str();
              return Value(s.ends_with(p) ? s.substr(0, s.size() - p.size()) : s);
          },
          {"suffix"},
          1}},
        {"upper", {[](const std::string& s, const Given&) -> Result<Value> { return Value(with_case(s, true)); }}},
        {"lower", {[](const std::string& s, const Given&) -> Result<Value> { return Value(with_case(s, false)); }}},
        {"capitalize", {[](const std::string& s, const Given&) -> Result<Value> { return Value(capitalized(s)); }}},
        {"title", {[](const std::string& s, const Given&) -> Result<Value> { return Value(title(s)); }}},
        {"replace",
         {[](const std::string& s, const Given& a) -> Result<Value> {
              const Value from = a.get(0, None{}), to = a.get(1, None{});
              if (!from.text() || !to.text()) return wrong("replace: takes two strings");
              return within(replaced(s, *from.text(), *to.text(), a.get(2, int64_t{-1}).integer()), "replace");
          },
          {"old", "new", "count"},
          2}},
        {"find", {[](const std::string& s, const Given& a) { return place_of(s, a, false); }, {"sub", "start", "end"}, 1}},
        {"rfind", {[](const std::string& s, const Given& a) { return place_of(s, a, true); }, {"sub", "start", "end"}, 1}},
        {"count",
         {[](const std::string& s, const Given& a) -> Result<Value> {
              const std::string what = a.get(0, "").str();
              if (what.empty()) return wrong("count: the string to count is empty");
              const std::string text = part_of(s, a).value_or(Part{}).text;
              int64_t n = 0;
              for (size_t at = text.find(what); at != text.npos; at = text.find(what, at + what.size())) ++n;
              return Value(n);
          },
          {"sub", "start", "end"},
          1}},
        {"join",
         {[](const std::string& s, const Given& a) -> Result<Value> {
              DS_TRY(const List parts, elements_of(a.get(0, None{})));
              std::string out;
              for (size_t i = 0; i < parts.size() && out.size() <= kMaxBytes; ++i) {
                  if (!parts[i].text()) return wrong("join: takes strings, not {}", parts[i].kind());
                  out += (i ? s : "") + *parts[i].text();
              }
              return within(std::move(out), "join");
          },
          {"iterable"},
          1}},
        {"isdigit", {[](const std::string& s, const Given&) -> Result<Value> { return Value(all_of(s, tokenizer::is_number)); }}},
        {"isalpha", {[](const std::string& s, const Given&) -> Result<Value> { return Value(all_of(s, tokenizer::is_letter)); }}},
        {"isspace", {[](const std::string& s, const Given&) -> Result<Value> { return Value(all_of(s, tokenizer::is_whitespace)); }}},
        {"isupper",
         {[](const std::string& s, const Given&) -> Result<Value> { return Value(with_case(s, true) == s && with_case(s, false) != s); }}},
        {"islower",
         {[](const std::string& s, const Given&) -> Result<Value> { return Value(with_case(s, false) == s && with_case(s, true) != s); }}},
    };
    return table;
}

Result<Value> dict_method(const Dict& dict, std::string_view name, const Arguments& arguments) {
    if (name == "get") {
        DS_TRY(const Given a, bind(name, {"key", "default"}, 1, arguments));
        const Value key = a.get(0, None{});
        const Value* found = key.text() ? dict.find(*key.text()) : nullptr;
        return found ? *found : a.get(1, None{});
    }
    DS_CHECK(bind(name, {}, 0, arguments).status());
    List out;
    for (const auto& [key, value] : dict.items) {
        if (name == "keys") out.emplace_back(key);
        else if (name == "values") out.push_back(value);
        else out.emplace_back(List{Value(key), value});
    }
    return Value(std::move(out));
}

Result<Value> list_method(const List& list, std::string_view name, const Arguments& arguments) {
    DS_TRY(const Given a, bind(name, {"value"}, 1, arguments));
    const Value what = a.get(0, None{});
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
    if (of.list()) return list_method(*of.list(), name, a);
    const Row& row = methods().at(name);
    DS_TRY(const Given given, bind(name, row.parameters, row.required, a));
    return row.call(*of.text(), given);
}

}  // namespace ds::jinja
