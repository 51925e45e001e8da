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

ds_status ds_graph_param(ds_graph* g, const char* name, int32_t dtype, int32_t ndim, const int64_t* shape, const char* init_json, int32_t* value) {
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

ds_status ds_graph_op(ds_graph* g, const char* op, const int32_t* inputs, size_t n_inputs, const char* attrs_json, int32_t* outputs, size_t n_outputs) {
    return guard([&]() -> Status {
        DS_USE(const auto graph, g);
        DS_TRY(const std::string name, text_argument(op, "op"));
        DS_REQUIRE(inputs || n_inputs == 0, "inputs must not be NULL where n_inputs is {}", n_inputs);
        DS_REQUIRE(outputs || n_outputs == 0, "outputs must not be NULL where n_outputs is {}", n_outputs);
        DS_TRY(const std::string attrs, optional_text(attrs_json, "attrs_json"));
        if (const OpDef* def = find_op(name); def && !def->has_variadic_outputs()) DS_CHECK(check_outputs(name, n_outputs, def->outputs.size()));
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

ds_status ds_graph_model(ds_graph* g, const char* folder, const char* options_json, const int32_t* inputs, size_t n_inputs, const char* output,
                         int32_t* value) {
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
