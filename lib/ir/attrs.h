// Attrs: the attributes of a node, whatever op it has. One type-erased, immutable, shared struct of ops/attrs.h.
#pragma once

#include <functional>
#include <memory>

#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "base/status.h"
#include "ops/attrs.h"

namespace ds {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

// What can be done with one attribute struct; made once for each struct by attrs_type<A>().
struct AttrsType {
    std::shared_ptr<const void> (*defaults)();
    Result<std::shared_ptr<const void>> (*parse)(const Json& object);  // unknown keys and wrong types are errors
    OrderedJson (*print)(const void*, bool with_defaults);
    std::shared_ptr<const void> (*map_dims)(const void*,
                                            const std::function<int64_t(int64_t)>&);  // applied to every element of a list of integers
};

// Of every struct that ir/attrs.cpp lists.
template <class A>
const AttrsType* attrs_type();

class Attrs {
public:
    Attrs() : type_(attrs_type<NoAttrs>()), value_(type_->defaults()) {}
    Attrs(const AttrsType* type, std::shared_ptr<const void> value) : type_(type), value_(std::move(value)) {}
    template <class A>
    Attrs(A value)
        : type_(attrs_type<A>()), value_(std::make_shared<const A>(std::move(value))) {}  // NOLINT: b.call("scale", {x}, Scale{2})

    template <class A>
    const A& as() const {
        return *static_cast<const A*>(value_.get());
    }
    const void* get() const { return value_.get(); }
    const AttrsType* type() const { return type_; }
    Attrs map_dims(const std::function<int64_t(int64_t)>& map) const { return {type_, type_->map_dims(value_.get(), map)}; }
    // The attributes that differ from their defaults as "a = 1, b = [2,3]": what the text form prints, and what tells two nodes apart.
    std::string text() const;

private:
    const AttrsType* type_;
    std::shared_ptr<const void> value_;
};

}  // namespace ds
