#include "engine/coded_files.h"

#include <cstring>
#include <memory>
#include <set>

#include "base/name_pattern.h"
#include "engine/hf_folder.h"

namespace ds {
namespace {

constexpr const char* kMethod = "compressed-tensors";

const TensorView* find(const WeightFolder& folder, const std::string& name, const TensorNames& names) {
    const auto found = names_in(folder, name, names);
    return found.empty() ? nullptr : folder.find(found.front());
}

std::vector<float> floats_of(const TensorView& view) {
    std::vector<float> values(static_cast<size_t>(elements(view.shape)));
    convert(view.data.data(), view.dtype, values.data(), DType::f32, static_cast<int64_t>(values.size()));
    return values;
}

// Whether a target of config_groups means a module: a class, a whole name, or "re:" and an expression.
bool means(const std::string& target, const std::string& module) {
    if (!target.starts_with("re:")) return target == "Linear" || target == module;
    const auto pattern = NamePattern::make(std::string_view(target).substr(3), NamePattern::from_start);
    return pattern.ok() && pattern->found_in(module);
}

// What config_groups say about what goes into a module; null: nothing.
Json inputs_of(const Json& model_config, const std::string& module) {
    const Json& about = model_config["quantization_config"];
    const auto groups = about.find("config_groups");
    if (groups == about.end()) return nullptr;
    for (const Json& group : *groups) {
        const auto targets = group.is_object() ? group.find("targets") : group.end();
        if (targets == group.end() || !targets->is_array()) continue;
        for (const Json& target : *targets)
            if (target.is_string() && means(target, module)) return group.value("input_activations", Json());
    }
    return nullptr;
}

struct ModuleReader {
    const WeightFolder& folder;
    const Json& model_config;
    const std::string& module;
    const TensorNames& names;
    CodedModule to = {};

    const TensorView* tensor(const char* name) const { return find(folder, module + "." + name, names); }
    Status refuse(const char* name, const std::string& what) const { return fail(Code::E_CORRUPT, "model: {}.{}: {}", module, name, what); }

    // Codes as they lie, and the zero point that they have where none is told.
    Status read(const TensorView& weight, bool packed) {
        const TensorView* scales = tensor("weight_scale");
        if (!scales) return refuse("weight_scale", "is missing beside its codes");
        if (tensor("weight_g_idx"))
            return fail(Code::E_UNSUPPORTED, "model: {}.weight_g_idx: groups of inputs in another order (actorder) are not built", module);
        if (packed) {
            to.code.bits = weight.shape.size() == 2 && weight.shape[1] > 0 && weight.shape[1] * 4 < to.ins ? 4 : 8;
            const Shape exact{to.outs, to.code.bits == 4 ? (to.ins + 7) / 8 : (to.ins + 3) / 4};
            if (weight.dtype != DType::i32 || weight.shape != exact)
                return refuse("weight_packed",
                              fmt::format("is {}{}, but {} outputs of {} inputs in 4 or 8 bits are i32{}", name_of(weight.dtype),
                                          dims_to_string(weight.shape), to.outs, to.ins, dims_to_string(exact)));
        } else {
            to.code.bits = 8;
            if (weight.shape != Shape{to.outs, to.ins})
                return refuse("weight", fmt::format("is {}, but config.json makes it {} outputs of {} inputs", dims_to_string(weight.shape),
                                                    to.outs, to.ins));
        }
        const int64_t n = elements(scales->shape), groups = n == 1 ? 1 : n / std::max<int64_t>(to.outs, 1);
        const bool whole = n == 1;  // one for all outputs
        if (!is_float(scales->dtype) || groups < 1 || to.ins % groups || (!whole && n != groups * to.outs))
            return refuse("weight_scale",
                          fmt::format("is {}{}, which is not one for each group of neighbouring inputs of {} outputs of {} inputs",
                                      name_of(scales->dtype), dims_to_string(scales->shape), to.outs, to.ins));
        const TensorView* zeros = tensor("weight_zero_point");
        to.code.group = to.ins / groups;
        to.code.asymmetric = zeros != nullptr;
        const GroupParts parts = to.parts();
        to.bytes.resize(static_cast<size_t>(parts.bytes));
        put_codes(weight, packed, parts);
        const std::vector<float> values = floats_of(*scales);
        auto* scale = reinterpret_cast<float*>(to.bytes.data() + parts.scales);
        for (int64_t i = 0; i < to.outs * groups; ++i) scale[i] = values[whole ? 0 : static_cast<size_t>(i)];
        return zeros ? put_zeros(*zeros, packed, parts) : ok();
    }

