// What a template computes with: Python's values as far as templates can tell, copied cheaply and never changed (namespaces apart).
#pragma once

#include <cstdint>
#include <memory>
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

class Value {
public:
    using Data =
        std::variant<Undefined, None, bool, int64_t, double, std::string, std::shared_ptr<const List>, std::shared_ptr<Dict>, Function>;
    Value() : data_(None{}) {}
    Value(Undefined v) : data_(std::move(v)) {}
    Value(None) : data_(None{}) {}
    Value(bool v) : data_(v) {}
    Value(int64_t v) : data_(v) {}
    Value(double v) : data_(v) {}
    Value(std::string v) : data_(std::move(v)) {}
    Value(const char* v) : data_(std::string(v)) {}
    Value(List v) : data_(std::make_shared<const List>(std::move(v))) {}
    Value(Dict v) : data_(std::make_shared<Dict>(std::move(v))) {}
    Value(Function v) : data_(std::move(v)) {}
    static Value of(const OrderedJson& json);

    template <class T>
    const T* as() const {
        return std::get_if<T>(&data_);
    }
    const std::string* text() const { return as<std::string>(); }
    const List* list() const {
        const auto* p = as<std::shared_ptr<const List>>();
        return p ? p->get() : nullptr;
    }
    Dict* dict() const {
        const auto* p = as<std::shared_ptr<Dict>>();
        return p ? p->get() : nullptr;
    }
    bool undefined() const { return as<Undefined>() != nullptr; }
    bool none() const { return as<None>() != nullptr; }
    bool is_number() const { return as<int64_t>() || as<double>() || as<bool>(); }
    bool is_integer() const { return as<int64_t>() || as<bool>(); }
    int64_t integer() const;  // of an integer or a truth value
    double number() const;    // of any number

    bool truth() const;
    std::string str() const;   // Python's str(): what {{ }} prints
    std::string repr() const;  // Python's repr(): how it looks inside a list
    const char* kind() const;  // "string", for errors

private:
    Data data_;
};

bool equal(const Value& a, const Value& b);
// Python's json.dumps without ensure_ascii; indent below 0: on one line.
void dump_json(const Value& v, int indent, int depth, std::string& out);

// Text by code points, as Python counts.
std::u32string code_points(std::string_view text);
std::string utf8(std::u32string_view text);

}  // namespace ds::jinja
