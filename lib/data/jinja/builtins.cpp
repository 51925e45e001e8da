#include "data/jinja/builtins.h"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <map>

namespace ds::jinja {

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

Result<Given> bind(std::string_view callee, const std::vector<std::string_view>& parameters, size_t required, const Arguments& a) {
    if (a.positions.size() > parameters.size())
        return wrong("{}: takes {} arguments ({}), not {}", callee, parameters.size(), fmt::join(parameters, ", "), a.positions.size());
    Given out{{a.positions.begin(), a.positions.end()}};
    out.values.resize(parameters.size());
    for (const auto& [name, value] : a.names) {
        const auto at = static_cast<size_t>(std::find(parameters.begin(), parameters.end(), name) - parameters.begin());
        if (at == parameters.size()) return wrong("{}: takes no argument {}; it takes ({})", callee, name, fmt::join(parameters, ", "));
        if (out.values[at]) return wrong("{}: argument {} is given twice", callee, name);
        out.values[at] = value;
    }
    for (size_t i = 0; i < required; ++i)
        if (!out.values[i]) return wrong("{}: needs the argument {}", callee, parameters[i]);
    return out;
}

Result<Value> within(std::string text, std::string_view maker) {
    if (text.size() > kMaxBytes) return wrong("{}: makes more than {} bytes", maker, kMaxBytes);
    return Value(std::move(text));
}

Result<List> elements_of(const Value& v) {
    if (v.list()) return *v.list();
    List out;
    if (const Dict* dict = v.dict()) {
        for (const auto& [key, value] : dict->items) out.emplace_back(key);
        return out;
    }
    if (v.text()) {
        const std::u32string points = code_points(*v.text());
        if (points.size() > kMaxElements) return wrong("a string of more than {} characters has too many elements", kMaxElements);
        for (const char32_t c : points) out.emplace_back(utf8(std::u32string_view(&c, 1)));
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

Result<Value> upper(const Value& x, const Given&, Scope&) {
    DS_TRY(const std::string t, text_of(x, "upper"));
    return Value(with_case(t, true));
}
Result<Value> lower(const Value& x, const Given&, Scope&) {
    DS_TRY(const std::string t, text_of(x, "lower"));
    return Value(with_case(t, false));
}
Result<Value> trim(const Value& x, const Given& a, Scope&) { return Value(strip(x.str(), a.get(0, None{}).text(), true, true)); }
Result<Value> capitalize(const Value& x, const Given&, Scope&) {
    DS_TRY(const std::string t, text_of(x, "capitalize"));
    return Value(capitalized(t));
}
// Words are what white space, hyphens and opening brackets part, unlike those of Python's method.
Result<Value> title(const Value& x, const Given&, Scope&) {
    DS_TRY(const std::string t, text_of(x, "title"));
    std::string out;
    for (size_t at = 0; at < t.size();) {
        constexpr const char* parting = "- \t\n\r\f\v({[<";
        const size_t end = std::min(t.find_first_of(parting, at), t.size());
        out += capitalized(std::string_view(t).substr(at, end - at));
        at = std::min(t.find_first_not_of(parting, end), t.size());
        out.append(t, end, at - end);
    }
    return Value(std::move(out));
}
Result<Value> replace(const Value& x, const Given& a, Scope&) {
    DS_TRY(const std::string t, text_of(x, "replace"));
    DS_TRY(const std::string from, text_of(a.get(0, None{}), "replace: old"));
    DS_TRY(const std::string to, text_of(a.get(1, None{}), "replace: new"));
    const Value most = a.get(2, None{});
    return within(replaced(t, from, to, most.none() ? -1 : most.integer()), "replace");
}

Result<Value> length(const Value& x, const Given&, Scope&) {
    DS_TRY(const int64_t n, length_of(x));
    return Value(n);
}
Result<Value> string(const Value& x, const Given&, Scope&) { return within(x.str(), "string"); }
Result<Value> to_int(const Value& x, const Given& a, Scope&) {
    const Value otherwise = a.get(0, int64_t{0}), base = a.get(1, int64_t{10});
    if (x.is_integer()) return Value(x.integer());
    if (x.is_number()) return std::abs(x.number()) < 9e18 ? Value(static_cast<int64_t>(x.number())) : otherwise;
    if (base.integer() != 10) return wrong("int: base {} is not built; 10 is", base.str());
    if (!x.text()) return otherwise;
    const std::string t = strip(*x.text(), nullptr, true, true);
    char* end = nullptr;
    const double value = std::strtod(t.c_str(), &end);
    return !t.empty() && *end == 0 && std::abs(value) < 9e18 ? Value(static_cast<int64_t>(value)) : otherwise;
}
Result<Value> to_float(const Value& x, const Given& a, Scope&) {
    const Value otherwise = a.get(0, 0.0);
    if (x.is_number()) return Value(x.number());
    if (!x.text()) return otherwise;
    char* end = nullptr;
    const double value = std::strtod(x.text()->c_str(), &end);
    return !x.text()->empty() && *end == 0 ? Value(value) : otherwise;
}
Result<Value> absolute(const Value& x, const Given&, Scope&) {
    if (x.is_integer() && x.integer() == INT64_MIN) return wrong("abs: {} is too large", x.integer());
    if (x.is_integer()) return Value(x.integer() < 0 ? -x.integer() : x.integer());
    if (x.is_number()) return Value(std::abs(x.number()));
    return wrong("abs: takes a number, not {}", x.kind());
}
Result<Value> round_to(const Value& x, const Given& a, Scope&) {
    if (!x.is_number()) return wrong("round: takes a number, not {}", x.kind());
    const double scale = std::pow(10.0, a.get(0, int64_t{0}).number());
    const std::string how = a.get(1, "common").str();
    if (how != "common" && how != "ceil" && how != "floor") return wrong("round: method must be common, ceil or floor, not {}", how);
    const double scaled = x.number() * scale;
    return Value((how == "ceil" ? std::ceil(scaled) : how == "floor" ? std::floor(scaled) : std::nearbyint(scaled)) / scale);
}
Result<Value> with_default(const Value& x, const Given& a, Scope&) {
    const bool replaces = x.undefined() || (a.get(1, false).truth() && !x.truth());
    return replaces ? a.get(0, "") : x;
}
Result<Value> end_of(const Value& x, bool last) {
    DS_TRY(List list, elements_of(x));
    if (list.empty()) return Value(Undefined{last ? "the last element of nothing" : "the first element of nothing"});
    return last ? list.back() : list.front();
}
Result<Value> first(const Value& x, const Given&, Scope&) { return end_of(x, false); }
Result<Value> last(const Value& x, const Given&, Scope&) { return end_of(x, true); }
Result<Value> list(const Value& x, const Given&, Scope&) {
    DS_TRY(List l, elements_of(x));
    return Value(std::move(l));
}
Result<Value> reverse(const Value& x, const Given&, Scope&) {
    DS_TRY(List l, elements_of(x));
    std::reverse(l.begin(), l.end());
    if (!x.text()) return Value(std::move(l));
    std::string text;
    for (const Value& v : l) text += *v.text();
    return Value(std::move(text));
}
Result<Value> join(const Value& x, const Given& a, Scope& scope) {
    DS_TRY(const List l, elements_of(x));
    const std::string between = a.get(0, "").str();
    const Value attribute = a.get(1, None{});
    std::string out;
    for (size_t i = 0; i < l.size() && out.size() <= kMaxBytes; ++i) {
        Value v = l[i];
        if (!attribute.none()) { DS_TRY(v, scope.member(v, attribute.str())); }
        out += (i ? between : "") + v.str();
    }
    return within(std::move(out), "join");
}
Result<Value> items(const Value& x, const Given&, Scope&) {
    if (x.undefined()) return Value(List{});
    if (!x.dict()) return wrong("items: takes a mapping, not {}", x.kind());
    List out;
    for (const auto& [key, value] : x.dict()->items) out.emplace_back(List{Value(key), value});
    return Value(std::move(out));
}
Value without_case(const Value& v, bool case_sensitive) { return v.text() && !case_sensitive ? Value(with_case(*v.text(), false)) : v; }
// Elements in the order of their keys.
Result<Value> sorted(std::vector<std::pair<Value, Value>> keyed, bool reversed, Scope& scope) {
    size_t bytes = 0;
    for (const auto& [key, value] : keyed) {
        DS_CHECK(compare(keyed.front().first, key).status());
        bytes += key.extent().bytes;
    }
    DS_CHECK(scope.charge(bytes * static_cast<size_t>(std::log2(keyed.size() + 1) + 1)));
    std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& p, const auto& q) {
        const auto order = compare(p.first, q.first);
        return order.ok() && (reversed ? *order > 0 : *order < 0);
    });
    List out;
    for (auto& [key, value] : keyed) out.push_back(std::move(value));
    return Value(std::move(out));
}
Result<Value> dictsort(const Value& x, const Given& a, Scope& scope) {
    if (!x.dict()) return wrong("dictsort: takes a mapping, not {}", x.kind());
    const std::string by = a.get(1, "key").str();
    if (by != "key" && by != "value") return wrong("dictsort: by must be key or value, not {}", by);
    std::vector<std::pair<Value, Value>> keyed;
    for (const auto& [key, value] : x.dict()->items)
        keyed.emplace_back(without_case(by == "key" ? Value(key) : value, a.get(0, false).truth()), List{Value(key), value});
    return sorted(std::move(keyed), a.get(2, false).truth(), scope);
}
Result<Value> tojson(const Value& x, const Given& a, Scope& scope) {
    if (x.undefined()) return wrong("tojson: {} is not defined", x.as<Undefined>()->name);
    JsonStyle style{.ascii = a.get(0, false).truth(), .sorted = a.get(3, false).truth()};
    const Value indent = a.get(1, None{}), separators = a.get(2, None{});
    if (indent.text()) style.indent = *indent.text();
    else if (indent.is_integer()) style.indent = std::string(static_cast<size_t>(std::clamp<int64_t>(indent.integer(), 0, 16)), ' ');
    else if (!indent.none()) return wrong("tojson: indent must be an integer or a string, not {}", indent.kind());
    if (style.indent) style.between = ",";
    if (const List* pair = separators.list(); pair && pair->size() == 2 && pair->at(0).text() && pair->at(1).text())
        style.between = *pair->at(0).text(), style.behind_key = *pair->at(1).text();
    else if (!separators.none()) return wrong("tojson: separators must be two strings, not {}", separators.kind());
    DS_CHECK(scope.charge(x.extent().bytes));
    std::string out;
    dump_json(x, style, 0, out);
    return within(std::move(out), "tojson");
}
Result<Value> indent(const Value& x, const Given& a, Scope&) {
    DS_TRY(const std::string text, text_of(x, "indent"));
    const Value width = a.get(0, int64_t{4});
    const std::string by =
        width.text() ? *width.text() : std::string(static_cast<size_t>(std::clamp<int64_t>(width.integer(), 0, 1000)), ' ');
    const bool first_too = a.get(1, false).truth(), blank_too = a.get(2, false).truth();
    std::string out;
    for (size_t at = 0, line = 0; at <= text.size() && out.size() <= kMaxBytes; ++line) {
        const size_t end = std::min(text.find('\n', at), text.size());
        if ((line > 0 || first_too) && (blank_too || end > at)) out += by;
        out.append(text, at, end - at);
        if (end < text.size()) out += '\n';
        at = end + 1;
    }
    return within(std::move(out), "indent");
}
// The elements, each behind what it is sorted or told apart by.
Result<std::vector<std::pair<Value, Value>>> keyed_elements(const Value& x, bool case_sensitive, const Value& attribute, Scope& scope) {
    DS_TRY(const List l, elements_of(x));
    std::vector<std::pair<Value, Value>> out;
    for (const Value& v : l) {
        Value key = v;
        if (!attribute.none()) { DS_TRY(key, scope.member(v, attribute.str())); }
        out.emplace_back(without_case(key, case_sensitive), v);
    }
    return out;
}
Result<Value> sort(const Value& x, const Given& a, Scope& scope) {
    DS_TRY(auto keyed, keyed_elements(x, a.get(1, false).truth(), a.get(2, None{}), scope));
    return sorted(std::move(keyed), a.get(0, false).truth(), scope);
}
Result<Value> unique(const Value& x, const Given& a, Scope& scope) {
    DS_TRY(const auto all, keyed_elements(x, a.get(0, false).truth(), a.get(1, None{}), scope));
    List keys, out;
    for (const auto& [key, value] : all) {
        DS_CHECK(scope.charge(keys.size() * key.extent().bytes));
        if (std::any_of(keys.begin(), keys.end(), [&key = key](const Value& k) { return equal(k, key); })) continue;
        keys.push_back(key);
        out.push_back(value);
    }
    return Value(std::move(out));
}
Result<Value> extreme(const Value& x, const Given& a, Scope& scope, int sign) {
    DS_TRY(const auto all, keyed_elements(x, a.get(0, false).truth(), a.get(1, None{}), scope));
    if (all.empty()) return Value(Undefined{"the extreme of nothing"});
    auto best = all.front();
    DS_CHECK(scope.charge(x.extent().bytes));
    for (const auto& [key, value] : all) {
        DS_TRY(const int order, compare(key, best.first));
        if (order * sign > 0) best = {key, value};
    }
    return best.second;
}
Result<Value> smallest(const Value& x, const Given& a, Scope& s) { return extreme(x, a, s, -1); }
Result<Value> largest(const Value& x, const Given& a, Scope& s) { return extreme(x, a, s, 1); }
Result<Value> sum(const Value& x, const Given& a, Scope& scope) {
    DS_TRY(List l, elements_of(x));
    const Value attribute = a.get(0, None{});
    if (!attribute.none())
        for (Value& v : l) { DS_TRY(v, scope.member(v, attribute.str())); }
    l.insert(l.begin(), a.get(1, int64_t{0}));
    double real = 0;
    int64_t whole = 0;
    bool all_whole = true;
    for (const Value& v : l) {
        if (!v.is_number()) return wrong("sum: takes numbers, not {}", v.kind());
        all_whole &= v.is_integer();
        real += v.number();
        if (v.is_integer() && __builtin_add_overflow(whole, v.integer(), &whole)) return wrong("sum: is too large");
    }
    return all_whole ? Value(whole) : Value(real);
}
// Over a member of the elements, or another filter with its arguments.
Result<Value> map(const Value& x, const Given& given, Scope& scope) {
    Arguments rest = given.rest;
    DS_TRY(const List l, elements_of(x));
    List out;
    if (rest.positions.empty()) {
        DS_TRY(const Given a, bind("map", {"attribute", "default"}, 1, rest));
        for (const Value& v : l) {
            DS_TRY(const Value mapped, scope.member(v, a.get(0, "").str()));
            out.push_back(mapped.undefined() ? a.get(1, mapped) : mapped);
        }
        return Value(std::move(out));
    }
    DS_TRY(const std::string name, text_of(rest.positions[0], "map: the name of a filter"));
    rest.positions.erase(rest.positions.begin());
    for (const Value& v : l) {
        DS_TRY(Value mapped, scope.apply_filter(name, v, rest));
        out.push_back(std::move(mapped));
    }
    return Value(std::move(out));
}
// select, reject: by a test of the element; selectattr, rejectattr: of a member of it.
Result<Value> choose(const Value& x, const Given& given, Scope& scope, bool by_member, bool keep) {
    Arguments rest = given.rest;
    const auto next = [&] {
        Value v = rest.positions.front();
        rest.positions.erase(rest.positions.begin());
        return v;
    };
    DS_TRY(const List l, elements_of(x));
    if (by_member && rest.positions.empty()) return wrong("selectattr, rejectattr: need the name of a member");
    const std::string member = by_member ? next().str() : "";
    const std::string test = rest.positions.empty() ? "" : next().str();
    if (test.empty() && !rest.names.empty()) return wrong("select, reject: argument {} is given without a test", rest.names[0].first);
    List out;
    for (const Value& v : l) {
        Value looked_at = v;
        if (by_member) { DS_TRY(looked_at, scope.member(v, member)); }
        if (!test.empty()) { DS_TRY(looked_at, scope.apply_test(test, looked_at, rest)); }
        if (looked_at.truth() == keep) out.push_back(v);
    }
    return Value(std::move(out));
}
Result<Value> select(const Value& x, const Given& a, Scope& s) { return choose(x, a, s, false, true); }
Result<Value> reject(const Value& x, const Given& a, Scope& s) { return choose(x, a, s, false, false); }
Result<Value> selectattr(const Value& x, const Given& a, Scope& s) { return choose(x, a, s, true, true); }
Result<Value> rejectattr(const Value& x, const Given& a, Scope& s) { return choose(x, a, s, true, false); }
Result<Value> as_it_is(const Value& x, const Given&, Scope&) { return x; }  // nothing is escaped here, so everything is safe

template <class Call>
struct Row {
    Call call;
    std::vector<std::string_view> parameters = {};
    size_t required = 0;         // of them
    bool any_arguments = false;  // its own to look at

