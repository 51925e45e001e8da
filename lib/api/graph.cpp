// ds_graph_*: graphs that a host builds.
#include "dsrt/graph.h"

#include <algorithm>

#include "api/host.h"
#include "api/options.h"
#include "ir/op.h"

using namespace ds;
using namespace ds::api;

namespace {

Result<Shape> shape_argument(int32_t ndim, const int64_t* shape) {
    DS_REQUIRE(ndim >= 0 && ndim <= 8, "ndim must be 0 to 8, but is {}", ndim);
    DS_REQUIRE(shape || ndim == 0, "shape must not be NULL where ndim is {}", ndim);
    return Shape(shape, shape + ndim);
}

// A host may leave the last outputs of an op, such as layernorm's mean, unasked for.
Status check_outputs(std::string_view op, size_t asked, size_t made) {
    DS_REQUIRE(asked >= 1 && asked <= made, "graph: {}: n_outputs must be 1 to {}, but is {}", op, made, asked);
    return ok();
}

ds_graph* new_graph(std::shared_ptr<HostGraph> graph) {
    auto object = std::make_shared<GraphObject>();
    object->graph = std::move(graph);
    return new_handle<ds_graph>(std::move(object));
}

std::vector<ds_op_value> views(HostFunctions::Values values) {
    std::vector<ds_op_value> list;
    for (const HostValue& v : values)
        list.push_back({v.data, static_cast<int32_t>(v.dtype), static_cast<int32_t>(v.shape.size()), v.shape.data()});
    return list;
}

Result<std::vector<Shape>> shapes_of(const std::string& op, const ds_op_callbacks& callbacks, const HostData& held,
                                     const std::string& attributes, std::span<const Type> in) {
    const auto outputs = static_cast<size_t>(callbacks.n_outputs);
    if (!callbacks.shape) {
        DS_REQUIRE(!in.empty(), "without a shape() the op's outputs are shaped as its first input, but it has none");
        return std::vector<Shape>(outputs, in[0].shape);
    }
    std::vector<HostValue> values;
    for (const Type& type : in) values.push_back({nullptr, is_float(type.dtype) ? DType::f32 : type.dtype, type.shape});
    int32_t ndim[8] = {};
    int64_t dims[8][8] = {};
    const auto inputs = views(values);
    if (const int32_t code = callbacks.shape(held.user, attributes.c_str(), inputs.data(), inputs.size(), ndim, dims); code < 0)
        return from_callback(code, (op + " shape()").c_str());
    std::vector<Shape> shapes;
    for (size_t i = 0; i < outputs; ++i) {
        DS_REQUIRE(ndim[i] >= 0 && ndim[i] <= 8, "shape() gives output {} {} dimensions; 0 to 8 are accepted", i, ndim[i]);
        shapes.emplace_back(dims[i], dims[i] + ndim[i]);
        for (const int64_t d : shapes.back()) DS_REQUIRE(d >= 1, "shape() gives output {} a dimension of {}", i, d);
        DS_CHECK(checked_elements(shapes.back()).status());
    }
    return shapes;
}

HostFunctions functions_of(const std::string& op, const ds_op_callbacks& callbacks, std::shared_ptr<HostData> held) {
    HostFunctions functions{.name = op, .outputs = static_cast<size_t>(callbacks.n_outputs), .shapes = {}, .forward = {}, .backward = {}};
    functions.shapes = [op, callbacks, held](const std::string& attributes, std::span<const Type> in) {
        return shapes_of(op, callbacks, *held, attributes, in);
    };
    functions.forward = [op, callbacks, held](const std::string& attributes, HostFunctions::Values in,
                                              HostFunctions::Values out) -> Status {
        const auto inputs = views(in), outputs = views(out);
        const int32_t code = callbacks.forward(held->user, attributes.c_str(), inputs.data(), inputs.size(), outputs.data());
        return code < 0 ? from_callback(code, (op + " forward()").c_str()) : ok();
    };
    if (!callbacks.backward) return functions;
    functions.backward = [op, callbacks, held](const std::string& attributes, HostFunctions::Values in, HostFunctions::Values out,
                                               HostFunctions::Values dout, HostFunctions::Values din) -> Status {
        const auto inputs = views(in), outputs = views(out), output_gradients = views(dout), input_gradients = views(din);
        const int32_t code = callbacks.backward(held->user, attributes.c_str(), inputs.data(), inputs.size(), outputs.data(),
                                                output_gradients.data(), input_gradients.data());
        return code < 0 ? from_callback(code, (op + " backward()").c_str()) : ok();
    };
    return functions;
}

}  // namespace

ds_status ds_graph_create(ds_graph** out) {
    return guard([&]() -> Status {
        DS_NOT_NULL(out);
        *out = nullptr;
        *out = new_graph(std::make_shared<HostGraph>());
        return ok();
    });
}

ds_status ds_graph_parse(const char* text, ds_graph** out) {
    return guard([&]() -> Status {
        DS_NOT_NULL(out);
        *out = nullptr;
        DS_TRY(const std::string source, text_argument(text, "text"));
        DS_TRY(std::shared_ptr<HostGraph> graph, HostGraph::parse(source, "text"));
        *out = new_graph(std::move(graph));
        return ok();
    });
}

