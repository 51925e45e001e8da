#include "data/tokenizer/fields.h"

namespace ds::tokenizer {
namespace {

const Json* find(const Json& object, const char* name) {
    if (!object.is_object()) return nullptr;
    const auto it = object.find(name);
    return it == object.end() || it->is_null() ? nullptr : &*it;
}

Status wrong(std::string_view place, const char* name, std::string_view wanted, const Json* field) {
    if (!field) return fail(Code::E_CORRUPT, "{}.{}: missing; must be {}", place, name, wanted);
    return fail(Code::E_CORRUPT, "{}.{}: must be {}, but is {}", place, name, wanted,
                field->dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 100));
}

}  // namespace

Result<bool> bool_field(const Json& object, const char* name, std::string_view place, std::optional<bool> otherwise) {
    const Json* field = find(object, name);
    if (!field && otherwise) return *otherwise;
    if (!field || !field->is_boolean()) return wrong(place, name, "true or false", field);
    return field->get<bool>();
}

Result<int64_t> int_field(const Json& object, const char* name, std::string_view place, int64_t low, int64_t high,
                          std::optional<int64_t> otherwise) {
    const Json* field = find(object, name);
    if (!field && otherwise) return *otherwise;
    const bool fits = field && field->is_number_integer() && !(field->is_number_unsigned() && field->get<uint64_t>() > INT64_MAX) &&
                      field->get<int64_t>() >= low && field->get<int64_t>() <= high;
    if (!fits) return wrong(place, name, fmt::format("a whole number from {} to {}", low, high), field);
    return field->get<int64_t>();
}

Result<std::string> string_field(const Json& object, const char* name, std::string_view place, std::optional<std::string> otherwise) {
    const Json* field = find(object, name);
    if (!field && otherwise) return *otherwise;
    if (!field || !field->is_string()) return wrong(place, name, "a string", field);
    return field->get<std::string>();
}

Result<std::optional<std::string>> optional_string(const Json& object, const char* name, std::string_view place) {
    const Json* field = find(object, name);
    if (!field) return std::optional<std::string>();
    if (!field->is_string()) return wrong(place, name, "a string or null", field);
    return std::optional(field->get<std::string>());
}

Result<const Json*> array_field(const Json& object, const char* name, std::string_view place) {
    const Json* field = find(object, name);
    if (!field || !field->is_array()) return wrong(place, name, "an array", field);
    return field;
}

Result<std::string> type_of(const Json& stage, std::string_view place) {
    if (!stage.is_object()) return fail(Code::E_CORRUPT, "{}: must be an object with a \"type\"", place);
    return string_field(stage, "type", place);
}

}  // namespace ds::tokenizer
