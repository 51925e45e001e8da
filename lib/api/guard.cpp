#include "api/guard.h"

#include <cxxabi.h>

#include <cstdlib>
#include <cstring>
#include <new>

#include "base/log.h"

namespace ds::api {
namespace {

// The thread's last error: a text, or a literal where no memory may be asked for.
thread_local std::string last_error;
thread_local const char* last_literal = nullptr;

template <class F>
Status attempt(F&& f) {
    try {
        return f();
    } catch (abi::__forced_unwind&) {
        throw;  // the host ends this thread with pthread_cancel; swallowing that would abort the process
    } catch (const std::bad_alloc&) { return Status(Code::E_OUT_OF_MEMORY); } catch (const std::exception& e) {
        return fail(Code::E_INTERNAL, "an exception reached the border of the library: {}", e.what());
    } catch (...) { return fail(Code::E_INTERNAL, "an exception of unknown type reached the border of the library"); }
}

// The log has nobody to tell when it fails.
template <class F>
void quietly(F&& f) {
    const Status status = attempt([&]() -> Status {
        f();
        return ok();
    });
    (void)status;
}

void remember(const Status& status) {
    if (status.message().empty()) {
        last_literal = status.code() == Code::E_OUT_OF_MEMORY ? "memory could not be allocated" : code_name(status.code());
        return;
    }
    const Status stored = attempt([&]() -> Status {
        last_error = with_valid_utf8(status.message());
        return ok();
    });
    last_literal = stored.ok() ? nullptr : "memory could not be allocated, not even for the message of the error";
}

// Length of the well-formed UTF-8 sequence at text[at], 0 if there is none. Unicode 15, table 3-7.
size_t sequence_at(std::string_view text, size_t at) {
    const auto byte = [&](size_t i) -> unsigned { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0; };
    const auto continues = [&](size_t i, unsigned low = 0x80, unsigned high = 0xbf) { return byte(i) >= low && byte(i) <= high; };
    const unsigned c = byte(at);
    if (c < 0x80) return c ? 1 : 0;  // NUL would cut a C string short
    if (c >= 0xc2 && c <= 0xdf) return continues(at + 1) ? 2 : 0;
    if (c >= 0xe0 && c <= 0xef) {
        const bool second = c == 0xe0 ? continues(at + 1, 0xa0) : c == 0xed ? continues(at + 1, 0x80, 0x9f) : continues(at + 1);
        return second && continues(at + 2) ? 3 : 0;
    }
    if (c >= 0xf0 && c <= 0xf4) {
        const bool second = c == 0xf0 ? continues(at + 1, 0x90) : c == 0xf4 ? continues(at + 1, 0x80, 0x8f) : continues(at + 1);
        return second && continues(at + 2) && continues(at + 3) ? 4 : 0;
    }
    return 0;
}

}  // namespace

ds_status run_guarded(Status (*body)(void*), void* context, Report report) {
    const LogCall call;
    const Status status = attempt([&] { return body(context); });
    if (!status.ok() && report == Report::errors) {
        remember(status);
        quietly([&] { log(Level::debug, "api", "{}: {}", code_name(status.code()), ds_last_error()); });
    }
    if (LogCall::outermost()) quietly(deliver_log);
    return static_cast<ds_status>(status.code());
}

ds_status fail_with_literal(ds_status code, const char* message) {
    last_literal = message;
    return code;
}

Result<char*> handed_out(std::string_view text) {
    char* copy = static_cast<char*>(std::malloc(text.size() + 1));
    if (!copy) return Status(Code::E_OUT_OF_MEMORY);
    std::memcpy(copy, text.data(), text.size());
    copy[text.size()] = 0;
    return copy;
}

bool valid_utf8(std::string_view text) {
    for (size_t i = 0; i < text.size();) {
        const size_t n = sequence_at(text, i);
        if (!n) return false;
        i += n;
    }
    return true;
}

std::string with_valid_utf8(std::string text) {
    if (valid_utf8(text)) return text;
    std::string out;
    for (size_t i = 0; i < text.size();) {
        const size_t n = sequence_at(text, i);
        out += n ? std::string_view(text).substr(i, n) : "\xef\xbf\xbd";
        i += n ? n : 1;
    }
    return out;
}

Result<std::string> text_argument(const char* text, const char* argument) {
    DS_REQUIRE(text != nullptr, "{} must not be NULL", argument);
    DS_REQUIRE(valid_utf8(text), "{} must be UTF-8, but is \"{}\"", argument, with_valid_utf8(text));
    return std::string(text);
}

}  // namespace ds::api

const char* ds_last_error(void) { return ds::api::last_literal ? ds::api::last_literal : ds::api::last_error.c_str(); }
