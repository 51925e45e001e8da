#include "base/json_argument.h"

#include <algorithm>

namespace ds {
namespace {

Status wrong_kind(const Json& options, std::string_view call, const char* key, const char* accepted) {
    return fail(Code::E_INVALID_ARGUMENT, "{}: option {} must be {}, not {}", call, key, accepted, options[key].dump());
}

}  // namespace

Status check_options(const Json& options, std::string_view call, const std::vector<std::string_view>& known) {
    if (!options.is_object()) return fail(Code::E_INVALID_ARGUMENT, "{}: options must be a JSON object, not {}", call, options.dump());
    for (const auto& [key, value] : options.items())
        if (std::find(known.begin(), known.end(), key) == known.end())
            return fail(Code::E_INVALID_ARGUMENT, "{}: option {} is unknown; accepted: {}", call, key, fmt::join(known, ", "));
    return ok();
}

Result<Json> options_of(std::string_view text, std::string_view call, const std::vector<std::string_view>& known) {
    if (text.empty()) return Json::object();
    DS_TRY(Json options, parse_argument(text, fmt::format("{}: options", call)));
    DS_CHECK(check_options(options, call, known));
    return options;
}

Result<bool> flag_of(const Json& options, std::string_view call, const char* key) {
    if (!options.contains(key)) return false;
    if (!options[key].is_boolean()) return wrong_kind(options, call, key, "true or false");
    return options[key].get<bool>();
}

Result<std::string> text_of(const Json& options, std::string_view call, const char* key) {
    if (!options.contains(key)) return std::string();
    if (!options[key].is_string()) return wrong_kind(options, call, key, "a string");
    return options[key].get<std::string>();
}

Result<Json> object_of(const Json& options, std::string_view call, const char* key) {
    if (!options.contains(key)) return Json::object();
    if (!options[key].is_object()) return wrong_kind(options, call, key, "an object");
    return options[key];
}

}  // namespace ds
