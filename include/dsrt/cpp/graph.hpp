// Graphs that a host builds, with ops of its own.
// SPDX-License-Identifier: Apache-2.0
#ifndef DSRT_CPP_GRAPH_HPP
#define DSRT_CPP_GRAPH_HPP

#include <dsrt/cpp/core.hpp>

namespace dsrt {

// An op of the host's own: see ds_op_callbacks. Without shapes every output is shaped as the first input; without backward the op has no
// gradient.
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
        return Graph(detail::GraphHandle::made([&](auto out) { return ds_graph_parse(detail::c_text(text), out); }));
    }
    static std::string ops_json() {
        return detail::text_of([](char** out, size_t*) { return ds_graph_ops_json(out); });
    }
    Value input(const std::string& name, DType dtype, const Shape& shape) {
        Value v = -1;
        detail::check(
            ds_graph_input(get(), detail::c_text(name), static_cast<int32_t>(dtype), static_cast<int32_t>(shape.size()), shape.data(), &v));
        return v;
    }
    Value param(const std::string& name, const Shape& shape, const std::optional<std::string>& init_json = {}, DType dtype = DType::f32) {
        Value v = -1;
        detail::check(ds_graph_param(get(), detail::c_text(name), static_cast<int32_t>(dtype), static_cast<int32_t>(shape.size()),
                                     shape.data(), detail::or_null(init_json), &v));
        return v;
    }
    std::vector<Value> ops(const std::string& op, const std::vector<Value>& inputs, const std::optional<std::string>& attrs_json,
                           size_t outputs) {
        std::vector<Value> out(outputs, -1);
        detail::check(
            ds_graph_op(get(), detail::c_text(op), inputs.data(), inputs.size(), detail::or_null(attrs_json), out.data(), out.size()));
        return out;
    }
    Value op(const std::string& name, const std::vector<Value>& inputs, const std::optional<std::string>& attrs_json = {}) {
        return ops(name, inputs, attrs_json, 1).front();
    }
    Value model(const std::string& folder, const std::vector<Value>& inputs, const std::string& output_name,
                const std::optional<std::string>& options_json = {}) {
        Value v = -1;
        detail::check(ds_graph_model(get(), detail::c_text(folder), detail::or_null(options_json), inputs.data(), inputs.size(),
                                     detail::c_text(output_name), &v));
        return v;
    }
    void output(const std::string& name, Value value) { detail::check(ds_graph_output(get(), detail::c_text(name), value)); }
    void loss(Value value) { detail::check(ds_graph_loss(get(), value)); }
    void read(const std::string& text) { detail::check(ds_graph_read(get(), detail::c_text(text))); }
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
        detail::check(ds_graph_define_op(get(), detail::c_text(name), &callbacks));
        user.release();
    }
    ds_graph* get() const { return handle_.get(); }
    void close() noexcept { handle_.close(); }

private:
    static int32_t op_shape(void* u, const char* attrs, const ds_op_value* in, size_t n, int32_t* ndim, int64_t (*shapes)[8]) {
        return detail::call([&] {
            const auto& f = *static_cast<OpFunctions*>(u);
            const std::vector<Shape> all = f.shapes(attrs, OpValues(in, in + n));
            if (all.size() != static_cast<size_t>(f.outputs))
                throw Error(DS_E_INVALID_ARGUMENT, "shapes() must give a shape for each output");
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
    static int32_t op_backward(void* u, const char* attrs, const ds_op_value* in, size_t n, const ds_op_value* out,
                               const ds_op_value* out_gradients, const ds_op_value* in_gradients) {
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

}  // namespace dsrt

#endif  // DSRT_CPP_GRAPH_HPP
