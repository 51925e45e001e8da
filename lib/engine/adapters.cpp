#include "engine/adapters.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "base/file.h"
#include "ckpt/safetensors.h"

namespace ds {
namespace {

constexpr const char *kConfig = "adapter_config.json", *kWeights = "adapter_model.safetensors";
constexpr std::string_view kPrefix = "base_model.model.";

double scale_of(double alpha, int64_t r, bool by_root) {
    return alpha / (by_root ? std::sqrt(static_cast<double>(r)) : static_cast<double>(r));
}

// What PEFT can say and this engine can't do.
Status refuse_unbuilt(const Json& settings, const std::string& place) {
    if (settings.value("peft_type", Json("LORA")) != "LORA")
        return fail(Code::E_UNSUPPORTED, "{}: peft_type {} is not built; there is LORA", place, settings["peft_type"].dump());
    for (const char* key : {"use_dora", "use_qalora", "lora_bias"})
        if (settings.value(key, Json(false)) == true) return fail(Code::E_UNSUPPORTED, "{}: {} is not built", place, key);
    for (const char* key : {"rank_pattern", "alpha_pattern"})
        if (settings.contains(key) && settings[key].is_object() && !settings[key].empty())
            return fail(Code::E_UNSUPPORTED, "{}: {} is not built: one rank and alpha an adapter", place, key);
    for (const char* key : {"layer_replication", "megatron_config", "trainable_token_indices", "alora_invocation_tokens"})
        if (settings.contains(key) && !settings[key].is_null()) return fail(Code::E_UNSUPPORTED, "{}: {} is not built", place, key);
    return ok();
}

// The parameter of a tensor that is no adapter's: a bias, or a module trained whole, under the names that PEFT's wrappers give it. "" : a
// copy that is not used.
std::string parameter_of(std::string_view tensor) {
    std::string name(tensor.substr(kPrefix.size()));
    if (name.find(".original_module.") != name.npos) return "";
    for (const std::string_view wrapper : {".base_layer.", ".modules_to_save."})
        if (const size_t at = name.find(wrapper); at != name.npos) name.replace(at, wrapper.size(), ".");
    return name;
}

std::string module_of(std::string_view tensor) {
    tensor.remove_prefix(kPrefix.size());
    return std::string(tensor.substr(0, tensor.size() - std::string_view(".lora_A.weight").size()));
}

Result<AdapterInfo> describe(const std::string& folder) {
    const auto path = std::filesystem::path(folder) / kConfig;
    DS_TRY(const std::string text, read_file(path, size_t{1} << 20));
    AdapterInfo info{.folder = folder};
    DS_TRY(info.settings, parse_json(text, path.string()));
    if (!info.settings.is_object()) return fail(Code::E_CORRUPT, "{}: must hold an object", path.string());
    DS_CHECK(refuse_unbuilt(info.settings, path.string()));
    const Json r = info.settings.value("r", Json(8)), alpha = info.settings.value("lora_alpha", Json(8));
    if (!r.is_number_integer() || r.get<int64_t>() < 1 || r.get<int64_t>() > 65536)
        return fail(Code::E_CORRUPT, "{}: r must be a positive integer, not {}", path.string(), r.dump());
    if (!alpha.is_number()) return fail(Code::E_CORRUPT, "{}: lora_alpha must be a number, not {}", path.string(), alpha.dump());
    info.r = r.get<int64_t>();
    info.scale = scale_of(alpha.get<double>(), info.r, info.settings.value("use_rslora", Json(false)) == true);
    return info;
}

AdapterBias bias_of(const std::string& word) {
    return word == "all" ? AdapterBias::all : word == "lora_only" ? AdapterBias::adapted : AdapterBias::none;
}

}  // namespace

Result<Adapters> Adapters::open(const LoraConfig& config, const Graph& model, std::string base_model) {
    Adapters adapters;
    bool any_fresh = config.adapters.empty();
    AdapterInfo fresh{.r = config.r, .scale = scale_of(config.alpha, config.r, config.use_rslora)};
    DS_TRY(const std::set<std::string> wanted, modules_named(model, config.target_modules));
    std::set<std::string> last;
    for (const std::string& module : wanted) last.insert(module.substr(module.rfind('.') + 1));
    const std::map<std::string, bool> linear = linear_modules(model);
    for (const auto& [module, out_first] : linear)
        if (!out_first) adapters.input_first_.insert(module);
    const bool conv1d = std::any_of(wanted.begin(), wanted.end(), [&](const std::string& module) { return !linear.at(module); });
    fresh.settings = {{"peft_type", "LORA"},
                      {"task_type", nullptr},
                      {"base_model_name_or_path", base_model},
                      {"r", config.r},
                      {"lora_alpha", config.alpha},
                      {"lora_dropout", config.dropout},
                      {"target_modules", last},
                      {"modules_to_save", config.modules_to_save.empty() ? Json() : Json(config.modules_to_save)},
                      {"bias", config.bias},
                      {"use_rslora", config.use_rslora},
                      {"fan_in_fan_out", conv1d},
                      {"inference_mode", true},
                      {"init_lora_weights", true}};
    for (const auto& [name, folder] : config.adapters) {
        if (folder.empty()) {
            adapters.all_[name] = fresh;
            any_fresh = true;
            continue;
        }
        auto info = describe(folder);
        if (!info.ok()) return std::move(std::move(info).status()).within(fmt::format("config: lora.adapters: {}", name));
        adapters.all_[name] = std::move(info).value();
    }
    if (config.adapters.empty()) adapters.all_["default"] = fresh;
    adapters.active_ = config.adapter.empty() ? adapters.first() : config.adapter;
    DS_CHECK(adapters.check(adapters.active_));

    AdapterSpec& spec = adapters.spec_;
    const AdapterInfo& first = adapters.all_.at(adapters.active_);
    spec.r = 0;
    spec.scale = first.scale;
    spec.dropout = first.folder.empty() ? config.dropout : first.settings.value("lora_dropout", 0.0);
    spec.trained = config.modules_to_save;
    spec.bias = bias_of(config.bias);
    if (any_fresh) spec.modules = wanted;
    for (const auto& [name, info] : adapters.all_) {
        spec.r = std::max(spec.r, info.r);
        if (info.folder.empty()) continue;
        if (info.settings.contains("modules_to_save") && info.settings["modules_to_save"].is_array())
            for (const Json& module : info.settings["modules_to_save"])
                if (module.is_string()) spec.trained.push_back(module.get<std::string>());
        if (const Json bias = info.settings.value("bias", Json("none")); bias.is_string())
            spec.bias = std::max(spec.bias, bias_of(bias.get<std::string>()), [](AdapterBias a, AdapterBias b) {
                const auto rank = [](AdapterBias x) { return x == AdapterBias::all ? 2 : x == AdapterBias::adapted ? 1 : 0; };
                return rank(a) < rank(b);
            });
        DS_TRY(const SafetensorsFile file, SafetensorsFile::open(std::filesystem::path(info.folder) / kWeights));
        for (const TensorView& tensor : file.tensors())
            if (is_adapter_tensor(tensor.name)) spec.modules.insert(module_of(tensor.name));
    }
    for (const std::string& module : spec.modules)
        if (!linear.count(module))
            return fail(Code::E_CONFIG, "config: lora.adapters: an adapter changes {}, which is no linear module of this model", module);
    return adapters;
}

Status Adapters::check(const std::string& name) const {
    if (all_.count(name)) return ok();
    std::string known;
    for (const auto& [each, info] : all_) known += (known.empty() ? "" : ", ") + each;
    return fail(Code::E_CONFIG, "config: lora.adapter: there is no adapter {}; there are {}", name, known);
}

Result<std::map<std::string, HostTensor>> Adapters::read(const std::string& name) const {
    const AdapterInfo& info = all_.at(name);
    std::map<std::string, HostTensor> tensors;
    const auto path = std::filesystem::path(info.folder) / kWeights;
    DS_TRY(const SafetensorsFile file, SafetensorsFile::open(path));
    for (const TensorView& view : file.tensors()) {
        if (!view.name.starts_with(kPrefix))
            return fail(Code::E_CORRUPT, "{}: tensor {} does not begin with {}", path.string(), view.name, kPrefix);
        if (!is_float(view.dtype))
            return fail(Code::E_CORRUPT, "{}: tensor {} is {}, but adapters are f32, f16 or bf16", path.string(), view.name,
                        name_of(view.dtype));
        HostTensor value = HostTensor::zeros(DType::f32, view.shape);
        convert(view.data.data(), view.dtype, value.data, DType::f32, value.count());
        if (!is_adapter_tensor(view.name)) {
            if (const std::string parameter = parameter_of(view.name); !parameter.empty()) tensors[parameter] = std::move(value);
            continue;
        }
        const bool is_a = view.name.ends_with("lora_A.weight");
        if (view.shape.size() != 2 || view.shape[is_a ? 0 : 1] != info.r)
            return fail(Code::E_CORRUPT, "{}: tensor {} is {}, but adapter_config.json says r {}", path.string(), view.name, view.shape,
                        info.r);
        HostTensor wide = HostTensor::zeros(DType::f32, is_a ? Shape{spec_.r, view.shape[1]} : Shape{view.shape[0], spec_.r});
        const auto factor = static_cast<float>(is_a ? 1 : info.scale / spec_.scale);
        for (int64_t i = 0; i < view.shape[0]; ++i)
            for (int64_t j = 0; j < view.shape[1]; ++j)
                wide.as<float>()[static_cast<size_t>(i * wide.shape[1] + j)] =
                    value.as<float>()[static_cast<size_t>(i * view.shape[1] + j)] * factor;
        tensors[view.name] = std::move(wide);
    }
    return tensors;
}

HostTensor Adapters::for_file(const std::string& parameter, const HostTensor& value) const {
    if (!is_adapter_tensor(parameter)) return value;
    const AdapterInfo& info = all_.at(active_);
    const bool is_a = parameter.ends_with("lora_A.weight");
    HostTensor out = HostTensor::zeros(DType::f32, is_a ? Shape{info.r, value.shape[1]} : Shape{value.shape[0], info.r});
    const auto factor = static_cast<float>(is_a ? 1 : spec_.scale / info.scale);
    for (int64_t i = 0; i < out.shape[0]; ++i)
        for (int64_t j = 0; j < out.shape[1]; ++j)
            out.as<float>()[static_cast<size_t>(i * out.shape[1] + j)] =
                value.as<float>()[static_cast<size_t>(i * value.shape[1] + j)] * factor;
    return out;
}

std::string Adapters::file_name(const std::string& parameter) const {
    if (is_adapter_tensor(parameter)) return parameter;
    const size_t dot = parameter.rfind('.');
    const bool adapted = dot != parameter.npos && spec_.modules.count(parameter.substr(0, dot));
    return std::string(kPrefix) + (adapted ? parameter.substr(0, dot) + ".base_layer" + parameter.substr(dot) : parameter);
}

Json Adapters::state() const {
    Json counts;
    for (const auto& [name, adapter] : waiting) counts[name] = adapter.updates;
    counts[active_] = updates;
    return {{"active", active_}, {"updates", std::move(counts)}};
}

// Where several adapters are trained alike, each has all that any of them has.
Json Adapters::settings_for_file() const {
    Json settings = all_.at(active_).settings;
    if (all_.size() == 1) return settings;
    settings["target_modules"] = spec_.modules;
    settings["bias"] = spec_.bias == AdapterBias::all ? "all" : spec_.bias == AdapterBias::adapted ? "lora_only" : "none";
    settings["modules_to_save"] = spec_.trained.empty() ? Json() : Json(spec_.trained);
    return settings;
}

}  // namespace ds
