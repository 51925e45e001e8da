// dsrt for C++17 and later: the C ABI with ownership, exceptions, strings and spans. Header-only: nothing here crosses the ABI but C.
//
// Every class owns one handle and moves. A failed call throws dsrt::Error with the code and the message of ds_last_error. An exception
// thrown by a callback passes through the library as an error code and comes out of the call that ran it; the log's comes out once that
// call has done its work. close() destroys before the destructor does; calls on a closed object throw DS_E_INVALID_ARGUMENT. The headers
// of the C calls say what each call means.
// SPDX-License-Identifier: Apache-2.0
#ifndef DSRT_DSRT_HPP
#define DSRT_DSRT_HPP

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
    f32 = DS_F32, f16 = DS_F16, bf16 = DS_BF16, f64 = DS_F64, i32 = DS_I32, i64 = DS_I64, u8 = DS_U8, boolean = DS_BOOL, i8 = DS_I8,
    f8e4m3 = DS_F8E4M3, f8e5m2 = DS_F8E5M2
};
enum class What : int32_t { weight = DS_WEIGHT, grad = DS_GRAD, first_moment = DS_FIRST_MOMENT, second_moment = DS_SECOND_MOMENT };
enum class LogLevel : int32_t {
    trace = DS_LOG_TRACE, debug = DS_LOG_DEBUG, info = DS_LOG_INFO, warn = DS_LOG_WARN, error = DS_LOG_ERROR, off = DS_LOG_OFF
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

inline const char* or_null(const std::optional<std::string>& text) { return text ? text->c_str() : nullptr; }

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
    T* get() const noexcept { return handle_; }
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
#define DSRT_TYPE_CODE(type, code) \
    template <>                    \
    struct TypeCode<type> {        \
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

inline std::string version() { return ds_version(); }
inline std::string build_info() { return ds_build_info(); }
// Scores of predictions ("spans", "squad", "bleu"), all of it JSON.
inline std::string score(const std::string& metric, const std::string& predictions_json, const std::string& references_json) {
    return detail::text_of([&](char** out, size_t*) { return ds_score(metric.c_str(), predictions_json.c_str(), references_json.c_str(), out); });
}

inline std::string config_describe() {
    return detail::text_of([](char** text, size_t*) { return ds_config_describe(text); });
}

// An empty function restores the default sink. What the function throws comes out of the call that logged, once that has done its work.
using LogFunction = std::function<void(LogLevel level, const char* component, const char* message)>;
inline void set_log(LogFunction sink, LogLevel level) {
    if (!sink) {
        detail::check(ds_set_log(nullptr, static_cast<int32_t>(level), nullptr, nullptr));
        return;
    }
    auto user = std::make_unique<LogFunction>(std::move(sink));
    const auto fn = [](int32_t l, const char* component, const char* message, void* u) {
        try {
            (*static_cast<LogFunction*>(u))(static_cast<LogLevel>(l), component, message);
        } catch (...) {
            detail::pending().log = std::current_exception();
        }
    };
    detail::check(ds_set_log(fn, static_cast<int32_t>(level), user.get(), detail::release<LogFunction>));
    user.release();
}

class Tensor {
public:
    explicit Tensor(ds_tensor* owned) : handle_(owned) {}
    // Zeros.
    Tensor(DType dtype, const Shape& shape) : Tensor(make(dtype, shape, nullptr, 0)) {}
    Tensor(DType dtype, const Shape& shape, const void* data, size_t bytes) : Tensor(make(dtype, shape, data, bytes)) {}
    template <class T>
    static Tensor of(const Shape& shape, Span<T> values) {
        return Tensor(detail::TypeCode<T>::value, shape, values.data(), values.size() * sizeof(T));
    }
    template <class T>
    static Tensor of(const Shape& shape, const std::vector<T>& values) { return of(shape, Span<T>(values)); }
    // Consumes src, unless it throws.
    static Tensor from_dlpack(DLManagedTensorVersioned* src) {
        return Tensor(detail::TensorHandle::made([&](auto out) { return ds_tensor_from_dlpack(src, out); }));
    }
    DLManagedTensorVersioned* to_dlpack() {
        DLManagedTensorVersioned* out = nullptr;
        detail::check(ds_tensor_to_dlpack(get(), &out));
        return out;
    }
    // The same for DLPack before 1.0.
    static Tensor from_dlpack_legacy(DLManagedTensor* src) {
        return Tensor(detail::TensorHandle::made([&](auto out) { return ds_tensor_from_dlpack_legacy(src, out); }));
    }
    DLManagedTensor* to_dlpack_legacy() {
        DLManagedTensor* out = nullptr;
        detail::check(ds_tensor_to_dlpack_legacy(get(), &out));
        return out;
    }

