// Attrs: the attributes of a node, whatever op it has. One type-erased, immutable, shared struct of ops/attrs.h.
#pragma once

#include <functional>
#include <memory>

#include "base/json.h"
#include "ops/attrs.h"

namespace ds {

// What can be done with one attribute struct; made once for each struct by attrs_type<A>().
struct AttrsType {
    std::shared_ptr<const void> (*defaults)();
    Result<std::shared_ptr<const void>> (*parse)(const Json& object);  // unknown keys and wrong types are errors
    OrderedJson (*print)(const void*, bool with_defaults);
    std::shared_ptr<const void> (*map_dims)(const void*, const std::function<int64_t(int64_t)>&);  // applied to every element of a list of integers
};

namespace attrs_detail {

struct Printer {
    OrderedJson out = OrderedJson::object();
    template <class T> void operator()(const char* name, const T& value) {
        if constexpr (std::is_same_v<T, DType>) out[name] = std::string(name_of(value));
        else out[name] = value;
    }
};

struct DimMapper {
    const std::function<int64_t(int64_t)>& map;
    template <class T> void operator()(const char*, T& value) {
        if constexpr (std::is_same_v<T, std::vector<int64_t>>)
            for (int64_t& d : value) d = map(d);
    }
};

struct Reader {
    const Json& object;
    Status status;
    size_t used = 0;
    std::string known;

    template <class T> void operator()(const char* name, T& value) {
        known += (known.empty() ? "" : ", ") + std::string(name);
        const auto found = object.find(name);
        if (found == object.end()) return;
        ++used;
        if (!read(*found, value) && status.ok()) status = fail(Code::E_INVALID_ARGUMENT, "attribute {} cannot be {}", name, found->dump());
    }
    static bool read(const Json& j, bool& v) { return j.is_boolean() && (v = j.get<bool>(), true); }
    static bool read(const Json& j, int64_t& v) { return j.is_number_integer() && (v = j.get<int64_t>(), true); }
    static bool read(const Json& j, double& v) { return j.is_number() && (v = j.get<double>(), true); }
    static bool read(const Json& j, DType& v) {
        const auto type = j.is_string() ? dtype_named(j.get<std::string>()) : std::nullopt;
        return type && (v = *type, true);
    }
    template <class T> static bool read(const Json& j, std::vector<T>& v) {
        if (!j.is_array()) return false;
        v.clear();
        for (const Json& element : j) {
            T one{};
            if (!read(element, one)) return false;
            v.push_back(one);
        }
        return true;
    }
};

}  // namespace attrs_detail

template <class A>
const AttrsType* attrs_type() {
    static constexpr AttrsType type = {
        .defaults = []() -> std::shared_ptr<const void> { return std::make_shared<const A>(); },
        .parse = [](const Json& object) -> Result<std::shared_ptr<const void>> {
            auto parsed = std::make_shared<A>();
            attrs_detail::Reader reader{object, {}, 0, {}};
            parsed->fields(reader);
            DS_CHECK(reader.status);
            if (reader.used != object.size())
                for (const auto& [key, value] : object.items())
                    DS_REQUIRE((", " + reader.known + ", ").find(", " + key + ", ") != std::string::npos, "has no attribute {}; it has: {}", key,
                               reader.known.empty() ? "none" : reader.known);
            return std::shared_ptr<const void>(parsed);
        },
        .print = [](const void* value, bool with_defaults) {
            attrs_detail::Printer printed, standard;
            A copy = *static_cast<const A*>(value), plain;
            copy.fields(printed);
            plain.fields(standard);
            if (!with_defaults)
                for (const auto& [key, v] : standard.out.items())
                    if (printed.out[key] == v) printed.out.erase(key);
            return printed.out;
        },
        .map_dims = [](const void* value, const std::function<int64_t(int64_t)>& map) -> std::shared_ptr<const void> {
            auto copy = std::make_shared<A>(*static_cast<const A*>(value));
            attrs_detail::DimMapper mapper{map};
            copy->fields(mapper);
            return copy;
        }};
    return &type;
}

class Attrs {
public:
    Attrs() : type_(attrs_type<NoAttrs>()), value_(type_->defaults()) {}
    Attrs(const AttrsType* type, std::shared_ptr<const void> value) : type_(type), value_(std::move(value)) {}
    template <class A> Attrs(A value) : type_(attrs_type<A>()), value_(std::make_shared<const A>(std::move(value))) {}  // NOLINT: b.call("scale", {x}, Scale{2})

    template <class A> const A& as() const { return *static_cast<const A*>(value_.get()); }
    const void* get() const { return value_.get(); }
    const AttrsType* type() const { return type_; }
    Attrs map_dims(const std::function<int64_t(int64_t)>& map) const { return {type_, type_->map_dims(value_.get(), map)}; }
    OrderedJson json(bool with_defaults = false) const { return type_->print(value_.get(), with_defaults); }

private:
    const AttrsType* type_;
    std::shared_ptr<const void> value_;
};

}  // namespace ds
