// The table of keys.def: what each key of the configuration is, and the checks of one value.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/status.h"

namespace ds {

enum class KeyType { Bool, Int, Float, Text, IntOrAuto, List, Map, Section, Any };

struct KeyRule {
    const char* accepted;                  // ends "must be an integer": " above 0"; without a leading blank it stands alone
    bool (*holds)(const Json&) = nullptr;  // nullptr = always
    const char* choices = nullptr;         // "a|b": one of these, in any case; the value becomes the listed spelling
};

struct KeySupport {
    enum Kind { live, runtime, hint, missing } kind;
    const char* name;  // as ds_config_describe prints it
    const char* note;  // why a hint changes nothing
};

struct Key {
    const char* path;
    KeyType type;
    const char* fallback;  // JSON text
    const KeyRule* rule;
    const KeySupport* support;
    const char* meaning;

    bool is_section() const { return type == KeyType::Section; }
    bool in_list() const { return std::string_view(path).find("[]") != std::string_view::npos; }
    Json default_value() const;
};

struct Spelling {
    const char* older;
    const char* path;
};

std::span<const Key> config_keys();
std::span<const Spelling> config_spellings();
const Key* find_key(std::string_view path);   // canonical paths only
bool is_strict_section(const Key& section);   // DeepSpeed's pydantic sections
const char* type_name(KeyType type);          // "integer"
std::string accepted_values(const Key& key);  // "an integer above 0"

// The known path (older spellings included) that is nearest to an unknown one.
std::string nearest_path(const std::string& path);

// Checks one value that isn't a section and brings it to its plain form (5e8 -> 500000000, "Sum" -> "sum"; in strict sections "3" -> 3).
// shown: the path as the user sees it, for messages.
Status check_value(const Key& key, const std::string& shown, bool strict, Json& value);

std::string short_dump(const Json& value);  // at most about 80 bytes, for messages

// Values by path: "a.b.c".
const Json* at_path(const Json& object, std::string_view path);
void set_path(Json& object, std::string_view path, Json value);  // makes the objects on the way
void erase_path(Json& object, std::string_view path);

}  // namespace ds
