// guard: the border between the C ABI and the library. Every function of include/dsrt is one guard around its body; the only catch of
// the library stands in guard.cpp.
#pragma once

#include <string>
#include <type_traits>

#include "base/status.h"
#include "dsrt/status.h"

namespace ds::api {

// Whether a failure of the body becomes the thread's last error. Destroy calls must not touch it.
enum class Report { errors, nothing };

ds_status run_guarded(Status (*body)(void*), void* context, Report report);

// Runs body() -> Status: no exception gets out, the thread's last error is set by a failure, queued log messages are delivered at the end.
template <class Body>
ds_status guard(Body&& body, Report report = Report::errors) {
    using B = std::remove_reference_t<Body>;
    return run_guarded([](void* b) -> Status { return (*static_cast<B*>(b))(); }, const_cast<void*>(static_cast<const void*>(&body)),
                       report);
}

// For the few calls that may come from a signal handler: neither formats nor allocates.
ds_status fail_with_literal(ds_status code, const char* message);

// A required pointer.
#define DS_NOT_NULL(pointer) DS_REQUIRE((pointer) != nullptr, #pointer " must not be NULL")

// A copy from malloc(), NUL-terminated, for the host to ds_free.
Result<char*> handed_out(std::string_view text);

// A name or path from the host: not NULL, valid UTF-8.
Result<std::string> text_argument(const char* text, const char* argument);
bool valid_utf8(std::string_view text);
std::string with_valid_utf8(std::string text);  // what is wrong becomes U+FFFD

}  // namespace ds::api
