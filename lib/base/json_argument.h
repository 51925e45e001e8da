// JSON that a host passes to a call, as options or attributes: what is wrong with it is a wrong argument, not a damaged file.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"

namespace ds {

template <class J = Json>
Result<J> parse_argument(std::string_view text, std::string_view place, Code code = Code::E_INVALID_ARGUMENT) {
    auto parsed = parse_json<J>(text, place);
    if (!parsed.ok()) return Status(code, parsed.status().message());
    return parsed;
}

// Whether it is an object with none but the known keys.
Status check_options(const Json& options, std::string_view call, const std::vector<std::string_view>& known);
// A call's options, checked; "" is an empty object.
Result<Json> options_of(std::string_view text, std::string_view call, const std::vector<std::string_view>& known);
// An option of a kind; where it is absent: false, "", {}.
Result<bool> flag_of(const Json& options, std::string_view call, const char* key);
Result<std::string> text_of(const Json& options, std::string_view call, const char* key);
Result<Json> object_of(const Json& options, std::string_view call, const char* key);

}  // namespace ds
