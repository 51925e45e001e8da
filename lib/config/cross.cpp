// Keys against each other, and what libdsrt lacks.
#include "config/keys.h"
#include "config/sparse_layout.h"
#include "config/stages.h"

namespace ds {
namespace {

struct View {
    const Config& config;
    const WrittenAs& names;
    const Json& json(const char* path) const {
        static const Json kNull;
        const Json* value = at_path(config.effective, path);
        return value ? *value : kNull;
    }
    bool on(const char* path) const { return json(path) == true; }
    template <class... Args>
    Status refuse(const char* path, fmt::format_string<Args...> format, Args&&... args) const {
        return fail(Code::E_CONFIG, "config: {}: {}", written(names, path), fmt::format(format, std::forward<Args>(args)...));
    }
    template <class... Args>
    Status lack(const char* path, fmt::format_string<Args...> format, Args&&... args) const {
        return fail(Code::E_UNSUPPORTED, "config: {}: {}", written(names, path), fmt::format(format, std::forward<Args>(args)...));
    }
};

Status check_optimizer(const View& view) {
    for (const char* section : {"optimizer", "scheduler"}) {
        const std::string type = std::string(section) + ".type";
        if (view.json(section).is_object() && (!view.json(type.c_str()).is_string() || view.json(type.c_str()) == ""))
            return view.refuse(type.c_str(), "must name the {}, where {} is given", section,
                               written(view.names, std::string(section) + ".params"));
    }
    if (view.config.optimizer.params.contains("max_grad_norm"))
        return view.refuse("optimizer.params.max_grad_norm", "not an optimizer's; use gradient_clipping");
    const Json& groups = view.json("param_groups");
    for (size_t i = 0; i < groups.size(); ++i)
        if (!groups[i].contains("match") || groups[i]["match"].is_null())
            return fail(Code::E_CONFIG, "config: param_groups[{}].match: needed; a glob or an array of globs", i);
    return ok();
}

Status check_precision(const View& view) {
    if (view.on("fp16.enabled") && view.on("bf16.enabled"))
        return view.refuse("fp16.enabled", "excludes {}; keep one", written(view.names, "bf16.enabled"));
    if (view.on("fp16.enabled") && view.config.fp16.static_scale == 0) {
        if (view.config.fp16.window < 1)
            return view.refuse("fp16.loss_scale_window", "must be above 0 with a dynamic loss scale, is {}", view.config.fp16.window);
        if (!(view.config.fp16.min_scale > 0))
            return view.refuse("fp16.min_loss_scale", "must be above 0 with a dynamic loss scale, is {}", view.config.fp16.min_scale);
    }
    if (view.on("amp.enabled") && view.config.zero_stage > 0)
        return view.refuse("amp.enabled", "excludes zero_optimization.stage {}", view.config.zero_stage);
    if (view.on("bf16.bf16_optimizer_states") && !view.on("bf16.bf16_master_weights_and_grads"))
        return view.refuse("bf16.bf16_optimizer_states", "needs bf16.bf16_master_weights_and_grads");
    if (view.on("bf16.stochastic_rounding") && !view.on("bf16.enabled"))
        return view.refuse("bf16.stochastic_rounding", "needs bf16.enabled");
    if (view.on("fp8.enabled") && !view.on("bf16.enabled"))
        return view.refuse("fp8.enabled", "needs bf16.enabled: what is no product of a linear layer runs in bf16");
    const DType mode = view.config.precision == PrecisionMode::f16    ? DType::f16
                       : view.config.precision == PrecisionMode::bf16 ? DType::bf16
                                                                      : DType::f32;
    for (const char* key : {"data_types.param_dtype", "quantization.bnb_4bit_compute_dtype"})
        if (const auto said = parse_float_dtype(view.json(key)); said && *said != mode)
            return view.refuse(key, "{} contradicts fp16.enabled and bf16.enabled, which make it {}", view.json(key).dump(), name_of(mode));
    return ok();
}

Status check_quantization(const View& view) {
    if (!view.config.quantization.enabled) return ok();
    if (view.config.sparse_weights.enabled)
        return view.refuse("sparse_weights.enabled", "excludes quantization: a weight is kept in one way");
    int ways = 0;
    for (const char* way : {"quantization.load_in_4bit", "quantization.load_in_8bit", "quantization.load_in_16bit"}) ways += view.on(way);
    if (ways != 1)
        return view.refuse("quantization.load_in_4bit", "one of it, load_in_8bit and load_in_16bit must be true, {}",
                           ways ? "not several" : "and none is");
    if (view.on("quantization.load_in_16bit")) {
        if (view.config.precision != PrecisionMode::bf16)
            return view.refuse("quantization.load_in_16bit", "keeps weights in bf16: set bf16.enabled");
        if (view.config.quantization.skip)
            return view.refuse("quantization.llm_int8_skip_modules", "belongs to load_in_4bit and load_in_8bit");
    }
    if (view.json("quantization.bnb_4bit_quant_type") == "fp4")
        return view.lack("quantization.bnb_4bit_quant_type", "fp4 is not built; there are nf4 and int4");
    if (view.on("quantization.bnb_4bit_use_double_quant") && !view.on("quantization.load_in_4bit"))
        return view.refuse("quantization.bnb_4bit_use_double_quant", "belongs to load_in_4bit, which is false");
    const bool in_groups = view.config.quantization.code.group > 0;
    if (in_groups && view.on("quantization.bnb_4bit_use_double_quant"))
        return view.refuse("quantization.bnb_4bit_use_double_quant", "belongs to nf4; the scales of int4's groups stay whole");
    for (const char* key : {"quantization.group_size", "quantization.sym"})
        if (!in_groups && at_path(view.config.given, key)) return view.refuse(key, "belongs to load_in_4bit with bnb_4bit_quant_type int4");
    if (view.on("quantization.int8_products") && !view.on("quantization.load_in_8bit"))
        return view.refuse("quantization.int8_products", "belongs to load_in_8bit, which is false");
    return ok();
}

Status check_zero(const View& view) {
    const int64_t stage = view.config.zero_stage;
    if (view.json("gradient_allreduce_op") == "sum") {
        const char* why = stage == 3                                           ? "zero_optimization.stage 3"
                          : view.json("zero_optimization.zenflow").is_object() ? "zero_optimization.zenflow"
                          : view.on("compile.deepcompile")                     ? "compile.deepcompile"
                                                                               : nullptr;
        if (why) return view.refuse("gradient_allreduce_op", "sum excludes {}", why);
    }
    if (view.json("zero_optimization.offload_param.device") != "none" && stage != 3)
        return view.refuse("zero_optimization.offload_param.device", "needs zero_optimization.stage 3, which is {}", stage);
    if (view.config.sparse_gradients && stage >= 2)
        return view.refuse(
            "sparse_gradients",
            "excludes zero_optimization.stage {}, which sums gradients in buckets as they come; stages 0 and 1 can send rows", stage);
    for (const char* section : {"zero_optimization.offload_optimizer", "zero_optimization.offload_param"}) {
        const std::string device = std::string(section) + ".device", path = std::string(section) + ".nvme_path";
        if (view.json(device.c_str()) == "nvme" && !view.json(path.c_str()).is_string())
            return view.refuse(path.c_str(), "needed where {} is nvme: a folder on a fast disk", device);
    }
    if (view.json("zero_optimization.offload_optimizer.ratio") < 1 && stage != 3)
        return view.refuse("zero_optimization.offload_optimizer.ratio", "below 1 needs zero_optimization.stage 3, which is {}", stage);
    if (view.config.mesh.pipeline > 1 && stage >= 2)
        return view.refuse("parallel.pipeline", "{} stages exclude zero_optimization.stage {}", view.config.mesh.pipeline, stage);
    return ok();
}

// An `enabled` above the key that is false: nothing reads the key.
bool switched_off(const View& view, std::string_view path) {
    for (size_t dot = path.rfind('.'); dot != path.npos && dot > 0; dot = path.rfind('.', dot - 1)) {
        const std::string section(path.substr(0, dot));
        for (const std::string& gate : {section + ".enabled", section + ".shared_parameters.enabled"})
            if (gate != path && find_key(gate) && view.json(gate.c_str()) == false) return true;
    }
    return false;
}

// What the key, or for a switch the thing that it switches on, is.
const char* said_of(const Key& key) {
    std::string_view path = key.path;
    for (const std::string_view gate : {".enabled", ".shared_parameters"})
        if (path.ends_with(gate)) path.remove_suffix(gate.size());
    const Key* section = find_key(path);
    return section ? section->meaning : key.meaning;
}

Status check_key_support(const View& view, const Key& key, std::vector<std::string>& notes) {
    const Json* value = at_path(view.config.given, key.path);
    const bool section_is_a_choice = key.is_section() && std::string_view(key.fallback) == "null";
    if (!value || (key.is_section() && !section_is_a_choice) || *value == key.default_value() || switched_off(view, key.path)) return ok();
    if (key.support->kind == KeySupport::hint)
        notes.push_back(fmt::format("config: {}: accepted, and changes nothing: {}", written(view.names, key.path), key.support->note));
    if (key.support->kind != KeySupport::missing) return ok();
    if (section_is_a_choice) return view.lack(key.path, "not supported ({})", key.meaning);
    return view.lack(key.path, "{} is not supported, only {} ({})", short_dump(*value), key.fallback, said_of(key));
}

}  // namespace

Status check_combinations(const Config& config, const WrittenAs& names) {
    const View view{config, names};
    DS_CHECK(check_optimizer(view));
    DS_CHECK(check_precision(view));
    DS_CHECK(check_sparse_layout(config.sparse_attention));
    DS_CHECK(check_zero(view));
    return check_quantization(view);
}

Status check_support(const Config& config, const WrittenAs& names, std::vector<std::string>& notes) {
    const View view{config, names};
    if (config.distributed == "nccl") return view.lack("distributed", "nccl is not supported, only auto, none, gloo, mpi and host");
    if (config.grad_accum_dtype != DType::f32)
        return view.lack("data_types.grad_accum_dtype", "{} is not supported, only fp32: gradients accumulate in f32",
                         short_dump(view.json("data_types.grad_accum_dtype")));
    if (config.mesh.data == 1 && config.zero_stage > 0)
        notes.push_back(fmt::format("config: {}: with one data rank, nothing is shared", written(names, "zero_optimization.stage")));
    for (const Key& key : config_keys()) {
        if (key.in_list()) continue;
        DS_CHECK(check_key_support(view, key, notes));
    }
    return ok();
}

}  // namespace ds
