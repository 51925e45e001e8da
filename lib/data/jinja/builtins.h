// What a template can call: filters, tests, functions, and methods of strings, lists and mappings. Each is a row of a table in builtins.cpp
// or text_methods.cpp.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/jinja/value.h"

namespace ds::jinja {

// What a call gives, as it is written.
struct Arguments {
    std::vector<Value> positions;
    std::vector<std::pair<std::string, Value>> names;
};

// The same by the parameters of what is called.
struct Given {
    std::vector<std::optional<Value>> values;
    Arguments rest = {};  // of what takes any arguments

    const Value* find(size_t i) const { return i < values.size() && values[i] ? &*values[i] : nullptr; }
    Value get(size_t i, Value otherwise) const { return find(i) ? *find(i) : std::move(otherwise); }
};

// Refuses arguments that are unknown, surplus or given twice, and the absence of one of the first `required`.
Result<Given> bind(std::string_view callee, const std::vector<std::string_view>& parameters, size_t required, const Arguments& a);

inline constexpr size_t kMaxElements = 1'000'000;  // of one list

// What builtins need of the evaluation: filters such as map apply others, and long work is charged for before it is done.
class Scope {
public:
    virtual ~Scope() = default;
    virtual Result<Value> apply_filter(std::string_view name, const Value& x, const Arguments& a) = 0;
    virtual Result<Value> apply_test(std::string_view name, const Value& x, const Arguments& a) = 0;
    virtual Result<Value> member(const Value& of, std::string_view name) = 0;  // a dotted path
    virtual Status charge(size_t bytes) = 0;
};

bool is_filter(std::string_view name);
bool is_test(std::string_view name);
std::string filter_names();
std::string test_names();
Result<Value> filter(std::string_view name, const Value& x, const Arguments& a, Scope& scope);
Result<Value> test(std::string_view name, const Value& x, const Arguments& a, Scope& scope);

bool is_function(std::string_view name);  // range, namespace, dict, raise_exception, strftime_now
Result<Value> call_function(std::string_view name, const Arguments& a);
bool is_method(const Value& of, std::string_view name);
Result<Value> call_method(const Value& of, std::string_view name, const Arguments& a);

// Shared by filters, tests and operators.
Result<List> elements_of(const Value& v);  // what a loop goes over: elements, keys, characters
Result<bool> contains(const Value& in, const Value& x);
Result<int> compare(const Value& a, const Value& b);  // below, equal, above: numbers, strings, lists
Result<int64_t> length_of(const Value& v);
Result<Value> within(std::string text, std::string_view maker);  // or that it is too long
std::string strip(const std::string& text, const std::string* characters, bool left, bool right);
std::string with_case(std::string_view text, bool upper);
std::string capitalized(std::string_view word);  // its first letter large, all others small
std::string replaced(const std::string& text, const std::string& from, const std::string& to, int64_t most);

}  // namespace ds::jinja
