// JSON that a host passes to a call, as options or attributes: what is wrong with it is a wrong argument, not a damaged file.
#pragma once

#include "base/json.h"

namespace ds {

inline Result<Json> parse_argument(std::string_view text, std::string_view place, Code code = Code::E_INVALID_ARGUMENT) {
    auto parsed = parse_json(text, place);
    if (!parsed.ok()) return Status(code, parsed.status().message());
    return parsed;
}

}  // namespace ds
