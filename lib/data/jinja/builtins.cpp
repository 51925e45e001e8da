#include "data/jinja/builtins.h"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <map>

namespace ds::jinja {

const Value* Arguments::find(size_t i, std::string_view name) const {
    if (i < positions.size()) return &positions[i];
    for (const auto& [given, value] : names)
        if (given == name) return &value;
    return nullptr;
}

Value Arguments::get(size_t i, std::string_view name, Value otherwise) const {
    const Value* found = find(i, name);
    return found ? *found : std::move(otherwise);
}

namespace {

template <class... Args>
Status wrong(fmt::format_string<Args...> format, Args&&... args) {
    return fail(Code::E_INVALID_ARGUMENT, format, std::forward<Args>(args)...);
}

Result<std::string> text_of(const Value& x, std::string_view what) {
    if (x.undefined() || x.none() || x.list() || x.dict())
        return wrong("{}: takes a string, not {}", what, x.undefined() ? x.as<Undefined>()->name + ", which is not defined" : x.kind());
    return x.str();
}

}  // namespace

Result<List> elements_of(const Value& v) {
    if (v.list()) return *v.list();
    List out;
    if (const Dict* dict = v.dict()) {
        for (const auto& [key, value] : dict->items) out.emplace_back(key);
        return out;
    }
    if (v.text()) {
        for (const char32_t c : code_points(*v.text())) out.emplace_back(utf8(std::u32string_view(&c, 1)));
        return out;
    }
    if (v.undefined()) return out;
    return wrong("{} has no elements to go over", v.kind());
}

Result<int64_t> length_of(const Value& v) {
    if (v.text()) return static_cast<int64_t>(code_points(*v.text()).size());
    if (v.list()) return static_cast<int64_t>(v.list()->size());
    if (v.dict()) return static_cast<int64_t>(v.dict()->items.size());
    if (v.undefined()) return int64_t{0};
    return wrong("{} has no length", v.kind());
}

Result<bool> contains(const Value& in, const Value& x) {
    if (in.text()) {
        if (!x.text()) return wrong("'in' a string needs a string on its left, not {}", x.kind());
        return in.text()->find(*x.text()) != std::string::npos;
    }
    if (in.list()) return std::any_of(in.list()->begin(), in.list()->end(), [&](const Value& v) { return equal(v, x); });
    if (in.dict()) return x.text() && in.dict()->find(*x.text());
    if (in.undefined()) return false;
    return wrong("'in' needs a string, list or mapping on its right, not {}", in.kind());
}

Result<int> compare(const Value& a, const Value& b) {
    const auto order = [](const auto& x, const auto& y) { return x < y ? -1 : y < x ? 1 : 0; };
    if (a.is_integer() && b.is_integer()) return order(a.integer(), b.integer());
    if (a.is_number() && b.is_number()) return order(a.number(), b.number());
    if (a.text() && b.text()) return order(*a.text(), *b.text());  // bytes of UTF-8 sort as code points
    if (a.list() && b.list()) {
        for (size_t i = 0; i < a.list()->size() && i < b.list()->size(); ++i)
            if (!equal((*a.list())[i], (*b.list())[i])) return compare((*a.list())[i], (*b.list())[i]);
        return order(a.list()->size(), b.list()->size());
    }
    return wrong("{} and {} have no order", a.kind(), b.kind());
}

namespace {

Result<Value> upper(const Value& x, const Arguments&, Scope&) {
    DS_TRY(const std::string t, text_of(x, "upper"));
    return Value(with_case(t, true));
}
Result<Value> lower(const Value& x, const Arguments&, Scope&) {
    DS_TRY(const std::string t, text_of(x, "lower"));
    return Value(with_case(t, false));
}
Result<Value> trim(const Value& x, const Arguments& a, Scope&) {
    const Value characters = a.get(0, "chars", None{});
    return Value(strip(x.str(), characters.text(), true, true));
}
Result<Value> via_method(const char* name, const Value& x, const Arguments& a) {
    DS_TRY(const std::string t, text_of(x, name));
    return call_method(Value(t), name, a);
}
Result<Value> capitalize(const Value& x, const Arguments& a, Scope&) { return via_method("capitalize", x, a); }
Result<Value> title(const Value& x, const Arguments& a, Scope&) { return via_method("title", x, a); }
Result<Value> replace(const Value& x, const Arguments& a, Scope&) { return via_method("replace", x, a); }

Result<Value> length(const Value& x, const Arguments&, Scope&) {
    DS_TRY(const int64_t n, length_of(x));
    return Value(n);
}
Result<Value> string(const Value& x, const Arguments&, Scope&) { return Value(x.str()); }
Result<Value> to_int(const Value& x, const Arguments& a, Scope&) {
    const Value otherwise = a.get(0, "default", int64_t{0});
    if (x.is_integer()) return Value(x.integer());
    if (x.is_number()) return std::abs(x.number()) < 9e18 ? Value(static_cast<int64_t>(x.number())) : otherwise;
    if (!x.text()) return otherwise;
    const std::string t = strip(*x.text(), nullptr, true, true);
    char* end = nullptr;
    const double value = std::strtod(t.c_str(), &end);
    return !t.empty() && *end == 0 && std::abs(value) < 9e18 ? Value(static_cast<int64_t>(value)) : otherwise;
}
Result<Value> to_float(const Value& x, const Arguments& a, Scope&) {
    const Value otherwise = a.get(0, "default", 0.0);
    if (x.is_number()) return Value(x.number());
    if (!x.text()) return otherwise;
    char* end = nullptr;
    const double value = std::strtod(x.text()->c_str(), &end);
    return !x.text()->empty() && *end == 0 ? Value(value) : otherwise;
}
Result<Value> absolute(const Value& x, const Arguments&, Scope&) {
    if (x.is_integer()) return Value(x.integer() < 0 ? -x.integer() : x.integer());
    if (x.is_number()) return Value(std::abs(x.number()));
    return wrong("abs: takes a number, not {}", x.kind());
}
Result<Value> round_to(const Value& x, const Arguments& a, Scope&) {
    if (!x.is_number()) return wrong("round: takes a number, not {}", x.kind());
    const double scale = std::pow(10.0, static_cast<double>(a.get(0, "precision", int64_t{0}).integer()));
    const std::string how = a.get(1, "method", "common").str();
    const double scaled = x.number() * scale;
    return Value((how == "ceil" ? std::ceil(scaled) : how == "floor" ? std::floor(scaled) : std::nearbyint(scaled)) / scale);
}
Result<Value> with_default(const Value& x, const Arguments& a, Scope&) {
    const bool replaces = x.undefined() || (a.get(1, "boolean", false).truth() && !x.truth());
    return replaces ? a.get(0, "default_value", "") : x;
}
Result<Value> end_of(const Value& x, bool last) {
    DS_TRY(List list, elements_of(x));
    if (list.empty()) return Value(Undefined{last ? "the last element of nothing" : "the first element of nothing"});
    return last ? list.back() : list.front();
}
Result<Value> first(const Value& x, const Arguments&, Scope&) { return end_of(x, false); }
Result<Value> last(const Value& x, const Arguments&, Scope&) { return end_of(x, true); }
Result<Value> list(const Value& x, const Arguments&, Scope&) {
    DS_TRY(List l, elements_of(x));
    return Value(std::move(l));
}
Result<Value> reverse(const Value& x, const Arguments&, Scope&) {
    DS_TRY(List l, elements_of(x));
    std::reverse(l.begin(), l.end());
    if (!x.text()) return Value(std::move(l));
    std::string text;
    for (const Value& v : l) text += *v.text();
    return Value(std::move(text));
}
Result<Value> join(const Value& x, const Arguments& a, Scope& scope) {
    DS_TRY(const List l, elements_of(x));
    const std::string between = a.get(0, "d", "").str();
    const Value* attribute = a.find(1, "attribute");
    std::string out;
    for (size_t i = 0; i < l.size(); ++i) {
        Value v = l[i];
        if (attribute) { DS_TRY(v, scope.member(v, attribute->str())); }
        out += (i ? between : "") + v.str();
        if (out.size() > kMaxBytes) return wrong("join: makes more than {} bytes", kMaxBytes);
    }
    return Value(std::move(out));
}
Result<Value> items(const Value& x, const Arguments&, Scope&) {
    if (x.undefined()) return Value(List{});
    if (!x.dict()) return wrong("items: takes a mapping, not {}", x.kind());
    List out;
    for (const auto& [key, value] : x.dict()->items) out.emplace_back(List{Value(key), value});
    return Value(std::move(out));
}
Result<Value> dictsort(const Value& x, const Arguments& a, Scope&) {
    if (!x.dict()) return wrong("dictsort: takes a mapping, not {}", x.kind());
    auto entries = x.dict()->items;
    const bool sensitive = a.get(0, "case_sensitive", false).truth();
    std::stable_sort(entries.begin(), entries.end(), [&](const auto& p, const auto& q) {
        return sensitive ? p.first < q.first : with_case(p.first, false) < with_case(q.first, false);
    });
    List out;
    for (auto& [key, value] : entries) out.emplace_back(List{Value(key), value});
    return Value(std::move(out));
}
Result<Value> tojson(const Value& x, const Arguments& a, Scope&) {
    const Value indent = a.get(1, "indent", a.get(0, "indent", None{}));
    std::string out;
    if (x.undefined()) return wrong("tojson: {} is not defined", x.as<Undefined>()->name);
    dump_json(x, indent.is_integer() ? static_cast<int>(std::clamp<int64_t>(indent.integer(), 0, 16)) : -1, 0, out);
    if (out.size() > kMaxBytes) return wrong("tojson: makes more than {} bytes", kMaxBytes);
    return Value(std::move(out));
}
Result<Value> indent(const Value& x, const Arguments& a, Scope&) {
    DS_TRY(const std::string text, text_of(x, "indent"));
    const Value width = a.get(0, "width", int64_t{4});
    const std::string by =
        width.text() ? *width.text() : std::string(static_cast<size_t>(std::clamp<int64_t>(width.integer(), 0, 1000)), ' ');
    const bool first_too = a.get(1, "first", false).truth(), blank_too = a.get(2, "blank", false).truth();
    std::string out;
    for (size_t at = 0, line = 0; at <= text.size(); ++line) {
        const size_t end = std::min(text.find('\n', at), text.size());
        if ((line > 0 || first_too) && (blank_too || end > at)) out += by;
        out.append(text, at, end - at);
        if (end < text.size()) out += '\n';
        at = end + 1;
        if (out.size() > kMaxBytes) return wrong("indent: makes more than {} bytes", kMaxBytes);
    }
    return Value(std::move(out));
}
Result<Value> sort(const Value& x, const Arguments& a, Scope& scope) {
    DS_TRY(List l, elements_of(x));
    const bool reversed = a.get(0, "reverse", false).truth(), sensitive = a.get(1, "case_sensitive", false).truth();
    const Value* attribute = a.find(2, "attribute");
    std::vector<std::pair<Value, Value>> keyed;
    for (Value& v : l) {
        Value key = v;
        if (attribute) { DS_TRY(key, scope.member(v, attribute->str())); }
        if (key.text() && !sensitive) key = with_case(*key.text(), false);
        if (!keyed.empty()) DS_CHECK(compare(keyed.front().first, key).status());
        keyed.emplace_back(std::move(key), std::move(v));
    }
    std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& p, const auto& q) {
        const auto order = compare(p.first, q.first);
        return order.ok() && (reversed ? *order > 0 : *order < 0);
    });
    List out;
    for (auto& [key, value] : keyed) out.push_back(std::move(value));
    return Value(std::move(out));
}
Result<Value> unique(const Value& x, const Arguments&, Scope&) {
    DS_TRY(const List l, elements_of(x));
    List out;
    if (l.size() > 10'000) return wrong("unique: takes at most 10000 elements, not {}", l.size());
    for (const Value& v : l)
        if (std::none_of(out.begin(), out.end(), [&](const Value& o) { return equal(o, v); })) out.push_back(v);
    return Value(std::move(out));
}
Result<Value> extreme(const Value& x, int sign) {
    DS_TRY(const List l, elements_of(x));
    if (l.empty()) return Value(Undefined{"the extreme of nothing"});
    Value best = l.front();
    for (const Value& v : l) {
        DS_TRY(const int order, compare(v, best));
        if (order * sign > 0) best = v;
    }
    return best;
}
Result<Value> smallest(const Value& x, const Arguments&, Scope&) { return extreme(x, -1); }
Result<Value> largest(const Value& x, const Arguments&, Scope&) { return extreme(x, 1); }
Result<Value> sum(const Value& x, const Arguments& a, Scope& scope) {
    DS_TRY(const List l, elements_of(x));
    const Value* attribute = a.find(0, "attribute");
    double real = 0;
    int64_t whole = 0;
    bool all_whole = true;
    for (Value v : l) {
        if (attribute && !attribute->none()) { DS_TRY(v, scope.member(v, attribute->str())); }
        if (!v.is_number()) return wrong("sum: takes numbers, not {}", v.kind());
        all_whole &= v.is_integer();
        real += v.number();
        if (v.is_integer() && __builtin_add_overflow(whole, v.integer(), &whole)) return wrong("sum: is too large");
    }
    return all_whole ? Value(whole) : Value(real);
}
Result<Value> map(const Value& x, const Arguments& a, Scope& scope) {
    DS_TRY(const List l, elements_of(x));
    const Value* attribute = a.positions.empty() ? a.find(0, "attribute") : nullptr;
    if (!attribute && (a.positions.empty() || !a.positions[0].text())) return wrong("map: needs attribute=, or the name of a filter");
    List out;
    for (const Value& v : l) {
        Value mapped;
        if (attribute) {
            DS_TRY(mapped, scope.member(v, attribute->str()));
            if (mapped.undefined()) mapped = a.get(9, "default", mapped);
        } else {
            Arguments rest{{a.positions.begin() + 1, a.positions.end()}, a.names};
            DS_TRY(mapped, scope.apply_filter(*a.positions[0].text(), v, rest));
        }
        out.push_back(std::move(mapped));
    }
    return Value(std::move(out));
}
// select, reject: by a test of the element; selectattr, rejectattr: of a member of it.
Result<Value> choose(const Value& x, const Arguments& a, Scope& scope, bool by_member, bool keep) {
    DS_TRY(const List l, elements_of(x));
    const size_t skipped = by_member ? 1 : 0;
    if (a.positions.size() < skipped) return wrong("selectattr: needs the name of a member");
    List out;
    for (const Value& v : l) {
        Value looked_at = v;
        if (by_member) { DS_TRY(looked_at, scope.member(v, a.positions[0].str())); }
        bool chosen = looked_at.truth();
        if (a.positions.size() > skipped) {
            const Arguments rest{{a.positions.begin() + static_cast<ptrdiff_t>(skipped) + 1, a.positions.end()}, {}};
            DS_TRY(const Value answer, scope.apply_test(a.positions[skipped].str(), looked_at, rest));
            chosen = answer.truth();
        }
        if (chosen == keep) out.push_back(v);
    }
    return Value(std::move(out));
}
Result<Value> select(const Value& x, const Arguments& a, Scope& s) { return choose(x, a, s, false, true); }
Result<Value> reject(const Value& x, const Arguments& a, Scope& s) { return choose(x, a, s, false, false); }
Result<Value> selectattr(const Value& x, const Arguments& a, Scope& s) { return choose(x, a, s, true, true); }
Result<Value> rejectattr(const Value& x, const Arguments& a, Scope& s) { return choose(x, a, s, true, false); }
Result<Value> as_it_is(const Value& x, const Arguments&, Scope&) { return x; }  // nothing is escaped here, so everything is safe

const std::map<std::string_view, Filter>& filters() {
    static const std::map<std::string_view, Filter> table{
        {"abs", absolute},
        {"capitalize", capitalize},
        {"count", length},
        {"d", with_default},
        {"default", with_default},
        {"dictsort", dictsort},
        {"first", first},
        {"float", to_float},
        {"indent", indent},
        {"int", to_int},
        {"items", items},
        {"join", join},
        {"last", last},
        {"length", length},
        {"list", list},
        {"lower", lower},
        {"map", map},
        {"max", largest},
        {"min", smallest},
        {"reject", reject},
        {"rejectattr", rejectattr},
        {"replace", replace},
        {"reverse", reverse},
        {"round", round_to},
        {"safe", as_it_is},
        {"select", select},
        {"selectattr", selectattr},
        {"sort", sort},
        {"string", string},
        {"sum", sum},
        {"title", title},
        {"tojson", tojson},
        {"trim", trim},
        {"unique", unique},
        {"upper", upper},
    };
    return table;
}

using Test = Result<bool> (*)(const Value& x, const Arguments& a);
Result<bool> by_order(const Value& x, const Arguments& a, bool (*holds)(int)) {
    DS_TRY(const int order, compare(x, a.get(0, "", None{})));
    return holds(order);
}
const std::map<std::string_view, Test>& tests() {
    static const std::map<std::string_view, Test> table{
        {"defined", [](const Value& x, const Arguments&) -> Result<bool> { return !x.undefined(); }},
        {"undefined", [](const Value& x, const Arguments&) -> Result<bool> { return x.undefined(); }},
        {"none", [](const Value& x, const Arguments&) -> Result<bool> { return x.none(); }},
        {"string", [](const Value& x, const Arguments&) -> Result<bool> { return x.text() != nullptr; }},
        {"number", [](const Value& x, const Arguments&) -> Result<bool> { return x.is_number(); }},
        {"integer", [](const Value& x, const Arguments&) -> Result<bool> { return x.as<int64_t>() != nullptr; }},
        {"float", [](const Value& x, const Arguments&) -> Result<bool> { return x.as<double>() != nullptr; }},
        {"boolean", [](const Value& x, const Arguments&) -> Result<bool> { return x.as<bool>() != nullptr; }},
        {"true", [](const Value& x, const Arguments&) -> Result<bool> { return x.as<bool>() && *x.as<bool>(); }},
        {"false", [](const Value& x, const Arguments&) -> Result<bool> { return x.as<bool>() && !*x.as<bool>(); }},
        {"mapping", [](const Value& x, const Arguments&) -> Result<bool> { return x.dict() != nullptr; }},
        {"sequence", [](const Value& x, const Arguments&) -> Result<bool> { return x.list() || x.text() || x.dict(); }},
        {"iterable", [](const Value& x, const Arguments&) -> Result<bool> { return x.list() || x.text() || x.dict() || x.undefined(); }},
        {"callable", [](const Value& x, const Arguments&) -> Result<bool> { return x.as<Function>() != nullptr; }},
        {"odd", [](const Value& x, const Arguments&) -> Result<bool> { return x.is_integer() && x.integer() % 2 != 0; }},
        {"even", [](const Value& x, const Arguments&) -> Result<bool> { return x.is_integer() && x.integer() % 2 == 0; }},
        {"divisibleby",
         [](const Value& x, const Arguments& a) -> Result<bool> {
             const int64_t by = a.get(0, "num", int64_t{0}).integer();
             return by != 0 && x.integer() % by == 0;
         }},
        {"lower",
         [](const Value& x, const Arguments&) -> Result<bool> {
             return x.text() && with_case(*x.text(), false) == *x.text() && with_case(*x.text(), true) != *x.text();
         }},
        {"upper",
         [](const Value& x, const Arguments&) -> Result<bool> {
             return x.text() && with_case(*x.text(), true) == *x.text() && with_case(*x.text(), false) != *x.text();
         }},
        {"in", [](const Value& x, const Arguments& a) { return contains(a.get(0, "seq", List{}), x); }},
        {"eq", [](const Value& x, const Arguments& a) -> Result<bool> { return equal(x, a.get(0, "", None{})); }},
        {"equalto", [](const Value& x, const Arguments& a) -> Result<bool> { return equal(x, a.get(0, "", None{})); }},
        {"sameas", [](const Value& x, const Arguments& a) -> Result<bool> { return equal(x, a.get(0, "", None{})); }},
        {"ne", [](const Value& x, const Arguments& a) -> Result<bool> { return !equal(x, a.get(0, "", None{})); }},
        {"lt", [](const Value& x, const Arguments& a) { return by_order(x, a, [](int o) { return o < 0; }); }},
        {"le", [](const Value& x, const Arguments& a) { return by_order(x, a, [](int o) { return o <= 0; }); }},
        {"gt", [](const Value& x, const Arguments& a) { return by_order(x, a, [](int o) { return o > 0; }); }},
        {"ge", [](const Value& x, const Arguments& a) { return by_order(x, a, [](int o) { return o >= 0; }); }}};
    return table;
}

template <class Table>
std::string names_of(const Table& table) {
    std::string out;
    for (const auto& [name, row] : table) out += (out.empty() ? "" : ", ") + std::string(name);
    return out;
}

using Callable = Result<Value> (*)(const Arguments& a);
Result<Value> range(const Arguments& a) {
    for (const Value& v : a.positions)
        if (!v.is_integer()) return wrong("range: takes integers, not {}", v.kind());
    if (a.positions.empty() || a.positions.size() > 3) return wrong("range: takes one to three integers");
    const int64_t begin = a.positions.size() > 1 ? a.positions[0].integer() : 0,
                  end = a.positions[a.positions.size() > 1 ? 1 : 0].integer();
    const int64_t step = a.positions.size() > 2 ? a.positions[2].integer() : 1;
    if (step == 0) return wrong("range: the step must not be 0");
    List out;
    for (__int128 i = begin; step > 0 ? i < end : i > end; i += step) {
        if (out.size() == kMaxElements) return wrong("range: has more than {} elements", kMaxElements);
        out.emplace_back(static_cast<int64_t>(i));
    }
    return Value(std::move(out));
}
Result<Value> make_dict(const Arguments& a, bool is_namespace) {
    Dict dict;
    for (const Value& v : a.positions) {
        if (!v.dict()) return wrong("{}: takes a mapping, not {}", is_namespace ? "namespace" : "dict", v.kind());
        for (const auto& [key, value] : v.dict()->items) dict.set(key, value);
    }
    for (const auto& [key, value] : a.names) dict.set(key, value);
    dict.is_namespace = is_namespace;
    return Value(std::move(dict));
}
// The time of the machine, as transformers gives it to templates that write today's date.
Result<Value> strftime_now(const Arguments& a) {
    const std::string format = a.get(0, "format", "").str();
    const std::time_t now = std::time(nullptr);
    std::tm local{};
    char text[256];
    localtime_r(&now, &local);
    return Value(std::string(text, std::strftime(text, sizeof text, format.c_str(), &local)));
}

const std::map<std::string_view, Callable>& functions() {
    static const std::map<std::string_view, Callable> table{
        {"range", range},
        {"namespace", [](const Arguments& a) { return make_dict(a, true); }},
        {"dict", [](const Arguments& a) { return make_dict(a, false); }},
        {"raise_exception",
         [](const Arguments& a) -> Result<Value> { return wrong("the template says: {}", a.get(0, "message", "").str()); }},
        {"strftime_now", strftime_now}};
    return table;
}

}  // namespace

bool is_filter(std::string_view name) { return filters().contains(name); }
bool is_test(std::string_view name) { return tests().contains(name); }
bool is_function(std::string_view name) { return functions().contains(name); }
std::string filter_names() { return names_of(filters()); }
std::string test_names() { return names_of(tests()); }

Result<Value> filter(std::string_view name, const Value& x, const Arguments& a, Scope& scope) {
    const auto found = filters().find(name);
    if (found == filters().end()) return wrong("there is no filter {}; there are {}", name, filter_names());
    return found->second(x, a, scope);
}

Result<Value> test(std::string_view name, const Value& x, const Arguments& a, Scope&) {
    const auto found = tests().find(name);
    if (found == tests().end()) return wrong("there is no test {}; there are {}", name, test_names());
    DS_TRY(const bool holds, found->second(x, a));
    return Value(holds);
}

Result<Value> call_function(std::string_view name, const Arguments& a) { return functions().at(name)(a); }

}  // namespace ds::jinja
