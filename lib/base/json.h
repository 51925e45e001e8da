// JSON, by nlohmann-json, with the limits that input from outside needs.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

#include "base/status.h"

namespace ds {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;  // keeps the file's order of keys

// Parses a text. `//` and `/* */` comments are accepted. Refused, with `place`, line and column: bad syntax, duplicate keys, nesting
// deeper than 64, bad UTF-8. J: Json or OrderedJson.
template <class J = Json>
Result<J> parse_json(std::string_view text, std::string_view place);

}  // namespace ds