    DType dtype() const {
        int32_t code = 0;
        detail::check(ds_tensor_info(get(), &code, nullptr, nullptr));
        return static_cast<DType>(code);
    }
    Shape shape() const {
        int32_t ndim = 0;
        const int64_t* dims = nullptr;
        detail::check(ds_tensor_info(get(), nullptr, &ndim, &dims));
        return Shape(dims, dims + ndim);
    }
    size_t count() const {
        size_t n = 1;
        for (const int64_t d : shape()) n *= static_cast<size_t>(d);
        return n;
    }
    // The contents, converted, into memory of exactly count() elements of that type.
    void read_into(DType dtype, void* dst, size_t bytes) const { detail::check(ds_tensor_read(get(), static_cast<int32_t>(dtype), dst, bytes)); }
    template <class T = float>
    std::vector<T> read() const {
        std::vector<T> values(count());
        detail::check(ds_tensor_read(get(), static_cast<int32_t>(detail::TypeCode<T>::value), values.data(), values.size() * sizeof(T)));
        return values;
    }
    ds_tensor* get() const noexcept { return handle_.get(); }
    void close() noexcept { handle_.close(); }

private:
    static ds_tensor* make(DType dtype, const Shape& shape, const void* data, size_t bytes) {
        return detail::TensorHandle::made([&](auto out) {
            return ds_tensor_create(static_cast<int32_t>(dtype), static_cast<int32_t>(shape.size()), shape.data(), data, bytes, out);
        });
    }
    detail::TensorHandle handle_;
};

class Batch {
public:
    Batch() : handle_(make()) {}
    explicit Batch(ds_batch* owned) : handle_(owned) {}
    Batch& set(const std::string& name, const Tensor& t) {
        detail::check(ds_batch_set(get(), name.c_str(), t.get()));
        return *this;
    }
    template <class T>
    Batch& set(const std::string& name, const Shape& shape, const std::vector<T>& values) { return set(name, Tensor::of(shape, values)); }
    Tensor operator[](const std::string& name) const {
        return Tensor(detail::TensorHandle::made([&](auto out) { return ds_batch_get(get(), name.c_str(), out); }));
    }
    ds_batch* get() const noexcept { return handle_.get(); }
    void close() noexcept { handle_.close(); }
    ds_batch* release() noexcept { return handle_.release(); }

private:
    static ds_batch* make() {
        return detail::BatchHandle::made([](auto out) { return ds_batch_create(out); });
    }
    detail::BatchHandle handle_;
};

struct Encoding {
    std::vector<int32_t> ids, type_ids;
    std::vector<std::pair<int64_t, int64_t>> offsets;  // in code points
};

class Tokenizer {
public:
    explicit Tokenizer(const std::string& path) : handle_(load(path)) {}
    Encoding encode(const std::string& text, const std::optional<std::string>& pair = {}, bool add_special_tokens = true) const {
        const detail::EncodingHandle owned(detail::EncodingHandle::made([&](auto out) {
            return ds_tokenizer_encode(get(), text.data(), text.size(), pair ? pair->data() : nullptr, pair ? pair->size() : 0,
                                       add_special_tokens, out);
        }));
        const ds_encoding* made = owned.get();
        Encoding out;
        size_t n = 0;
        const int32_t* ids = nullptr;
        const int64_t* ends = nullptr;
        detail::check(ds_encoding_ids(made, &ids, &n));
        out.ids.assign(ids, ids + n);
        detail::check(ds_encoding_type_ids(made, &ids, &n));
        out.type_ids.assign(ids, ids + n);
        detail::check(ds_encoding_offsets(made, &ends, &n));
        for (size_t i = 0; i < n; ++i) out.offsets.emplace_back(ends[2 * i], ends[2 * i + 1]);
        return out;
    }
    Batch encode_batch(const std::vector<std::string>& texts, const std::vector<std::string>& pairs = {},
                       const std::optional<std::string>& options_json = {}) const {
        if (!pairs.empty() && pairs.size() != texts.size()) throw Error(DS_E_INVALID_ARGUMENT, "pairs: as many as texts, or none");
        std::vector<const char*> first, second;
        for (const std::string& t : texts) first.push_back(t.c_str());
        for (const std::string& p : pairs) second.push_back(p.c_str());
        Batch batch;
        detail::check(ds_tokenizer_encode_batch(get(), first.data(), pairs.empty() ? nullptr : second.data(), texts.size(),
                                                detail::or_null(options_json), batch.get()));
        return batch;
    }
    std::string apply_chat_template(const std::string& messages_json, const std::optional<std::string>& options_json = {}) const {
        return detail::text_of([&](char** out, size_t*) {
            return ds_tokenizer_apply_chat_template(get(), messages_json.c_str(), detail::or_null(options_json), out);
        });
    }
    std::string decode(Span<int32_t> ids, bool skip_special = true) const {
        return detail::text_of([&](char** out, size_t* bytes) {
            return ds_tokenizer_decode(get(), ids.data(), ids.size(), skip_special, out, bytes);
        });
    }
    ds_tokenizer* get() const noexcept { return handle_.get(); }
    void close() noexcept { handle_.close(); }

private:
    static ds_tokenizer* load(const std::string& path) {
        return detail::TokenizerHandle::made([&](auto out) { return ds_tokenizer_load(path.c_str(), out); });
    }
    detail::TokenizerHandle handle_;
};

// Text from ids that come a few at a time; every piece is whole UTF-8.
class TextStream {
public:
    explicit TextStream(const Tokenizer& tokenizer, bool skip_special = true) : handle_(make(tokenizer, skip_special)) {}
    std::string put(Span<int32_t> ids) { return ids.size() ? piece(ids.data(), ids.size()) : std::string(); }
    std::string end() { return piece(nullptr, 0); }
    ds_text_stream* get() const noexcept { return handle_.get(); }
    void close() noexcept { handle_.close(); }

private:
    static ds_text_stream* make(const Tokenizer& tokenizer, bool skip_special) {
        return detail::TextStreamHandle::made([&](auto out) { return ds_text_stream_create(tokenizer.get(), skip_special, out); });
    }
    std::string piece(const int32_t* ids, size_t n) {
        return detail::text_of([&](char** out, size_t* bytes) { return ds_text_stream_put(get(), ids, n, out, bytes); });
    }
    detail::TextStreamHandle handle_;
};

class Cancel {
public:
    Cancel() : handle_(make()) {}
    void set(bool on = true) { detail::check(ds_cancel_set(get(), on)); }
    ds_cancel* get() const noexcept { return handle_.get(); }
    void close() noexcept { handle_.close(); }

private:
    static ds_cancel* make() {
        return detail::CancelHandle::made([](auto out) { return ds_cancel_create(out); });
    }
    detail::CancelHandle handle_;
};

// An op of the host's own: see ds_op_callbacks. Without shapes every output is shaped as the first input; without backward the op has no gradient.
using OpValues = std::vector<ds_op_value>;
struct OpFunctions {
    std::function<void(const std::string& attrs_json, const OpValues& inputs, const OpValues& outputs)> forward;
    std::function<void(const std::string& attrs_json, const OpValues& inputs, const OpValues& outputs, const OpValues& output_gradients,
                       const OpValues& input_gradients)>
        backward;
    std::function<std::vector<Shape>(const std::string& attrs_json, const OpValues& inputs)> shapes;
    int32_t outputs = 1;
};

class Graph {
public:
    using Value = int32_t;
    Graph() : handle_(make()) {}
    static Graph parse(const std::string& text) {
        return Graph(detail::GraphHandle::made([&](auto out) { return ds_graph_parse(text.c_str(), out); }));
    }
    static std::string ops_json() {
        return detail::text_of([](char** out, size_t*) { return ds_graph_ops_json(out); });
    }
    Value input(const std::string& name, DType dtype, const Shape& shape) {
        Value v = -1;
        detail::check(ds_graph_input(get(), name.c_str(), static_cast<int32_t>(dtype), static_cast<int32_t>(shape.size()), shape.data(),
                                     &v));
        return v;
    }
    Value param(const std::string& name, const Shape& shape, const std::optional<std::string>& init_json = {}, DType dtype = DType::f32) {
        Value v = -1;
        detail::check(ds_graph_param(get(), name.c_str(), static_cast<int32_t>(dtype), static_cast<int32_t>(shape.size()), shape.data(),
                                     detail::or_null(init_json), &v));
        return v;
    }
    std::vector<Value> ops(const std::string& op, const std::vector<Value>& inputs, const std::optional<std::string>& attrs_json,
                           size_t outputs) {
        std::vector<Value> out(outputs, -1);
        detail::check(ds_graph_op(get(), op.c_str(), inputs.data(), inputs.size(), detail::or_null(attrs_json), out.data(), out.size()));
        return out;
    }
    Value op(const std::string& name, const std::vector<Value>& inputs, const std::optional<std::string>& attrs_json = {}) {
        return ops(name, inputs, attrs_json, 1).front();
    }
    Value model(const std::string& folder, const std::vector<Value>& inputs, const std::string& output_name,
                const std::optional<std::string>& options_json = {}) {
        Value v = -1;
        detail::check(ds_graph_model(get(), folder.c_str(), detail::or_null(options_json), inputs.data(), inputs.size(),
                                     output_name.c_str(), &v));
        return v;
    }
    void output(const std::string& name, Value value) { detail::check(ds_graph_output(get(), name.c_str(), value)); }
    void loss(Value value) { detail::check(ds_graph_loss(get(), value)); }
    void read(const std::string& text) { detail::check(ds_graph_read(get(), text.c_str())); }
    void define_op(const std::string& name, OpFunctions functions) {
        ds_op_callbacks callbacks{};
        callbacks.struct_size = sizeof(callbacks);
        callbacks.n_outputs = functions.outputs;
        if (functions.shapes) callbacks.shape = op_shape;
        if (functions.forward) callbacks.forward = op_forward;
        if (functions.backward) callbacks.backward = op_backward;
        auto user = std::make_unique<OpFunctions>(std::move(functions));
        callbacks.user = user.get();
        callbacks.release = detail::release<OpFunctions>;
        detail::check(ds_graph_define_op(get(), name.c_str(), &callbacks));
        user.release();
    }
    ds_graph* get() const noexcept { return handle_.get(); }
    void close() noexcept { handle_.close(); }

private:
    static int32_t op_shape(void* u, const char* attrs, const ds_op_value* in, size_t n, int32_t* ndim, int64_t (*shapes)[8]) {
        return detail::call([&] {
            const auto& f = *static_cast<OpFunctions*>(u);
            const std::vector<Shape> all = f.shapes(attrs, OpValues(in, in + n));
            if (all.size() != static_cast<size_t>(f.outputs)) throw Error(DS_E_INVALID_ARGUMENT, "shapes() must give a shape for each output");
            for (size_t i = 0; i < all.size(); ++i) {
                if (all[i].size() > 8) throw Error(DS_E_INVALID_ARGUMENT, "shapes() gives more than 8 dimensions");
                ndim[i] = static_cast<int32_t>(all[i].size());
                for (size_t d = 0; d < all[i].size(); ++d) shapes[i][d] = all[i][d];
            }
            return DS_OK;
        });
    }
    static int32_t op_forward(void* u, const char* attrs, const ds_op_value* in, size_t n, const ds_op_value* out) {
        return detail::call([&] {
            const auto& f = *static_cast<OpFunctions*>(u);
            f.forward(attrs, OpValues(in, in + n), OpValues(out, out + f.outputs));
            return DS_OK;
        });
    }
    static int32_t op_backward(void* u, const char* attrs, const ds_op_value* in, size_t n, const ds_op_value* out, const ds_op_value* out_gradients,
                               const ds_op_value* in_gradients) {
        return detail::call([&] {
            const auto& f = *static_cast<OpFunctions*>(u);
            f.backward(attrs, OpValues(in, in + n), OpValues(out, out + f.outputs), OpValues(out_gradients, out_gradients + f.outputs),
                       OpValues(in_gradients, in_gradients + n));
            return DS_OK;
        });
    }
    explicit Graph(ds_graph* owned) : handle_(owned) {}
    static ds_graph* make() {
        return detail::GraphHandle::made([](auto out) { return ds_graph_create(out); });
    }
    detail::GraphHandle handle_;
};

// A host's own optimizer: see ds_optimizer_callbacks.
using OptimizerFunction = std::function<void(const char* parameter, int64_t step, double lr, float* weight, const float* gradient,
                                             float* state, size_t n)>;

class Options {
public:
    Options() : handle_(make()) {}
    Options& graph(const Graph& g) { return done(ds_options_set_graph(get(), g.get())); }
    Options& cancel(const Cancel& c) { return done(ds_options_set_cancel(get(), c.get())); }
    Options& mpi(int32_t fortran_comm) { return done(ds_options_set_mpi(get(), fortran_comm)); }
    // A communicator of the host's own (dsrt/options.h); what `callbacks` refers to must live as long as the engines made with it.
    Options& communicator(const ds_communicator_callbacks& callbacks) { return done(ds_options_set_communicator(get(), &callbacks)); }
    Options& optimizer(int32_t floats_per_element, OptimizerFunction update) {
        auto user = std::make_unique<OptimizerFunction>(std::move(update));
        ds_optimizer_callbacks callbacks{};
        callbacks.struct_size = sizeof(callbacks);
        callbacks.user = user.get();
        callbacks.floats_per_element = floats_per_element;
        callbacks.update = [](void* u, const char* parameter, int64_t step, double lr, float* weight, const float* gradient, float* state,
                              size_t n) -> int32_t {
            return detail::call([&] {
                (*static_cast<OptimizerFunction*>(u))(parameter, step, lr, weight, gradient, state, n);
                return DS_OK;
            });
        };
        callbacks.release = detail::release<OptimizerFunction>;
        done(ds_options_set_optimizer(get(), &callbacks));
        user.release();
        return *this;
    }
    ds_options* get() const noexcept { return handle_.get(); }
    void close() noexcept { handle_.close(); }

private:
    static ds_options* make() {
        return detail::OptionsHandle::made([](auto out) { return ds_options_create(out); });
    }
    Options& done(ds_status status) {
        detail::check(status);
        return *this;
    }
    detail::OptionsHandle handle_;
};

class Engine;

// A host's own iterator. next() fills the batch (empty, and not to be kept), or answers false at the end of an epoch; save and restore may
// be left out.
struct DataFunctions {
    std::function<bool(Batch& batch)> next;
    std::function<std::string()> save;
    std::function<void(const std::string& cursor)> restore;
};

class Data {
public:
    explicit Data(const std::string& options_json, const Engine* engine = nullptr) : handle_(open(options_json.c_str(), engine)) {}
    explicit Data(const Engine& engine) : handle_(open(nullptr, &engine)) {}  // what the engine's config says under "data"
    explicit Data(DataFunctions functions, const Engine* engine = nullptr) : handle_(wrap(std::move(functions), engine)) {}
    // False at the end of an epoch; the next call starts the next one.
    bool next(Batch& batch) { return detail::check(ds_data_next(get(), batch.get())) != Outcome::end; }
    ds_data* get() const noexcept { return handle_.get(); }
    void close() noexcept { handle_.close(); }

private:
    static ds_data* open(const char* options_json, const Engine* engine);
    static ds_data* wrap(DataFunctions functions, const Engine* engine);
    detail::DataHandle handle_;
};

struct ParamInfo {
    std::string name;
    Shape shape;
    bool trainable;
};

using TokenFunction = std::function<bool(Span<int32_t> ids)>;  // false stops
using RowTokensFunction = std::function<bool(size_t row, Span<int32_t> ids)>;
using TextFunction = std::function<bool(const std::string& piece)>;

class Engine {
public:
    // config: JSON text or the path of a file; none: what DSRT_CONFIG or DEEPSPEED_CONFIG holds.
    explicit Engine(const std::optional<std::string>& config, const Options* options = nullptr) : handle_(make(config, options)) {}
    static std::string plan(const std::optional<std::string>& config, const Options* options = nullptr) {
        return detail::text_of([&](char** out, size_t*) { return ds_plan(detail::or_null(config), options ? options->get() : nullptr, out); });
    }

