// The stages of parse_config, each in its own file, in the order they run.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "config/config.h"

namespace ds {

// canonical path -> the path that the user wrote, where they differ
using WrittenAs = std::map<std::string, std::string>;
std::string written(const WrittenAs& names, const std::string& path);

// spellings.cpp: older spellings and short forms become canonical ones. Both forms of a key at once are an error.
Status respell(Json& given, WrittenAs& names);

// check.cpp: every key is known, of its type and in its range; values come out in plain form, "auto" and null where they mean absent are
// gone. Unknown keys are an error, or with strict = false a warning, and dropped.
Status check_keys(Json& given, const WrittenAs& names, bool strict, std::vector<std::string>& warnings);

// fill.cpp: the value of every key, and the typed settings from them.
Json with_defaults(const Json& given);
Status fill(Config& config);

// cross.cpp: keys against each other, and what libdsrt lacks.
Status check_combinations(const Config& config, const WrittenAs& names);
Status check_support(const Config& config, const WrittenAs& names, std::vector<std::string>& notes);

}  // namespace ds
