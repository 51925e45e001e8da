// What a host passes to be kept: callbacks with their user data, and structs that may be older or newer than this library.
#pragma once

#include <memory>

#include "api/guard.h"
#include "base/json.h"

namespace ds::api {

// `user` of a stored callback. release(user) is called once, when the last reference goes; set `release` when nothing can fail any more.
struct HostData {
    void* user = nullptr;
    void (*release)(void*) = nullptr;
    explicit HostData(void* u) : user(u) {}
    HostData(const HostData&) = delete;
    HostData& operator=(const HostData&) = delete;
    ~HostData() {
        if (release) release(user);
    }
};

// Reads a struct that begins with struct_size: fields that a smaller one lacks are zero; bytes that a larger one has more must be.
Status read_struct_bytes(const void* from, void* to, size_t known, const char* name);
template <class Struct>
Result<Struct> read_struct(const Struct* from, const char* name) {
    Struct to{};
    DS_CHECK(read_struct_bytes(from, &to, sizeof(Struct), name));
    return to;
}

// The host's JSON; NULL is an empty object. Anything but an object is refused.
Result<Json> json_argument(const char* json, const char* argument);

Result<std::string> optional_text(const char* text, const char* argument);  // "" for NULL

// The failure of a callback that returned a negative code.
Status from_callback(int32_t code, const char* callback);

}  // namespace ds::api