    void put_codes(const TensorView& weight, bool packed, const GroupParts& parts) {
        if (packed) return void(std::memcpy(to.bytes.data(), weight.data.data(), weight.data.size()));  // rows are whole words there, too
        for (int64_t o = 0; o < to.outs; ++o)
            for (int64_t i = 0; i < to.ins; ++i)
                to.bytes[static_cast<size_t>(o * parts.row + i)] =
                    static_cast<uint8_t>(std::to_integer<uint8_t>(weight.data[static_cast<size_t>(o * to.ins + i)]) ^ 128);
    }

    Status put_zeros(const TensorView& view, bool packed, const GroupParts& parts) {
        auto* zero = reinterpret_cast<float*>(to.bytes.data() + parts.zeros);
        const int64_t each = packed ? 32 / to.code.bits : 1;
        const Shape exact{(to.outs + each - 1) / each, parts.groups};
        if (view.dtype != (packed ? DType::i32 : DType::i8) || view.shape != exact)
            return refuse("weight_zero_point", fmt::format("is {}{}, but must be {}{}", name_of(view.dtype), dims_to_string(view.shape),
                                                           packed ? "i32" : "i8", dims_to_string(exact)));
        for (int64_t o = 0; o < to.outs; ++o)
            for (int64_t g = 0; g < parts.groups; ++g) {
                const int64_t at = o / each * parts.groups + g;
                if (!packed) {
                    zero[o * parts.groups + g] = static_cast<float>(std::to_integer<uint8_t>(view.data[static_cast<size_t>(at)]) ^ 128);
                    continue;
                }
                uint32_t word = 0;
                std::memcpy(&word, view.data.data() + 4 * at, 4);
                zero[o * parts.groups + g] = static_cast<float>(word >> (to.code.bits * (o % each)) & ((1u << to.code.bits) - 1));
            }
        return ok();
    }

