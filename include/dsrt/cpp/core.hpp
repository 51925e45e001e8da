// What every class of dsrt.hpp stands on: errors, codes, views of numbers, and handles that free themselves.
// SPDX-License-Identifier: Apache-2.0
#ifndef DSRT_CPP_CORE_HPP
#define DSRT_CPP_CORE_HPP

#include <dsrt/dsrt.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace dsrt {

class Error : public std::runtime_error {
public:
    Error(ds_status code, const char* message) : std::runtime_error(message), code_(code) {}
    ds_status code() const noexcept { return code_; }
    const char* name() const noexcept { return ds_status_name(code_); }

private:
    ds_status code_;
};

// Outcomes that are not errors.
enum class Outcome : int32_t { ok = DS_OK, skipped = DS_SKIPPED, pending = DS_PENDING, end = DS_END };

enum class DType : int32_t {
    f32 = DS_F32,
    f16 = DS_F16,
    bf16 = DS_BF16,
    f64 = DS_F64,
    i32 = DS_I32,
    i64 = DS_I64,
    u8 = DS_U8,
    boolean = DS_BOOL,
    i8 = DS_I8,
    f8e4m3 = DS_F8E4M3,
    f8e5m2 = DS_F8E5M2
};
enum class What : int32_t { weight = DS_WEIGHT, grad = DS_GRAD, first_moment = DS_FIRST_MOMENT, second_moment = DS_SECOND_MOMENT };
enum class LogLevel : int32_t {
    trace = DS_LOG_TRACE,
    debug = DS_LOG_DEBUG,
    info = DS_LOG_INFO,
    warn = DS_LOG_WARN,
    error = DS_LOG_ERROR,
    off = DS_LOG_OFF
};

using Shape = std::vector<int64_t>;

// A view of consecutive numbers (std::span is C++20).
template <class T>
class Span {
public:
    Span() = default;
    Span(const T* data, size_t size) : data_(data), size_(size) {}
    Span(const std::vector<T>& v) : data_(v.data()), size_(v.size()) {}  // NOLINT: implicit on purpose
    template <size_t N>
    Span(const T (&array)[N]) : data_(array), size_(N) {}  // NOLINT
    const T* data() const { return data_; }
    size_t size() const { return size_; }
    const T* begin() const { return data_; }
    const T* end() const { return data_ + size_; }
    const T& operator[](size_t i) const { return data_[i]; }

private:
    const T* data_ = nullptr;
    size_t size_ = 0;
};

namespace detail {

// What callbacks on this thread threw, until the call that ran them comes back. The log's can't stop that call.
struct Thrown {
    std::exception_ptr callback, log;
};
inline Thrown& pending() {
    thread_local Thrown thrown;
    return thrown;
}

inline Outcome check(ds_status status) {
    const Thrown thrown = std::exchange(pending(), Thrown{});
    if (status == DS_E_USER && thrown.callback) std::rethrow_exception(thrown.callback);
    if (status < 0) throw Error(status, ds_last_error());
    if (thrown.log) std::rethrow_exception(thrown.log);
    return static_cast<Outcome>(status);
}

// Runs a callback; an exception becomes DS_E_USER.
template <class F>
int32_t call(F&& f) noexcept {
    try {
        return f();
    } catch (...) {
        pending().callback = std::current_exception();
        return DS_E_USER;
    }
}

template <class F>
void release(void* user) {
    delete static_cast<F*>(user);
}

// The text that a call hands out.
template <class F>
std::string text_of(F&& call) {
    char* text = nullptr;
    size_t bytes = 0;
    const ds_status status = call(&text, &bytes);
    const std::unique_ptr<char, void (*)(void*)> owned(text, ds_free);
    check(status);
    return std::string(text, bytes ? bytes : std::strlen(text));
}

// A text as C's, which ends at a NUL: one with a NUL inside is refused.
inline const char* c_text(const std::string& text, const std::string& what = "the text") {
    if (const size_t at = text.find('\0'); at != std::string::npos)
        throw Error(DS_E_INVALID_ARGUMENT, (what + " holds a NUL at byte " + std::to_string(at)).c_str());
    return text.c_str();
}
inline const char* or_null(const std::optional<std::string>& text) { return text ? c_text(*text) : nullptr; }

// What a handle is called once it is closed.
inline const char* kind(const ds_tensor*) { return "tensor"; }
inline const char* kind(const ds_batch*) { return "batch"; }
inline const char* kind(const ds_encoding*) { return "encoding"; }
inline const char* kind(const ds_tokenizer*) { return "tokenizer"; }
inline const char* kind(const ds_text_stream*) { return "text stream"; }
inline const char* kind(const ds_cancel*) { return "cancel switch"; }
inline const char* kind(const ds_graph*) { return "graph"; }
inline const char* kind(const ds_options*) { return "set of options"; }
inline const char* kind(const ds_data*) { return "data source"; }
inline const char* kind(const ds_engine*) { return "engine"; }
[[noreturn]] inline void closed(const char* kind) { throw Error(DS_E_STATE, (std::string("this ") + kind + " is closed").c_str()); }

template <class T, void (*Destroy)(T*)>
class Handle {
public:
    Handle() = default;
    explicit Handle(T* handle) : handle_(handle) {}
    Handle(Handle&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Handle& operator=(Handle&& other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }
    ~Handle() { close(); }
    T* get() const {
        if (!handle_) closed(kind(handle_));
        return handle_;
    }
    bool holds(const T* handle) const noexcept { return handle_ == handle; }
    T* release() noexcept { return std::exchange(handle_, nullptr); }
    void close() noexcept {
        const Thrown before = pending();
        Destroy(release());
        pending() = before;  // a log that throws meanwhile has nobody to tell
    }
    // What a call makes.
    template <class F>
    static T* made(F&& call) {
        T* handle = nullptr;
        const ds_status status = call(&handle);
        Handle owned(handle);
        check(status);
        return owned.release();
    }

private:
    T* handle_ = nullptr;
};

using TensorHandle = Handle<ds_tensor, ds_tensor_destroy>;
using BatchHandle = Handle<ds_batch, ds_batch_destroy>;
using EncodingHandle = Handle<ds_encoding, ds_encoding_destroy>;
using TokenizerHandle = Handle<ds_tokenizer, ds_tokenizer_destroy>;
using TextStreamHandle = Handle<ds_text_stream, ds_text_stream_destroy>;
using CancelHandle = Handle<ds_cancel, ds_cancel_destroy>;
using GraphHandle = Handle<ds_graph, ds_graph_destroy>;
using OptionsHandle = Handle<ds_options, ds_options_destroy>;
using DataHandle = Handle<ds_data, ds_data_destroy>;
using EngineHandle = Handle<ds_engine, ds_engine_destroy>;

template <class T>
struct TypeCode;
#define DSRT_TYPE_CODE(type, code)                  \
    template <>                                     \
    struct TypeCode<type> {                         \
        static constexpr DType value = DType::code; \
    }
DSRT_TYPE_CODE(float, f32);
DSRT_TYPE_CODE(double, f64);
DSRT_TYPE_CODE(int32_t, i32);
DSRT_TYPE_CODE(int64_t, i64);
DSRT_TYPE_CODE(uint8_t, u8);
DSRT_TYPE_CODE(int8_t, i8);
#undef DSRT_TYPE_CODE

}  // namespace detail

}  // namespace dsrt

#endif  // DSRT_CPP_CORE_HPP
