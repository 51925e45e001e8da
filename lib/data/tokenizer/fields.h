// Reads the fields of a JSON object with errors that name the place.
#pragma once

#include <optional>
#include <string>

#include "base/json.h"

namespace ds::tokenizer {

// The named field of the object; absent or null gives the default, or an error where there is none.
Result<bool> bool_field(const Json& object, const char* name, std::string_view place, std::optional<bool> otherwise = {});
Result<int64_t> int_field(const Json& object, const char* name, std::string_view place, int64_t low, int64_t high,
                          std::optional<int64_t> otherwise = {});
Result<std::string> string_field(const Json& object, const char* name, std::string_view place, std::optional<std::string> otherwise = {});
// A field that is absent, null or a string.
Result<std::optional<std::string>> optional_string(const Json& object, const char* name, std::string_view place);
// The array under that name.
Result<const Json*> array_field(const Json& object, const char* name, std::string_view place);
// The type of a stage: its "type" field.
Result<std::string> type_of(const Json& stage, std::string_view place);

}  // namespace ds::tokenizer