    // Of what goes in.
    Status read_inputs() {
        const Json about = inputs_of(model_config, module);
        const TensorView* scale = tensor("input_scale");
        if (about.is_null() && !scale) return ok();
        if (about.is_object() && about.value("num_bits", Json(8)) != 8)
            return fail(Code::E_UNSUPPORTED, "model: quantization_config: inputs of {} in {} bits are not built; 8 are", module,
                        about["num_bits"].dump());
        if (to.code.asymmetric || to.code.group != to.ins || to.code.bits != 8)
            return fail(Code::E_UNSUPPORTED,
                        "model: quantization_config: integer products of {} need its weight in 8 bits around zero with one scale an output",
                        module);
        if (!scale) return to.inputs = CodedModule::Inputs::by_token, ok();
        if (elements(scale->shape) != 1 || !is_float(scale->dtype))
            return refuse("input_scale",
                          fmt::format("is {}{}, but one float is what is built", name_of(scale->dtype), dims_to_string(scale->shape)));
        to.inputs = CodedModule::Inputs::fixed;
        to.input.scale = floats_of(*scale)[0];
        const TensorView* zero = tensor("input_zero_point");
        if (!zero) return ok();
        if (elements(zero->shape) != 1 || zero->dtype != DType::i8)
            return refuse("input_zero_point",
                          fmt::format("is {}{}, but must be one i8", name_of(zero->dtype), dims_to_string(zero->shape)));
        to.input.zero = static_cast<int8_t>(std::to_integer<uint8_t>(zero->data[0]));
        return ok();
    }
};

NamedTensor owned(std::string name, DType dtype, Shape shape, std::vector<std::byte> bytes) {
    auto held = std::make_shared<std::vector<std::byte>>(std::move(bytes));
    return {std::move(name), dtype, std::move(shape), nullptr, [held](const ChunkWriter& write) { return write(*held); }};
}
template <class T>
NamedTensor owned(std::string name, DType dtype, Shape shape, const std::vector<T>& values) {
    const auto bytes = std::as_bytes(std::span(values));
    return owned(std::move(name), dtype, std::move(shape), std::vector<std::byte>(bytes.begin(), bytes.end()));
}

const float* zeros_of(const CodedModule& m) { return reinterpret_cast<const float*>(m.bytes.data() + m.parts().zeros); }

}  // namespace

bool is_coded_folder(const Json& model_config) {
    if (!model_config.is_object()) return false;  // a host's graph has none, though a part of it may come from a folder
    const Json about = model_config.value("quantization_config", Json());
    return about.is_object() && about.value("quant_method", Json()) == kMethod;
}

bool is_coded_tensor(std::string_view name) {
    for (const std::string_view ending :
         {".weight_packed", ".weight", ".weight_scale", ".weight_zero_point", ".weight_shape", ".input_scale", ".input_zero_point"})
        if (name.ends_with(ending)) return true;
    return false;
}

Status check_coded_folder(const Json& model_config, const std::string& folder) {
    const Json about = model_config.value("quantization_config", Json());
    if (!about.is_object()) return ok();
    const Json method = about.value("quant_method", Json());
    if (method != kMethod)
        return fail(Code::E_UNSUPPORTED, "model: {}: quantization_config.quant_method: {} is not built; {} is", folder, method.dump(),
                    kMethod);
    const Json groups = about.value("config_groups", Json::object());
    for (const auto& [name, group] : groups.items()) {
        const Json weights = group.is_object() ? group.value("weights", Json()) : Json();
        if (weights.is_object() && weights.value("type", Json("int")) != "int")
            return fail(Code::E_UNSUPPORTED, "model: {}: quantization_config.config_groups.{}.weights.type: {} is not built; int is",
                        folder, name, weights["type"].dump());
    }
    return ok();
}

Result<std::optional<CodedModule>> read_coded_module(const WeightFolder& folder, const Json& model_config, const std::string& module,
                                                     const Shape& shape, bool out_first, const TensorNames& names) {
    ModuleReader reader{folder, model_config, module, names};
    const TensorView* packed = reader.tensor("weight_packed");
    const TensorView* weight = packed ? packed : reader.tensor("weight");
    if (!packed && (!weight || weight->dtype != DType::i8)) return std::optional<CodedModule>();
    reader.to.outs = shape[out_first ? 0 : 1], reader.to.ins = shape[out_first ? 1 : 0];
    DS_CHECK(reader.read(*weight, packed != nullptr));
    DS_CHECK(reader.read_inputs());
    return std::optional(std::move(reader.to));
}

std::vector<uint8_t> kept_codes(const CodedModule& module, const WeightCode& as) {
    if (!as.by_output) return module.bytes;
    const GroupParts from = module.parts();
    const Int8Parts parts(module.outs, module.ins);
    std::vector<uint8_t> bytes(static_cast<size_t>(parts.bytes));
    place_outputs(
        parts, reinterpret_cast<const float*>(module.bytes.data() + from.scales),
        [&](int64_t o, int64_t i) { return static_cast<int8_t>(module.bytes[static_cast<size_t>(o * from.row + i)] ^ 128); }, bytes.data());
    if (as.fixed_input) module.input.put(bytes.data(), parts);
    return bytes;
}

CodedModule module_of_codes(const uint8_t* kept, const WeightCode& as, int64_t outs, int64_t ins) {
    CodedModule m;
    m.outs = outs, m.ins = ins;
    if (!as.by_output) {
        m.code = as;
        m.code.out_first = true;
        m.bytes.assign(kept, kept + m.parts().bytes);
        return m;
    }
    m.code = {.bits = 8, .group = ins};
    m.inputs = as.fixed_input ? CodedModule::Inputs::fixed : CodedModule::Inputs::by_token;
    const Int8Parts parts(outs, ins);
    const GroupParts to = m.parts();
    m.input = InputCode::of(kept, parts);
    m.bytes.assign(static_cast<size_t>(to.bytes), 0);
    for (int64_t o = 0; o < outs; ++o)
        for (int64_t i = 0; i < ins; ++i) m.bytes[static_cast<size_t>(o * to.row + i)] = kept[parts.place(o, i)] ^ 128;
    std::copy_n(reinterpret_cast<const float*>(kept + parts.scales), outs, reinterpret_cast<float*>(m.bytes.data() + to.scales));
    return m;
}

std::optional<std::string> lacks(const CodedModule& m) {
    if (!m.code.asymmetric) return std::nullopt;
    const int64_t n = m.outs * m.parts().groups, most = (int64_t{1} << m.code.bits) - 1;
    for (int64_t i = 0; i < n; ++i)
        if (const float zero = zeros_of(m)[i]; zero < 0 || zero > static_cast<float>(most))
            return fmt::format("a group whose values all have one sign, with zero point {}, outside 0 to {}", zero, most);
    return std::nullopt;
}

void add_coded_tensors(const std::string& module, const CodedModule& m, std::vector<NamedTensor>& tensors) {
    const GroupParts parts = m.parts();
    const bool packed = m.code.bits == 4;
    const auto codes = m.bytes.begin();
    if (packed) {
        tensors.push_back(
            owned(module + ".weight_packed", DType::i32, {m.outs, parts.row / 4}, std::vector<uint8_t>(codes, codes + m.outs * parts.row)));
        tensors.push_back(owned(module + ".weight_shape", DType::i64, {2}, std::vector<int64_t>{m.outs, m.ins}));
    } else {
        std::vector<uint8_t> each;
        for (int64_t o = 0; o < m.outs; ++o)
            for (int64_t i = 0; i < m.ins; ++i) each.push_back(m.bytes[static_cast<size_t>(o * parts.row + i)] ^ 128);
        tensors.push_back(owned(module + ".weight", DType::i8, {m.outs, m.ins}, each));
    }
    const auto* scales = reinterpret_cast<const float*>(m.bytes.data() + parts.scales);
    tensors.push_back(
        owned(module + ".weight_scale", DType::f32, {m.outs, parts.groups}, std::vector<float>(scales, scales + m.outs * parts.groups)));
    if (m.code.asymmetric && packed) {
        std::vector<uint32_t> words(static_cast<size_t>((m.outs + 7) / 8 * parts.groups), 0);
        for (int64_t o = 0; o < m.outs; ++o)
            for (int64_t g = 0; g < parts.groups; ++g)
                words[static_cast<size_t>(o / 8 * parts.groups + g)] |= static_cast<uint32_t>(zeros_of(m)[o * parts.groups + g])
                                                                        << (4 * (o % 8));
        tensors.push_back(owned(module + ".weight_zero_point", DType::i32, {(m.outs + 7) / 8, parts.groups}, words));
    } else if (m.code.asymmetric) {
        std::vector<int8_t> zeros;
        for (int64_t i = 0; i < m.outs * parts.groups; ++i) zeros.push_back(static_cast<int8_t>(static_cast<int>(zeros_of(m)[i]) - 128));
        tensors.push_back(owned(module + ".weight_zero_point", DType::i8, {m.outs, parts.groups}, zeros));
    }
    if (m.inputs != CodedModule::Inputs::fixed) return;
    tensors.push_back(owned(module + ".input_scale", DType::f32, {1}, std::vector<float>{m.input.scale}));
    if (m.input.zero)
        tensors.push_back(owned(module + ".input_zero_point", DType::i8, {1}, std::vector<int8_t>{static_cast<int8_t>(m.input.zero)}));
}

Json coded_folder_config(const std::map<std::string, CodedModule>& modules) {
    std::map<std::string, Json> groups;  // by what they say
    std::set<std::string> formats;
    for (const auto& [name, m] : modules) {
        const bool packed = m.code.bits == 4, by_output = m.code.group == m.ins;
        const std::string format = packed ? "pack-quantized" : "int-quantized";
        formats.insert(format);
        Json group = {{"format", format}, {"output_activations", nullptr}, {"input_activations", nullptr}};
        group["weights"] = {{"num_bits", m.code.bits},
                            {"type", "int"},
                            {"symmetric", !m.code.asymmetric},
                            {"strategy", by_output ? "channel" : "group"},
                            {"group_size", by_output ? Json() : Json(m.code.group)},
                            {"dynamic", false}};
        if (m.inputs == CodedModule::Inputs::by_token)
            group["input_activations"] = {{"num_bits", 8}, {"type", "int"}, {"symmetric", true}, {"strategy", "token"}, {"dynamic", true}};
        if (m.inputs == CodedModule::Inputs::fixed)
            group["input_activations"] = {
                {"num_bits", 8}, {"type", "int"}, {"symmetric", m.input.zero == 0}, {"strategy", "tensor"}, {"dynamic", false}};
        Json& known = groups.emplace(group.dump(), group).first->second;
        known["targets"].push_back(name);
    }
    Json all = Json::object();
    for (const auto& [text, group] : groups) all[fmt::format("group_{}", all.size())] = group;
    return {{"quant_method", kMethod},
            {"format", formats.size() == 1 ? *formats.begin() : "mixed-precision"},
            {"quantization_status", "compressed"},
            {"config_groups", all},
            {"ignore", Json::array()}};
}

}  // namespace ds
