// What the languages that SWIG serves need beside dsrt.hpp: memory that one side lends the other, small results, and callbacks as objects.
// SPDX-License-Identifier: Apache-2.0
#ifndef DSRT_BINDINGS_HOST_HPP
#define DSRT_BINDINGS_HOST_HPP

#include <dsrt/dsrt.hpp>

namespace dsrt {

// Bytes that one side lends the other. Each language maps it to its own kind of buffer.
struct Memory;
#ifndef SWIG
struct Memory {
    void* data = nullptr;
    size_t bytes = 0;
};
#endif

// The memory of a tensor, lent out without a copy: it lives until this is closed, whatever happens to the tensor.
class View {
public:
    explicit View(Tensor& t) : lent_(t.to_dlpack()) {
        const DLTensor& d = lent_->dl_tensor;
        bytes_ = (d.dtype.bits + 7u) / 8u * d.dtype.lanes;
        for (int32_t i = 0; i < d.ndim; ++i) bytes_ *= static_cast<size_t>(d.shape[i]);
    }
    ~View() { close(); }
    Memory memory() const {
        if (!lent_) detail::closed("view");
        return {static_cast<char*>(lent_->dl_tensor.data) + lent_->dl_tensor.byte_offset, bytes_};
    }
    uint64_t address() const { return reinterpret_cast<uintptr_t>(memory().data); }
    uint64_t bytes() const { return memory().bytes; }
    bool read_only() const {
        if (!lent_) detail::closed("view");
        return (lent_->flags & DLPACK_FLAG_BITMASK_READ_ONLY) != 0;
    }
    void close() {
        if (auto* lent = std::exchange(lent_, nullptr)) lent->deleter(lent);
    }
    View(const View&) = delete;
    View& operator=(const View&) = delete;

private:
    DLManagedTensorVersioned* lent_;
    size_t bytes_;
};

// What a step of train_batch came to: the outcome's number (0 updated, 1 skipped, 3 data at its end), and the loss.
struct Trained {
    int32_t outcome;
    float loss;
};

// The parameters of an engine, as they were when asked for.
class Params {
public:
    explicit Params(std::vector<ParamInfo> all) : all_(std::move(all)) {}
    size_t count() const { return all_.size(); }
    std::string name(size_t i) const { return all_.at(i).name; }
    Shape shape(size_t i) const { return all_.at(i).shape; }
    const ParamInfo& info(size_t i) const { return all_.at(i); }
    bool trainable(size_t i) const { return all_.at(i).trainable; }

private:
    std::vector<ParamInfo> all_;
};

// Python calls its callables itself (python/callbacks.i). In the other languages a callback is an object of a class that derives from one of
// these (SWIG's directors). An answer below 0 says that the host's code failed: the call that ran it ends with DS_E_USER, and the language's
// layer, which kept what was thrown, throws it there; no exception crosses from one language into another. released() is called once, after
// the last use. Numbers lie at an address, for the time of the call.
#ifndef SWIGPYTHON
class Callback {
public:
    virtual ~Callback() = default;
    virtual void released() = 0;
};

class LogSink : public Callback {
public:
    virtual int32_t log(int32_t level, const std::string& component, const std::string& message) = 0;
};

class TokenSink : public Callback {
public:
    virtual int32_t tokens(int64_t ids, int64_t n) = 0;  // int32; above 0 stops
};

class RowTokenSink : public Callback {
public:
    virtual int32_t tokens(int64_t row, int64_t ids, int64_t n) = 0;  // above 0 ends the row
};

class Updater : public Callback {
public:
    virtual int32_t update(const std::string& parameter, int64_t step, double lr, int64_t weight, int64_t gradient, int64_t state, int64_t n) = 0;
};

class Text {  // filled by a callback
public:
    void put(const std::string& text) { text_ = text; }
    const std::string& text() const { return text_; }

private:
    std::string text_;
};

class Texts {  // an argument, filled one by one
public:
    void put(const std::string& text) { all_.push_back(text); }
    const std::vector<std::string>& all() const { return all_; }

private:
    std::vector<std::string> all_;
};

class BatchSource : public Callback {
public:
    virtual int32_t next(Batch& batch) = 0;  // above 0: the epoch's end
    virtual bool keeps_cursor() = 0;
    virtual int32_t save(Text& cursor) = 0;
    virtual int32_t restore(const std::string& cursor) = 0;
};

// What an op of the host's own is called with: lists of values, 0 the inputs, 1 the outputs, 2 the outputs' gradients, 3 the inputs' gradients.
// All of it lives as long as the call.
class OpCall {
public:
    explicit OpCall(std::vector<const OpValues*> lists) : lists_(std::move(lists)) {}
    int32_t count(int32_t list) const { return static_cast<int32_t>(lists_.at(static_cast<size_t>(list))->size()); }
    int32_t kind(int32_t list, int32_t i) const { return at(list, i).dtype; }
    bool wanted(int32_t list, int32_t i) const { return at(list, i).data != nullptr; }  // false: there is nothing to read or to write
    Memory dims(int32_t list, int32_t i) const { return {const_cast<int64_t*>(at(list, i).shape), static_cast<size_t>(at(list, i).ndim) * sizeof(int64_t)}; }
    Memory memory(int32_t list, int32_t i) const {
        const ds_op_value& v = at(list, i);
        size_t bytes = v.data ? (v.dtype == DS_U8 ? 1 : 4) : 0;
        for (int32_t d = 0; d < v.ndim; ++d) bytes *= static_cast<size_t>(v.shape[d]);
        return {v.data, bytes};
    }
    void put_shape(Memory dims);  // of the next output
    const std::vector<Shape>& shapes() const { return shapes_; }

private:
    const ds_op_value& at(int32_t list, int32_t i) const { return lists_.at(static_cast<size_t>(list))->at(static_cast<size_t>(i)); }
    std::vector<const OpValues*> lists_;
    std::vector<Shape> shapes_;
};

class HostOp : public Callback {
public:
    virtual bool has_shapes() = 0;
    virtual bool has_gradient() = 0;
    virtual int32_t shapes(const std::string& attributes, OpCall& call) = 0;
    virtual int32_t forward(const std::string& attributes, OpCall& call) = 0;
    virtual int32_t backward(const std::string& attributes, OpCall& call) = 0;
};

#ifndef SWIG
namespace detail {
template <class T>
std::shared_ptr<T> lent(T* callback) { return {callback, [](T* c) { c->released(); }}; }

inline int32_t answered(int32_t answer, const char* failed = "a callback of the host failed") {
    if (answer < 0) throw Error(DS_E_USER, failed);
    return answer;
}

inline int64_t address(const void* p) { return static_cast<int64_t>(reinterpret_cast<uintptr_t>(p)); }

template <class T>
std::vector<T> numbers(Memory m) {
    std::vector<T> v(m.bytes / sizeof(T));
    if (!v.empty()) std::memcpy(v.data(), m.data, v.size() * sizeof(T));
    return v;
}
}  // namespace detail
#endif

inline void set_log_sink(LogSink* sink, int32_t level) {
    if (!sink) return set_log({}, static_cast<LogLevel>(level));
    // The layers know these words: what they kept of the log's failure is thrown in their place.
    set_log([s = detail::lent(sink)](LogLevel l, const char* component, const char* message) {
        detail::answered(s->log(static_cast<int32_t>(l), component, message), "the host's log failed");
    }, static_cast<LogLevel>(level));
}

inline OptimizerFunction optimizer_of(Updater* updater) {
    return [u = detail::lent(updater)](const char* parameter, int64_t step, double lr, float* weight, const float* gradient, float* state, size_t n) {
        detail::answered(u->update(parameter, step, lr, detail::address(weight), detail::address(gradient), detail::address(state), static_cast<int64_t>(n)));
    };
}

inline DataFunctions functions_of(BatchSource* source) {
    DataFunctions f;
    const auto s = detail::lent(source);
    f.next = [s](Batch& batch) { return detail::answered(s->next(batch)) == 0; };
    if (!source->keeps_cursor()) return f;
    f.save = [s] {
        Text cursor;
        detail::answered(s->save(cursor));
        return cursor.text();
    };
    f.restore = [s](const std::string& cursor) { detail::answered(s->restore(cursor)); };
    return f;
}

inline TokenFunction tokens_of(TokenSink* sink) {
    if (!sink) return {};
    return [s = detail::lent(sink)](Span<int32_t> ids) { return detail::answered(s->tokens(detail::address(ids.data()), static_cast<int64_t>(ids.size()))) == 0; };
}

inline RowTokensFunction row_tokens_of(RowTokenSink* sink) {
    if (!sink) return {};
    return [s = detail::lent(sink)](size_t row, Span<int32_t> ids) {
        return detail::answered(s->tokens(static_cast<int64_t>(row), detail::address(ids.data()), static_cast<int64_t>(ids.size()))) == 0;
    };
}

inline void OpCall::put_shape(Memory dims) { shapes_.push_back(detail::numbers<int64_t>(dims)); }

inline OpFunctions functions_of(HostOp* op, int32_t outputs) {
    OpFunctions f;
    const auto o = detail::lent(op);
    f.outputs = outputs;
    f.forward = [o](const std::string& attributes, const OpValues& in, const OpValues& out) {
        OpCall call({&in, &out});
        detail::answered(o->forward(attributes, call));
    };
    if (op->has_gradient()) f.backward = [o](const std::string& attributes, const OpValues& in, const OpValues& out, const OpValues& out_gradients,
                                             const OpValues& in_gradients) {
        OpCall call({&in, &out, &out_gradients, &in_gradients});
        detail::answered(o->backward(attributes, call));
    };
    if (op->has_shapes()) f.shapes = [o](const std::string& attributes, const OpValues& in) {
        OpCall call({&in});
        detail::answered(o->shapes(attributes, call));
        return call.shapes();
    };
    return f;
}

inline Data* open_source(BatchSource* source, const Engine* engine) { return new Data(functions_of(source), engine); }
inline Graph* parse_graph(const std::string& text) { return new Graph(Graph::parse(text)); }

// Memory of the library as the language's kind of buffer. It lives as long as what it belongs to.
inline Memory memory_at(int64_t address, int64_t bytes) { return {reinterpret_cast<void*>(static_cast<uintptr_t>(address)), static_cast<size_t>(bytes)}; }

// Numbers as a result; those of several rows one after another, and how many each row has, in 64 bits.
class Ids {
public:
    explicit Ids(std::vector<int32_t> ids) : ids_(std::move(ids)) {}
    explicit Ids(const std::vector<std::vector<int32_t>>& rows) {
        for (const auto& row : rows) {
            ids_.insert(ids_.end(), row.begin(), row.end());
            counts_.push_back(static_cast<int64_t>(row.size()));
        }
    }
    Memory memory() const { return {const_cast<int32_t*>(ids_.data()), ids_.size() * sizeof(int32_t)}; }
    Memory counts() const { return {const_cast<int64_t*>(counts_.data()), counts_.size() * sizeof(int64_t)}; }

private:
    std::vector<int32_t> ids_;
    std::vector<int64_t> counts_;
};

#ifndef SWIG
namespace detail {
template <class T>
Memory memory_of(const std::vector<T>& v) { return {const_cast<T*>(v.data()), v.size() * sizeof(T)}; }

inline std::vector<std::vector<int32_t>> rows(Memory ids, Memory lengths) {
    std::vector<std::vector<int32_t>> all;
    const auto* p = static_cast<const int32_t*>(ids.data);
    for (const int64_t n : numbers<int64_t>(lengths)) {
        all.emplace_back(p, p + n);
        p += n;
    }
    return all;
}
}  // namespace detail
#endif
#endif  // SWIGPYTHON

}  // namespace dsrt

#endif  // DSRT_BINDINGS_HOST_HPP
