#include "api/host.h"

#include <algorithm>
#include <cstring>

#include "base/json_argument.h"

namespace ds::api {

Status read_struct_bytes(const void* from, void* to, size_t known, const char* name) {
    DS_REQUIRE(from != nullptr, "{} must not be NULL", name);
    size_t size;
    std::memcpy(&size, from, sizeof(size));
    DS_REQUIRE(size >= sizeof(size) && size <= 4096, "{}: struct_size is {}; set it to sizeof({}), {} for this library", name, size, name,
               known);
    const auto* bytes = static_cast<const unsigned char*>(from);
    const auto* unknown = std::find_if(bytes + std::min(size, known), bytes + size, [](unsigned char b) { return b != 0; });
    if (unknown != bytes + size)
        return fail(Code::E_UNSUPPORTED,
                    "{}: struct_size is {}, this library knows {} bytes, and byte {} is not zero: a field that it lacks is in use", name,
                    size, known, unknown - bytes);
    std::memcpy(to, from, std::min(size, known));
    return ok();
}

Result<Json> json_argument(const char* json, const char* argument) {
    if (!json) return Json::object();
    DS_TRY(Json value, parse_argument(json, argument));
    DS_REQUIRE(value.is_object(), "{}: expected a JSON object, but found {}", argument, value.dump());
    return value;
}

Result<std::string> optional_text(const char* text, const char* argument) {
    if (!text) return std::string();
    return text_argument(text, argument);
}

Status from_callback(int32_t code, const char* callback) {
    const char* name = ds_status_name(code);
    if (std::strcmp(name, "DS_?") == 0) return fail(Code::E_USER, "the host's {} returned {}", callback, code);
    return fail(Code::E_USER, "the host's {} returned {} ({})", callback, code, name);
}

}  // namespace ds::api
