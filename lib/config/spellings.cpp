// Older spellings and short forms of keys, turned into the canonical ones before anything is checked.
#include "config/keys.h"
#include "config/stages.h"

namespace ds {
namespace {

Status both(const std::string& older, const std::string& path) {
    return fail(Code::E_CONFIG, "config: {}: an older spelling of {}, which is given too; keep one", older, path);
}

// A section given as one value: {"fp16": true} -> {"fp16": {"enabled": true}}.
void widen(Json& given, const char* section, const char* key, Json::value_t type, WrittenAs& names) {
    Json& value = given[section];
    const bool short_form = type == Json::value_t::boolean ? value.is_boolean() : value.is_string();
    if (!short_form) {
        if (value.is_null()) given.erase(section);
        return;
    }
    if (std::string_view(key) == "stage") value = value.get<bool>() ? 1 : 0;  // ZeRO as a switch was stage 1
    names[std::string(section) + "." + key] = section;
    value = Json{{key, std::move(value)}};
}

// Offload as a switch was an offload to host memory.
Result<Json> moved_value(std::string_view older, Json value) {
    if (older != "zero_optimization.cpu_offload" && older != "zero_optimization.cpu_offload_param") return value;
    if (!value.is_boolean()) return fail(Code::E_CONFIG, "config: {}: must be true or false, is {}", older, short_dump(value));
    return Json{{"device", value.get<bool>() ? "cpu" : "none"}};
}

bool means_absent(const Json& given, std::string_view older, const Json& value) {
    if (older == "pipeline.stages" && value == "auto") return true;
    if (older == "tensor_parallel.autotp_size" && value == 0) return true;
    if (older == "expert_parallel.autoep_size") {
        const Json* enabled = at_path(given, "expert_parallel.enabled");
        if (!enabled || *enabled != true) return true;
    }
    return value.is_null();
}

}  // namespace

std::string written(const WrittenAs& names, const std::string& path) {
    const auto it = names.find(path);
    if (it != names.end()) return it->second;
    const size_t dot = path.rfind('.');
    if (dot == path.npos) return path;
    const std::string section = path.substr(0, dot), shown = written(names, section);
    return shown == section ? path : shown + path.substr(dot);
}

Status respell(Json& given, WrittenAs& names) {
    if (given.contains("optimizer")) widen(given, "optimizer", "type", Json::value_t::string, names);
    if (given.contains("scheduler")) widen(given, "scheduler", "type", Json::value_t::string, names);
    if (given.contains("parallel") && given["parallel"] == "auto") given.erase("parallel");  // the default
    for (const Spelling& spelling : config_spellings()) {
        const Json* value = at_path(given, spelling.older);
        if (!value) continue;
        Json taken = *value;
        erase_path(given, spelling.older);
        if (means_absent(given, spelling.older, taken)) continue;
        if (const Json* other = at_path(given, spelling.path); other && !other->is_null()) return both(spelling.older, spelling.path);
        const std::string_view path = spelling.path;
        if (const size_t dot = path.find('.'); dot != path.npos) {
            const Json* section = at_path(given, path.substr(0, dot));
            if (section && !section->is_object()) return ok();  // the check of types will say so
        }
        DS_TRY(Json value_now, moved_value(spelling.older, std::move(taken)));
        set_path(given, spelling.path, std::move(value_now));
        names[spelling.path] = spelling.older;
    }
    if (given.contains("fp16")) widen(given, "fp16", "enabled", Json::value_t::boolean, names);
    if (given.contains("bf16")) widen(given, "bf16", "enabled", Json::value_t::boolean, names);
    if (given.contains("zero_optimization")) widen(given, "zero_optimization", "stage", Json::value_t::boolean, names);
    return ok();
}

}  // namespace ds