    float forward(const Batch& b) {
        float loss = 0;
        detail::check(ds_forward(get(), b.get(), &loss));
        return loss;
    }
    void forward_only(const Batch& b) { detail::check(ds_forward(get(), b.get(), nullptr)); }  // doesn't wait for the loss
    void backward() { detail::check(ds_backward(get())); }
    void backward_from(const Batch& gradients) { detail::check(ds_backward_from(get(), gradients.get())); }
    Outcome step() { return detail::check(ds_step(get())); }
    void zero_grad() { detail::check(ds_zero_grad(get())); }
    Outcome train_batch(Data& data, float* loss = nullptr) { return detail::check(ds_train_batch(get(), data.get(), loss)); }
    float eval(const Batch& b) {
        float loss = 0;
        detail::check(ds_eval(get(), b.get(), &loss));
        return loss;
    }
    void eval_only(const Batch& b) { detail::check(ds_eval(get(), b.get(), nullptr)); }

    void set(const std::string& key, const std::string& json) { detail::check(ds_engine_set(get(), key.c_str(), json.c_str())); }
    std::string get(const std::string& key) const {
        return detail::text_of([&](char** out, size_t*) { return ds_engine_get(get(), key.c_str(), out); });
    }
    Tensor output(const std::string& name) {
        return Tensor(detail::TensorHandle::made([&](auto out) { return ds_output(get(), name.c_str(), out); }));
    }
    double metric(const std::string& name) const {
        double value = 0;
        detail::check(ds_metric(get(), name.c_str(), &value));
        return value;
    }

