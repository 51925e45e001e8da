// What a template can call: filters, tests, functions, and methods of strings, lists and mappings. Each is a row of a table in builtins.cpp
// or text_methods.cpp.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/jinja/value.h"

namespace ds::jinja {

struct Arguments {
    std::vector<Value> positions;
    std::vector<std::pair<std::string, Value>> names;
    // Argument i, or the one of that name; null when it was not given.
    const Value* find(size_t i, std::string_view name) const;
    Value get(size_t i, std::string_view name, Value otherwise) const;
};

inline constexpr size_t kMaxBytes = size_t{16} << 20;  // of one string, and of the text that comes out
inline constexpr size_t kMaxElements = 1'000'000;      // of one list

// What builtins need of the evaluation: filters such as map apply others, and `in` compares.
class Scope {
public:
    virtual ~Scope() = default;
    virtual Result<Value> apply_filter(std::string_view name, const Value& x, const Arguments& a) = 0;
    virtual Result<Value> apply_test(std::string_view name, const Value& x, const Arguments& a) = 0;
    virtual Result<Value> member(const Value& of, std::string_view name) = 0;  // a dotted path
};

using Filter = Result<Value> (*)(const Value& x, const Arguments& a, Scope& scope);

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
std::string strip(const std::string& text, const std::string* characters, bool left, bool right);
std::string with_case(std::string_view text, bool upper);
std::string replaced(const std::string& text, const std::string& from, const std::string& to, int64_t most);

}  // namespace ds::jinja