    Result<Given> given(std::string_view name, const Arguments& a) const {
        if (any_arguments) return Given{{}, a};
        return bind(name, parameters, required, a);
    }
};

using Filter = Result<Value> (*)(const Value& x, const Given& a, Scope& scope);
const std::map<std::string_view, Row<Filter>>& filters() {
    static const std::map<std::string_view, Row<Filter>> table{
        {"abs", {absolute}},
        {"capitalize", {capitalize}},
        {"count", {length}},
        {"d", {with_default, {"default_value", "boolean"}}},
        {"default", {with_default, {"default_value", "boolean"}}},
        {"dictsort", {dictsort, {"case_sensitive", "by", "reverse"}}},
        {"first", {first}},
        {"float", {to_float, {"default"}}},
        {"indent", {indent, {"width", "first", "blank"}}},
        {"int", {to_int, {"default", "base"}}},
        {"items", {items}},
        {"join", {join, {"d", "attribute"}}},
        {"last", {last}},
        {"length", {length}},
        {"list", {list}},
        {"lower", {lower}},
        {"map", {map, {}, 0, true}},
        {"max", {largest, {"case_sensitive", "attribute"}}},
        {"min", {smallest, {"case_sensitive", "attribute"}}},
        {"reject", {reject, {}, 0, true}},
        {"rejectattr", {rejectattr, {}, 0, true}},
        {"replace", {replace, {"old", "new", "count"}, 2}},
        {"reverse", {reverse}},
        {"round", {round_to, {"precision", "method"}}},
        {"safe", {as_it_is}},
        {"select", {select, {}, 0, true}},
        {"selectattr", {selectattr, {}, 0, true}},
        {"sort", {sort, {"reverse", "case_sensitive", "attribute"}}},
        {"string", {string}},
        {"sum", {sum, {"attribute", "start"}}},
        {"title", {title}},
        {"tojson", {tojson, {"ensure_ascii", "indent", "separators", "sort_keys"}}},
        {"trim", {trim, {"chars"}}},
        {"unique", {unique, {"case_sensitive", "attribute"}}},
        {"upper", {upper}},
    };
    return table;
}

using Test = Result<bool> (*)(const Value& x, const Given& a);
Result<bool> by_order(const Value& x, const Given& a, bool (*holds)(int)) {
    DS_TRY(const int order, compare(x, a.get(0, None{})));
    return holds(order);
}
const std::map<std::string_view, Row<Test>>& tests() {
    static const Row<Test> same{[](const Value&x, const Given&a) -> Result<bool> { return equal(x, a.get(0, None{})); }, {"other"}, 1},
        other{[](const Value&x, const Given&a) -> Result<bool> { return !equal(x, a.get(0, None{})); }, {"other"}, 1},
        below{[](const Value&x, const Given&a) { return by_order(x, a, [](int o) { return o < 0; }); }, {"other"}, 1},
        above{[](const Value&x, const Given&a) { return by_order(x, a, [](int o) { return o > 0; }); }, {"other"}, 1},
        at_most{[](const Value&x, const Given&a) { return by_order(x, a, [](int o) { return o <= 0; }); }, {"other"}, 1},
        at_least{[](const Value&x, const Given&a) { return by_order(x, a, [](int o) { return o >= 0; }); }, {"other"}, 1};
    static const std::map<std::string_view, Row<Test>> table{
        {"defined", {[](const Value& x, const Given&) -> Result<bool> { return !x.undefined(); }}},
        {"undefined", {[](const Value& x, const Given&) -> Result<bool> { return x.undefined(); }}},
        {"none", {[](const Value& x, const Given&) -> Result<bool> { return x.none(); }}},
        {"string", {[](const Value& x, const Given&) -> Result<bool> { return x.text() != nullptr; }}},
        {"number", {[](const Value& x, const Given&) -> Result<bool> { return x.is_number(); }}},
        {"integer", {[](const Value& x, const Given&) -> Result<bool> { return x.as<int64_t>() != nullptr; }}},
        {"float", {[](const Value& x, const Given&) -> Result<bool> { return x.as<double>() != nullptr; }}},
        {"boolean", {[](const Value& x, const Given&) -> Result<bool> { return x.as<bool>() != nullptr; }}},
        {"true", {[](const Value& x, const Given&) -> Result<bool> { return x.as<bool>() && *x.as<bool>(); }}},
        {"false", {[](const Value& x, const Given&) -> Result<bool> { return x.as<bool>() && !*x.as<bool>(); }}},
        {"mapping", {[](const Value& x, const Given&) -> Result<bool> { return x.dict() != nullptr; }}},
        {"sequence", {[](const Value& x, const Given&) -> Result<bool> { return x.list() || x.text() || x.dict(); }}},
        {"iterable", {[](const Value& x, const Given&) -> Result<bool> { return x.list() || x.text() || x.dict() || x.undefined(); }}},
        {"callable", {[](const Value& x, const Given&) -> Result<bool> { return x.as<Function>() != nullptr; }}},
        {"odd", {[](const Value& x, const Given&) -> Result<bool> { return x.is_integer() && x.integer() % 2 != 0; }}},
        {"even", {[](const Value& x, const Given&) -> Result<bool> { return x.is_integer() && x.integer() % 2 == 0; }}},
        {"divisibleby",
         {[](const Value& x, const Given& a) -> Result<bool> {
              const int64_t by = a.get(0, None{}).integer();
              if (by == 0) return wrong("divisibleby: takes an integer that is not 0");
              return by == -1 || x.integer() % by == 0;
          },
          {"num"},
          1}},
        {"lower", {[](const Value& x, const Given&) -> Result<bool> {
             return x.text() && with_case(*x.text(), false) == *x.text() && with_case(*x.text(), true) != *x.text();
         }}},
        {"upper", {[](const Value& x, const Given&) -> Result<bool> {
             return x.text() && with_case(*x.text(), true) == *x.text() && with_case(*x.text(), false) != *x.text();
         }}},
        {"in", {[](const Value& x, const Given& a) { return contains(a.get(0, None{}), x); }, {"seq"}, 1}},
        {"sameas", same},
        {"eq", same},
        {"equalto", same},
        {"==", same},
        {"ne", other},
        {"!=", other},
        {"lt", below},
        {"lessthan", below},
        {"<", below},
        {"gt", above},
        {"greaterthan", above},
        {">", above},
        {"le", at_most},
        {"<=", at_most},
        {"ge", at_least},
        {">=", at_least},
    };
    return table;
}

template <class Table>
std::string names_of(const Table& table) {
    std::string out;
    for (const auto& [name, row] : table) out += (out.empty() ? "" : ", ") + std::string(name);
    return out;
}

using Callable = Result<Value> (*)(const Given& a);
Result<Value> range(const Given& a) {
    for (const auto& v : a.values)
        if (v && !v->is_integer()) return wrong("range: takes integers, not {}", v->kind());
    const int64_t begin = a.find(1) ? a.get(0, None{}).integer() : 0, end = a.get(a.find(1) ? 1 : 0, None{}).integer();
    const int64_t step = a.get(2, int64_t{1}).integer();
    if (step == 0) return wrong("range: the step must not be 0");
    List out;
    for (__int128 i = begin; step > 0 ? i < end : i > end; i += step) {
        if (out.size() == kMaxElements) return wrong("range: has more than {} elements", kMaxElements);
        out.emplace_back(static_cast<int64_t>(i));
    }
    return Value(std::move(out));
}
Result<Value> make_dict(const Given& given, bool is_namespace) {
    const Arguments& a = given.rest;
    Dict dict;
    if (a.positions.size() > 1 || (!a.positions.empty() && !a.positions[0].dict()))
        return wrong("{}: takes a mapping and named values, not {}", is_namespace ? "namespace" : "dict", a.positions.back().kind());
    if (!a.positions.empty()) dict.items = a.positions[0].dict()->items;
    for (const auto& [key, value] : a.names) dict.set(key, value);
    dict.is_namespace = is_namespace;
    return Value(std::move(dict));
}
// The time of the machine, as transformers gives it to templates that write today's date.
Result<Value> strftime_now(const Given& a) {
    const std::string format = a.get(0, "").str();
    const std::time_t now = std::time(nullptr);
    std::tm local{};
    char text[256];
    localtime_r(&now, &local);
    return Value(std::string(text, std::strftime(text, sizeof text, format.c_str(), &local)));
}

const std::map<std::string_view, Row<Callable>>& functions() {
    static const std::map<std::string_view, Row<Callable>> table{
        {"range", {range, {"start", "stop", "step"}, 1}},
        {"namespace", {[](const Given& a) { return make_dict(a, true); }, {}, 0, true}},
        {"dict", {[](const Given& a) { return make_dict(a, false); }, {}, 0, true}},
        {"raise_exception",
         {[](const Given& a) -> Result<Value> { return wrong("the template says: {}", a.get(0, "").str()); }, {"message"}, 1}},
        {"strftime_now", {strftime_now, {"format"}, 1}},
    };
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
    DS_TRY(const Given given, found->second.given(name, a));
    return found->second.call(x, given, scope);
}

Result<Value> test(std::string_view name, const Value& x, const Arguments& a, Scope&) {
    const auto found = tests().find(name);
    if (found == tests().end()) return wrong("there is no test {}; there are {}", name, test_names());
    DS_TRY(const Given given, found->second.given(name, a));
    DS_TRY(const bool holds, found->second.call(x, given));
    return Value(holds);
}

Result<Value> call_function(std::string_view name, const Arguments& a) {
    const auto& row = functions().at(name);
    DS_TRY(const Given given, row.given(name, a));
    return row.call(given);
}

}  // namespace ds::jinja
