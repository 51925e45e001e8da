// What a template computes with: Python's values as far as templates can tell, copied cheaply and never changed (namespaces apart).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/json.h"

namespace ds::jinja {

class Value;
struct Macro;
using List = std::vector<Value>;

struct Undefined {
    std::string name;
};  // a name or member that is not there: empty, false, and an error to look into
struct None {};
struct Dict {
    std::vector<std::pair<std::string, Value>> items;  // in order of insertion
    bool is_namespace = false;
    const Value* find(std::string_view key) const;
    void set(std::string_view key, Value value);
};
// A function of the template language, or a method with the value it belongs to.
struct Function {
    std::string name;
    std::shared_ptr<const Value> self;  // of a method
    const Macro* macro = nullptr;       // written in the template
};

inline constexpr size_t kMaxBytes = size_t{16} << 20;  // of one value, and of the text that comes out
inline constexpr int kMaxDepth = 100;                  // of lists and mappings inside one another

// What hangs on a value, counted as if nothing were shared, which bounds what it takes to print, compare or destroy it.
struct Extent {
    size_t bytes = 8;
    int depth = 0;
    bool has_namespace = false;
    void add(const Extent& part);
};

class Value {
public:
    using Data = std::variant<Undefined, None, bool, int64_t, double, std::shared_ptr<const std::string>, std::shared_ptr<const List>,
                              std::shared_ptr<Dict>, Function>;
    Value() : data_(None{}) {}
    Value(Undefined v) : data_(std::move(v)) {}
    Value(None) : data_(None{}) {}
    Value(bool v) : data_(v) {}
    Value(int64_t v) : data_(v) {}
    Value(double v) : data_(v) {}
    Value(std::string v);
    Value(const char* v) : Value(std::string(v)) {}
    Value(List v);
    Value(Dict v);
    Value(Function v);
    static Value of(const OrderedJson& json);

    template <class T>
    const T* as() const {
        return std::get_if<T>(&data_);
    }
    const std::string* text() const { return pointed<const std::string>(); }
    const List* list() const { return pointed<const List>(); }
    Dict* dict() const { return pointed<Dict>(); }
    bool undefined() const { return as<Undefined>() != nullptr; }
    bool none() const { return as<None>() != nullptr; }
    bool is_number() const { return as<int64_t>() || as<double>() || as<bool>(); }
    bool is_integer() const { return as<int64_t>() || as<bool>(); }
    int64_t integer() const;  // of an integer or a truth value
    double number() const;    // of any number

    bool truth() const;
    std::string str() const;                          // Python's str(): what {{ }} prints
    const char* kind() const;                         // "string", for errors
    const Extent& extent() const { return extent_; }  // of a namespace: when it was made

private:
    template <class T>
    T* pointed() const {
        const auto* p = as<std::shared_ptr<T>>();
        return p ? p->get() : nullptr;
    }
    Data data_;
    Extent extent_;
};

bool equal(const Value& a, const Value& b);
// Appends Python's repr(), or json.dumps(). What has grown past kMaxBytes is left unfinished: it is refused.
void print(const Value& v, std::string& out);
struct JsonStyle {
    bool ascii = false, sorted = false;
    std::optional<std::string> indent = {};  // none: on one line
    std::string between = ", ", behind_key = ": ";
};
void dump_json(const Value& v, const JsonStyle& style, size_t depth, std::string& out);

// Text by code points, as Python counts.
std::u32string code_points(std::string_view text);
std::string utf8(std::u32string_view text);

}  // namespace ds::jinja