ds_status ds_graph_read(ds_graph* g, const char* text) {
    return guard([&]() -> Status {
        DS_USE(const auto graph, g);
        DS_TRY(const std::string source, text_argument(text, "text"));
        return graph->graph->read(source, "text");
    });
}

ds_status ds_graph_define_op(ds_graph* g, const char* name, const ds_op_callbacks* callbacks) {
    return guard([&]() -> Status {
        DS_USE(const auto graph, g);
        DS_TRY(const std::string op, text_argument(name, "name"));
        DS_TRY(const ds_op_callbacks given, read_struct(callbacks, "ds_op_callbacks"));
        DS_REQUIRE(given.forward != nullptr, "ds_op_callbacks: forward must not be NULL");
        DS_REQUIRE(given.n_outputs >= 1 && given.n_outputs <= 8, "ds_op_callbacks: n_outputs must be 1 to 8, but is {}", given.n_outputs);
        const auto held = std::make_shared<HostData>(given.user);
        DS_CHECK(graph->graph->define_op(functions_of(op, given, held)));
        held->release = given.release;
        return ok();
    });
}

ds_status ds_graph_input(ds_graph* g, const char* name, int32_t dtype, int32_t ndim, const int64_t* shape, int32_t* value) {
    return guard([&]() -> Status {
        DS_USE(const auto graph, g);
        DS_NOT_NULL(value);
        DS_TRY(const std::string key, text_argument(name, "name"));
        DS_TRY(const DType type, dtype_argument(dtype));
        DS_TRY(const Shape dims, shape_argument(ndim, shape));
        DS_TRY(*value, graph->graph->input(key, type, dims));
        return ok();
    });
}

ds_status ds_graph_param(ds_graph* g, const char* name, int32_t dtype, int32_t ndim, const int64_t* shape, const char* init_json,
                         int32_t* value) {
    return guard([&]() -> Status {
        DS_USE(const auto graph, g);
        DS_NOT_NULL(value);
        DS_TRY(const std::string key, text_argument(name, "name"));
        DS_TRY(const DType type, dtype_argument(dtype));
        DS_TRY(const Shape dims, shape_argument(ndim, shape));
        DS_TRY(const std::string init, optional_text(init_json, "init_json"));
        DS_TRY(*value, graph->graph->param(key, type, dims, init));
        return ok();
    });
}

ds_status ds_graph_op(ds_graph* g, const char* op, const int32_t* inputs, size_t n_inputs, const char* attrs_json, int32_t* outputs,
                      size_t n_outputs) {
    return guard([&]() -> Status {
        DS_USE(const auto graph, g);
        DS_TRY(const std::string name, text_argument(op, "op"));
        DS_REQUIRE(inputs || n_inputs == 0, "inputs must not be NULL where n_inputs is {}", n_inputs);
        DS_REQUIRE(outputs || n_outputs == 0, "outputs must not be NULL where n_outputs is {}", n_outputs);
        DS_TRY(const std::string attrs, optional_text(attrs_json, "attrs_json"));
        if (const OpDef* def = find_op(name); def && !def->has_variadic_outputs())
            DS_CHECK(check_outputs(name, n_outputs, def->outputs.size()));
        DS_TRY(const std::vector<int32_t> values, graph->graph->op(name, {inputs, n_inputs}, attrs));
        DS_CHECK(check_outputs(name, n_outputs, values.size()));
        std::copy_n(values.begin(), n_outputs, outputs);
        return ok();
    });
}

ds_status ds_graph_ops_json(char** json) {
    return guard([&]() -> Status {
        DS_NOT_NULL(json);
        *json = nullptr;
        DS_TRY(*json, handed_out(ops_json()));
        return ok();
    });
}

ds_status ds_graph_model(ds_graph* g, const char* folder, const char* options_json, const int32_t* inputs, size_t n_inputs,
                         const char* output, int32_t* value) {
    return guard([&]() -> Status {
        DS_USE(const auto graph, g);
        DS_NOT_NULL(value);
        DS_TRY(const std::string path, text_argument(folder, "folder"));
        DS_TRY(const std::string wanted, text_argument(output, "output"));
        DS_REQUIRE(inputs || n_inputs == 0, "inputs must not be NULL where n_inputs is {}", n_inputs);
        DS_TRY(const std::string options, optional_text(options_json, "options_json"));
        DS_TRY(*value, graph->graph->model(path, options, {inputs, n_inputs}, wanted));
        return ok();
    });
}

ds_status ds_graph_output(ds_graph* g, const char* name, int32_t value) {
    return guard([&]() -> Status {
        DS_USE(const auto graph, g);
        DS_TRY(const std::string key, text_argument(name, "name"));
        return graph->graph->output(key, value);
    });
}

ds_status ds_graph_loss(ds_graph* g, int32_t value) {
    return guard([&]() -> Status {
        DS_USE(const auto graph, g);
        return graph->graph->loss(value);
    });
}

void ds_graph_destroy(ds_graph* g) { destroy(g); }
