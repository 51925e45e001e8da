// Status and Result<T>: how every fallible function of the library answers.
//
// A Status is a code from errors.def and, for errors, a message that says where, what, and what would be accepted.
// Result<T> is a T or such a Status. Neither throws; DS_TRY and DS_CHECK pass failures up.
#pragma once

#include <fmt/format.h>

#include <optional>
#include <string>
#include <utility>

namespace ds {

enum class Code : int {
#define DS_CODE(name, value, text) name = value,
#include "base/errors.def"
#undef DS_CODE
};

const char* code_name(Code code);  // "DS_E_CONFIG"

class [[nodiscard]] Status {
public:
    Status() = default;  // OK
    Status(Code code, std::string message) : code_(code), message_(std::move(message)) {}
    explicit Status(Code code) : code_(code) {}

    bool ok() const { return static_cast<int>(code_) >= 0; }  // positive codes are not errors
    Code code() const { return code_; }
    const std::string& message() const { return message_; }

    // The same failure, told from further out: "model.safetensors: " + message.
    Status within(std::string_view place) &&;

private:
    Code code_ = Code::OK;
    std::string message_;
};

inline Status ok() { return {}; }

template <class... Args>
Status fail(Code code, fmt::format_string<Args...> format, Args&&... args) {
    return Status(code, fmt::format(format, std::forward<Args>(args)...));
}

template <class T>
class [[nodiscard]] Result {
public:
    Result(T value) : value_(std::move(value)) {}          // NOLINT: implicit on purpose, so that `return value;` works
    Result(Status status) : status_(std::move(status)) {}  // NOLINT
    bool ok() const { return value_.has_value(); }
    const T* operator->() const { return &*value_; }
    const Status& status() const& { return status_; }
    Status&& status() && { return std::move(status_); }
    T& value() & { return *value_; }
    const T& value() const& { return *value_; }
    T&& value() && { return std::move(*value_); }
    T* operator->() { return &*value_; }
    T& operator*() & { return *value_; }
    const T& operator*() const& { return *value_; }
    T&& operator*() && { return *std::move(value_); }

private:
    std::optional<T> value_;
    Status status_;
};

#define DS_CONCAT_(a, b) a##b
#define DS_CONCAT(a, b) DS_CONCAT_(a, b)
// DS_TRY(auto x, f()): x is f()'s value, or this function returns f()'s failure.
#define DS_TRY(variable, expression)                                                                       \
    auto DS_CONCAT(ds_result_, __LINE__) = (expression);                                                   \
    if (!DS_CONCAT(ds_result_, __LINE__).ok()) return std::move(DS_CONCAT(ds_result_, __LINE__)).status(); \
    variable = std::move(DS_CONCAT(ds_result_, __LINE__)).value()
// DS_CHECK(f()): returns f()'s failure.
#define DS_CHECK(expression) \
    if (::ds::Status ds_status_ = (expression); !ds_status_.ok()) return ds_status_
// DS_REQUIRE(condition, "weight must be {}", shape): an invalid argument unless the condition holds.
#define DS_REQUIRE(condition, ...) \
    if (!(condition)) return ::ds::fail(::ds::Code::E_INVALID_ARGUMENT, __VA_ARGS__)

}  // namespace ds
