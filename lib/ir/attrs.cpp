#include "ir/attrs.h"

#include "ops/attrs_coded.h"
#include "ops/attrs_compress.h"
#include "ops/attrs_epilogue.h"
#include "ops/attrs_fp8.h"
#include "ops/attrs_zero.h"

#include "base/json.h"
#include "ops/attrs_parallel.h"

namespace ds {
namespace attrs_detail {

struct Printer {
    OrderedJson out = OrderedJson::object();
    template <class T>
    void operator()(const char* name, const T& value) {
        if constexpr (std::is_same_v<T, DType>) out[name] = std::string(name_of(value));
        else out[name] = value;
    }
};

struct DimMapper {
    const std::function<int64_t(int64_t)>& map;
    template <class T>
    void operator()(const char*, T& value) {
        if constexpr (std::is_same_v<T, std::vector<int64_t>>)
            for (int64_t& d : value) d = map(d);
    }
};

struct Reader {
    const Json& object;
    Status status;
    size_t used = 0;
    std::string known;

    template <class T>
    void operator()(const char* name, T& value) {
        known += (known.empty() ? "" : ", ") + std::string(name);
        const auto found = object.find(name);
        if (found == object.end()) return;
        ++used;
        if (!read(*found, value) && status.ok())
            status = fail(Code::E_INVALID_ARGUMENT, "attribute {} cannot be {}; it is {}", name, found->dump(), accepted(value));
    }
    static std::string accepted(bool) { return "true or false"; }
    static std::string accepted(int64_t) { return "an integer"; }
    static std::string accepted(double) { return "a number"; }
    static std::string accepted(DType) {
        std::string names;
        for (int i = 0; i < static_cast<int>(kDTypes); ++i) names += (i ? ", " : "one of ") + std::string(name_of(static_cast<DType>(i)));
        return names;
    }
    template <class T>
    static std::string accepted(const std::vector<T>&) {
        return "a list, each entry " + accepted(T{});
    }
    static bool read(const Json& j, bool& v) { return j.is_boolean() && (v = j.get<bool>(), true); }
    static bool read(const Json& j, int64_t& v) { return j.is_number_integer() && (v = j.get<int64_t>(), true); }
    static bool read(const Json& j, double& v) { return j.is_number() && (v = j.get<double>(), true); }
    static bool read(const Json& j, DType& v) {
        const auto type = j.is_string() ? dtype_named(j.get<std::string>()) : std::nullopt;
        return type && (v = *type, true);
    }
    template <class T>
    static bool read(const Json& j, std::vector<T>& v) {
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
                    DS_REQUIRE((", " + reader.known + ", ").find(", " + key + ", ") != std::string::npos, "has no attribute {}; it has: {}",
                               key, reader.known.empty() ? "none" : reader.known);
            return std::shared_ptr<const void>(parsed);
        },
        .print =
            [](const void* value, bool with_defaults) {
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

// Every attribute struct, once.
#define DS_ATTRS(A) template const AttrsType* attrs_type<A>();
DS_ATTRS(NoAttrs)
DS_ATTRS(Cast)
DS_ATTRS(Gelu)
DS_ATTRS(Scale)
DS_ATTRS(Matmul)
DS_ATTRS(Permute)
DS_ATTRS(Reshape)
DS_ATTRS(Slice)
DS_ATTRS(Axis)
DS_ATTRS(Embedding)
DS_ATTRS(Split)
DS_ATTRS(Reduce)
DS_ATTRS(Norm)
DS_ATTRS(Rows)
DS_ATTRS(RopeAngles)
DS_ATTRS(Rope)
DS_ATTRS(Attention)
DS_ATTRS(CrossEntropy)
DS_ATTRS(Exchange)
DS_ATTRS(Share)
DS_ATTRS(TopK)
DS_ATTRS(Routing)
DS_ATTRS(ExpertGroup)
DS_ATTRS(Lstm)
DS_ATTRS(Recut)
DS_ATTRS(Ring)
DS_ATTRS(Merge)
DS_ATTRS(SequenceAttention)
DS_ATTRS(ShardedCrossEntropy)
DS_ATTRS(Bucket)
DS_ATTRS(Parts)
DS_ATTRS(Fetch)
DS_ATTRS(FakeQuantize)
DS_ATTRS(QuantizeWithin)
DS_ATTRS(MovingRange)
DS_ATTRS(TopMask)
DS_ATTRS(CodedMatmul)
DS_ATTRS(Int8Matmul)
DS_ATTRS(SparseMatmul)
DS_ATTRS(Distillation)
DS_ATTRS(MatmulSums)
DS_ATTRS(Fp8Matmul)
DS_ATTRS(Dropout)
DS_ATTRS(Fill)
#undef DS_ATTRS

std::string Attrs::text() const {
    std::string text;
    const OrderedJson json = type_->print(value_.get(), false);
    for (const auto& [key, value] : json.items()) text += (text.empty() ? "" : ", ") + key + " = " + value.dump();
    return text;
}

}  // namespace ds