    std::vector<ParamInfo> params() const {
        size_t n = 0;
        detail::check(ds_param_count(get(), &n));
        std::vector<ParamInfo> all;
        for (size_t i = 0; i < n; ++i) {
            const char* name = nullptr;
            int32_t ndim = 0, trainable = 0;
            const int64_t* shape = nullptr;
            detail::check(ds_param_name(get(), i, &name));
            detail::check(ds_param_info(get(), name, &ndim, &shape, &trainable));
            all.push_back({name, Shape(shape, shape + ndim), trainable != 0});
        }
        return all;
    }
    Tensor param(const std::string& name, What what = What::weight) {
        return Tensor(detail::TensorHandle::made([&](auto out) { return ds_param_get(get(), name.c_str(), static_cast<int32_t>(what), out); }));
    }
    void set_param(const std::string& name, const Tensor& t, What what = What::weight) {
        detail::check(ds_param_set(get(), name.c_str(), static_cast<int32_t>(what), t.get()));
    }

    void save(const std::string& dir, const std::optional<std::string>& tag = {}, const std::optional<std::string>& options_json = {}) {
        detail::check(ds_save(get(), dir.c_str(), detail::or_null(tag), detail::or_null(options_json)));
    }
    void load(const std::string& dir, const std::optional<std::string>& tag = {}, const std::optional<std::string>& options_json = {}) {
        detail::check(ds_load(get(), dir.c_str(), detail::or_null(tag), detail::or_null(options_json)));
    }
    void export_folder(const std::string& dir, const std::optional<std::string>& options_json = {}) {
        detail::check(ds_export(get(), dir.c_str(), detail::or_null(options_json)));
    }
    void report(const std::string& path, const std::optional<std::string>& contents_json = {}) {
        detail::check(ds_report(get(), path.c_str(), detail::or_null(contents_json)));
    }
    // The scores of the task, as JSON; data_json absent: what the config's split keeps from training.
    std::string evaluate(const std::optional<std::string>& data_json = {}, const std::optional<std::string>& options_json = {}) {
        return detail::text_of([&](char** out, size_t*) { return ds_evaluate(get(), detail::or_null(data_json), detail::or_null(options_json), out); });
    }
    std::vector<int32_t> generate(Span<int32_t> prompt, const std::optional<std::string>& options_json = {}, TokenFunction on_token = {}) {
        const ds_token_fn fn = [](const int32_t* ids, size_t n, void* user) -> int32_t {
            return detail::call([&] { return (*static_cast<TokenFunction*>(user))(Span<int32_t>(ids, n)) ? 0 : 1; });
        };
        int32_t* ids = nullptr;
        size_t n = 0;
        const ds_status status = ds_generate(get(), prompt.data(), prompt.size(), detail::or_null(options_json), on_token ? fn : nullptr,
                                             &on_token, &ids, &n);
        const std::unique_ptr<int32_t, void (*)(void*)> owned(ids, ds_free);
        detail::check(status);
        return std::vector<int32_t>(ids, ids + n);
    }
    // From text to text: the prompt is encoded with the tokenizer's special tokens, or without (a chat template's text has them already).
    // on_text hears of the new text as it becomes certain, in pieces of whole UTF-8; false stops.
    std::string generate_text(const Tokenizer& tokenizer, const std::string& prompt, const std::optional<std::string>& options_json = {},
                              const TextFunction& on_text = {}, bool add_special_tokens = true) {
        TextStream stream(tokenizer);
        std::string all;
        bool on = true;
        const auto heard = [&](const std::string& piece) {
            all += piece;
            if (on && on_text && !piece.empty()) on = on_text(piece);
            return on;
        };
        generate(tokenizer.encode(prompt, {}, add_special_tokens).ids, options_json, [&](Span<int32_t> ids) { return heard(stream.put(ids)); });
        heard(stream.end());
        return all;
    }
    // Of several prompts at once, the new ids of each. on_tokens: false ends that row.
    std::vector<std::vector<int32_t>> generate_batch(const std::vector<std::vector<int32_t>>& prompts,
                                                     const std::optional<std::string>& options_json = {}, RowTokensFunction on_tokens = {}) {
        const ds_row_tokens_fn fn = [](size_t row, const int32_t* ids, size_t n, void* user) -> int32_t {
            return detail::call([&] { return (*static_cast<RowTokensFunction*>(user))(row, Span<int32_t>(ids, n)) ? 0 : 1; });
        };
        std::vector<int32_t> all;
        std::vector<size_t> lengths;
        for (const auto& prompt : prompts) {
            all.insert(all.end(), prompt.begin(), prompt.end());
            lengths.push_back(prompt.size());
        }
        all.push_back(0);  // so that there is memory even without any id
        int32_t* ids = nullptr;
        size_t* counts = nullptr;
        const ds_status status = ds_generate_batch(get(), all.data(), lengths.data(), lengths.size(), detail::or_null(options_json),
                                                   on_tokens ? fn : nullptr, &on_tokens, &ids, &counts);
        const std::unique_ptr<int32_t, void (*)(void*)> owned(ids, ds_free);
        const std::unique_ptr<size_t, void (*)(void*)> owned_counts(counts, ds_free);
        detail::check(status);
        std::vector<std::vector<int32_t>> rows;
        for (size_t r = 0; r < prompts.size(); ids += counts[r++]) rows.emplace_back(ids, ids + counts[r]);
        return rows;
    }
    ds_engine* get() const noexcept { return handle_.get(); }
    void close() noexcept { handle_.close(); }

private:
    static ds_engine* make(const std::optional<std::string>& config, const Options* options) {
        return detail::EngineHandle::made([&](auto out) {
            return ds_engine_create(detail::or_null(config), options ? options->get() : nullptr, out);
        });
    }
    detail::EngineHandle handle_;
};

inline ds_data* Data::open(const char* options_json, const Engine* engine) {
    return detail::DataHandle::made([&](auto out) { return ds_data_open(options_json, engine ? engine->get() : nullptr, out); });
}

inline ds_data* Data::wrap(DataFunctions functions, const Engine* engine) {
    auto user = std::make_unique<DataFunctions>(std::move(functions));
    ds_data_source source{};
    source.struct_size = sizeof(source);
    source.user = user.get();
    source.next = [](void* u, ds_batch* filled) -> int32_t {
        Batch batch(filled);
        const int32_t code = detail::call([&]() -> int32_t { return static_cast<DataFunctions*>(u)->next(batch) ? DS_OK : DS_END; });
        (void)batch.release();  // the library's
        return code;
    };
    if (user->save) source.save = [](void* u, char** json) -> int32_t {
        return detail::call([&]() -> int32_t {
            *json = ::strdup(static_cast<DataFunctions*>(u)->save().c_str());
            return *json ? DS_OK : DS_E_OUT_OF_MEMORY;
        });
    };
    if (user->restore) source.restore = [](void* u, const char* json) -> int32_t {
        return detail::call([&]() -> int32_t {
            static_cast<DataFunctions*>(u)->restore(json);
            return DS_OK;
        });
    };
    source.release = detail::release<DataFunctions>;
    return detail::DataHandle::made([&](auto out) {
        const ds_status status = ds_data_create(&source, engine ? engine->get() : nullptr, out);
        if (status >= 0) (void)user.release();  // the data's
        return status;
    });
}

}  // namespace dsrt

#endif  // DSRT_DSRT_HPP
