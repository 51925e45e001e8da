#include "engine/host_graph.h"

#include <algorithm>
#include <set>

#include "base/json_argument.h"
#include "engine/hf_folder.h"
#include "ir/builder.h"
#include "ir/text.h"
#include "models/model.h"

namespace ds {
namespace {

// What the graph computes with: ids are i32, masks u8, floats of the batch f32.
Result<DType> operand_type(DType given) {
    switch (given) {
    case DType::i64:
    case DType::i32: return DType::i32;
    case DType::boolean:
    case DType::u8: return DType::u8;
    case DType::f64:
    case DType::f32: return DType::f32;
    case DType::bf16:
    case DType::f16: return given;
    default:
        return fail(Code::E_UNSUPPORTED, "graph: inputs of type {} are not built; there are f32, f64, f16, bf16, i32, i64, u8 and bool",
                    name_of(given));
    }
}

Result<Init> parse_init(std::string_view text, const std::string& name) {
    if (text.empty()) return Init{};
    DS_TRY(const Json json, parse_argument(text, fmt::format("graph: parameter {}: init", name)));
    const std::string type = json.is_object() && json.contains("type") && json["type"].is_string() ? json["type"].get<std::string>() : "";
    const auto number = [&](const char* key) {
        return json.size() == 2 && json.contains(key) && json[key].is_number() ? json[key].get<double>() : -1;
    };
    if (type == "zeros" && json.size() == 1) return Init{Init::Type::zeros, 0};
    if (type == "ones" && json.size() == 1) return Init{Init::Type::ones, 0};
    if (type == "normal" && number("std") >= 0) return Init{Init::Type::normal, number("std")};
    if (type == "uniform" && number("bound") >= 0) return Init{Init::Type::uniform, number("bound")};
    return fail(
        Code::E_INVALID_ARGUMENT,
        "graph: parameter {}: init {}; accepted: {{\"type\": \"zeros\"}}, \"ones\", \"normal\" with \"std\", \"uniform\" with \"bound\"",
        name, text);
}

Status check_output(const Graph& g, const std::string& name, ValueId id) {
    DS_REQUIRE(id != kNone && is_float(g.type(id).dtype), "output {}: must hold floats, not {}", name,
               id == kNone ? "nothing" : name_of(g.type(id).dtype));
    return ok();
}

Status check_loss(const Graph& g, ValueId id) {
    const Type& t = g.type(id);
    DS_REQUIRE(elements(t.shape) == 1 && is_float(t.dtype), "the loss must be one float, but the value is {}", to_string(t));
    return ok();
}

}  // namespace

Result<std::shared_ptr<HostGraph>> HostGraph::parse(std::string_view text, std::string_view place) {
    auto host = std::make_shared<HostGraph>();
    DS_CHECK(host->read(text, place));
    return host;
}

Status HostGraph::read(std::string_view text, std::string_view place) {
    if (!graph_.values.empty())
        return fail(Code::E_STATE, "{}: the graph has values already; a text is read into one that has none", place);
    DS_TRY(Graph graph, parse_graph(text, place, [this](std::string_view op) { return find(op); }));
    DS_CHECK(check_text(graph).within(place));
    graph_ = std::move(graph);
    return ok();
}

// What the builder's calls would have refused, and what only passes write.
Status HostGraph::check_text(const Graph& graph) {
    std::set<std::string> names;
    for (const ValueId id : graph.inputs) {
        const Value& v = graph.value(id);
        DS_REQUIRE(v.kind == Kind::input || v.kind == Kind::param, "%{}: a model's graph has inputs and params only", v.name);
        for (const int64_t d : v.type.shape) {
            DS_REQUIRE(d > 0, "%{}: dimension {} must be positive", v.name, d);
            DS_REQUIRE(v.kind == Kind::input || (d % kRows && d % kLength),
                       "%{}: a param's sizes are numbers; rows and length are of inputs", v.name);
        }
        DS_REQUIRE(v.kind == Kind::input || v.init.scale >= 0, "%{}: the initialiser's number must be at least 0, is {}", v.name,
                   v.init.scale);
        if (v.kind == Kind::param) continue;
        DS_TRY(const DType computed, operand_type(v.type.dtype));
        DS_REQUIRE(computed == v.type.dtype, "%{}: write {} for {}: that is what a batch's {} is turned into", v.name, name_of(computed),
                   name_of(v.type.dtype), name_of(v.type.dtype));
    }
    for (const Node& node : graph.nodes)
        DS_REQUIRE(!node.backward && !node.weights,
                   "%{}: stands behind backward: or weights:, which passes write; a model's graph is its forward pass",
                   graph.value(node.out[0]).name);
    DS_REQUIRE(graph.grads.empty() && graph.sent.empty() && graph.received.empty(),
               "grad, send and receive are written by passes; a model's graph ends with outputs and loss");
    for (const auto& [name, id] : graph.outputs) {
        DS_CHECK(check_output(graph, name, id));
        DS_REQUIRE(names.insert(name).second, "there are two outputs {}", name);
    }
    return graph.loss == kNone ? ok() : check_loss(graph, graph.loss);
}

Status HostGraph::define_op(HostFunctions functions) {
    const std::string name = functions.name;
    const bool plain = !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
        return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.';
    });
    if (!plain) return fail(Code::E_INVALID_ARGUMENT, "graph: \"{}\" is no name of an op: letters, digits, _ and . are accepted", name);
    if (find(name) || find_op(name)) return fail(Code::E_INVALID_ARGUMENT, "graph: there is an op {} already", name);
    ops_[name] = HostOp::make(std::move(functions));
    return ok();
}

const OpDef* HostGraph::find(std::string_view op) const {
    const auto own = ops_.find(op);
    return own == ops_.end() ? find_op_for_hosts(op) : own->second.get();
}

std::string HostGraph::a_host_op() const {
    for (const Node& node : graph_.nodes)
        if (host_op(node)) return std::string(node.op->name);
    return "";
}

Status HostGraph::check(int32_t value, std::string_view what) const {
    if (value < 0 || value >= static_cast<int32_t>(graph_.values.size()))
        return fail(Code::E_INVALID_ARGUMENT, "graph: {}: there is no value {}; ids run from 0 to {}", what, value,
                    static_cast<int32_t>(graph_.values.size()) - 1);
    return ok();
}

Result<int32_t> HostGraph::input(const std::string& name, DType dtype, Shape shape) {
    if (name.empty()) return fail(Code::E_INVALID_ARGUMENT, "graph: an input's name must not be empty");
    if (graph_.find(name) != kNone) return fail(Code::E_INVALID_ARGUMENT, "graph: the name {} is taken", name);
    DS_TRY(const DType type, operand_type(dtype));
    int unknown = 0;
    for (int64_t& d : shape) {
        if (d < -1 || d == 0)
            return fail(Code::E_INVALID_ARGUMENT,
                        "graph: input {}: dimension {}; sizes are positive, -1 is the batch's rows, a second -1 its length", name, d);
        if (d != -1) continue;
        if (unknown == 2)
            return fail(Code::E_INVALID_ARGUMENT, "graph: input {}: at most two dimensions can be -1: rows, then length", name);
        d = unknown++ == 0 ? kRows : kLength;
    }
    DS_TRY([[maybe_unused]] const int64_t n, checked_elements(shape));
    Builder b(graph_);
    return b.input(name, type, std::move(shape));
}

Result<int32_t> HostGraph::param(const std::string& name, DType dtype, const Shape& shape, std::string_view init_json) {
    if (name.empty()) return fail(Code::E_INVALID_ARGUMENT, "graph: a parameter's name must not be empty");
    if (graph_.find(name) != kNone) return fail(Code::E_INVALID_ARGUMENT, "graph: the name {} is taken", name);
    if (dtype != DType::f32)
        return fail(Code::E_UNSUPPORTED,
                    "graph: parameter {}: master weights are f32, not {}; the config's precision says what is computed in", name,
                    name_of(dtype));
    for (const int64_t d : shape)
        if (d < 1) return fail(Code::E_INVALID_ARGUMENT, "graph: parameter {}: dimension {} must be positive", name, d);
    DS_TRY([[maybe_unused]] const int64_t n, checked_elements(shape));
    DS_TRY(const Init init, parse_init(init_json, name));
    Builder b(graph_);
    return b.param(name, shape, init);
}

Result<std::vector<int32_t>> HostGraph::op(std::string_view name, std::span<const int32_t> inputs, std::string_view attrs_json) {
    const OpDef* op = find(name);
    if (!op) return fail(find_op(name) ? Code::E_UNSUPPORTED : Code::E_NOT_FOUND, "graph: {}", unknown_op(name));
    for (const int32_t id : inputs)
        if (id != kNone) DS_CHECK(check(id, name));
    Json object = Json::object();
    if (!attrs_json.empty()) {
        DS_TRY(object, parse_argument(attrs_json, fmt::format("graph: {}: attributes", name)));
        if (!object.is_object())
            return fail(Code::E_INVALID_ARGUMENT, "graph: {}: attributes must be a JSON object, not {}", name, attrs_json);
    }
    auto attrs = op->attrs->parse(object);
    if (!attrs.ok()) return std::move(std::move(attrs).status()).within(fmt::format("graph: {}", name));
    Builder b(graph_);
    auto made = b.try_call(*op, std::vector<ValueId>(inputs.begin(), inputs.end()), Attrs(op->attrs, std::move(attrs).value()));
    if (!made.ok()) return std::move(std::move(made).status()).within("graph");
    return std::move(made).value();
}

Result<int32_t> HostGraph::model(const std::string& folder, std::string_view options_json, std::span<const int32_t> inputs,
                                 const std::string& output) {
    Graph before = graph_;
    auto value = embed(folder, options_json, inputs, output);
    if (!value.ok()) graph_ = std::move(before);  // what failed leaves no trace
    return value;
}

Result<int32_t> HostGraph::embed(const std::string& folder, std::string_view options_json, std::span<const int32_t> inputs,
                                 const std::string& output) {
    constexpr const char* call = "graph: model";
    DS_TRY(const Json options, options_of(options_json, call, {"prefix", "model_overrides", "model_init"}));
    DS_TRY(const std::string prefix, text_of(options, call, "prefix"));
    DS_TRY(const Json overrides, object_of(options, call, "model_overrides"));
    DS_TRY(const std::string init, text_of(options, call, "model_init"));
    if (!init.empty() && init != "random" && init != "pretrained")
        return fail(Code::E_INVALID_ARGUMENT, "graph: model: option model_init must be pretrained or random, not {}", init);
    DS_TRY(ModelSource source, read_model_source(folder, overrides));
    // The body: the family without a head.
    source.config["architectures"] = Json::array({"Model"});
    DS_TRY(const auto model, make_model(source.config));
    if (model->encoder_decoder)
        return fail(Code::E_UNSUPPORTED,
                    "graph: model: {} is an encoder-decoder; only families with one stream of tokens can be part of a graph",
                    model->family);
    if (!model->limit.empty()) return fail(Code::E_UNSUPPORTED, "graph: model: {}, and rows of a host's graph may have more", model->limit);
    if (inputs.empty() || inputs.size() > 4 || inputs[0] == kNone)
        return fail(Code::E_INVALID_ARGUMENT,
                    "graph: model: takes input_ids, then attention_mask, token_type_ids and position_ids (-1: absent), not {} inputs{}",
                    inputs.size(), inputs.size() == 1 || inputs.size() > 4 || inputs.empty() ? "" : " without input_ids");
    for (const int32_t id : inputs)
        if (id != kNone) DS_CHECK(check(id, "model"));
    if (model->positions_skip != Model::Skipped::none && (inputs.size() < 4 || inputs[3] == kNone))
        return fail(Code::E_INVALID_ARGUMENT, "graph: model: the positions of {} begin at {} and skip padding: give position_ids",
                    model->family, model->position_offset);
    const Shape grid = graph_.type(inputs[0]).shape;
    for (const int32_t id : inputs)
        if (id != kNone && (graph_.type(id).shape != grid || grid.size() != 2))
            return fail(Code::E_INVALID_ARGUMENT, "graph: model: inputs must be [rows, length] alike, but are {} and {}",
                        dims_to_string(grid), dims_to_string(graph_.type(id).shape));

    if (const Embedded* other = embedded(prefix); other && other->folder != folder)
        return fail(Code::E_INVALID_ARGUMENT,
                    "graph: model: the parameters of {} have the prefix \"{}\" already; give {} another \"prefix\"", other->folder, prefix,
                    folder);

    Graph part;  // by itself first, so that names are the family's
    std::map<ValueId, ValueId> given;
    Builder b(part);
    const auto operand = [&](size_t i, const char* name, DType type) {
        const ValueId id = b.input(name, type, grid);
        given[id] = inputs[i];
        return b.reshape(id, {grid[0] * grid[1]});
    };
    const auto has = [&](size_t i) { return inputs.size() > i && inputs[i] != kNone; };
    StreamShape shape{.tokens = grid[0] * grid[1], .rows = grid[0], .length = grid[1], .embedded = true};
    shape.masked = has(1);
    shape.types = has(2);
    TokenStream stream(b, shape, {output});
    stream.provide("ids", operand(0, "input_ids", DType::i32));
    if (shape.masked) {
        graph_.value(inputs[1]).type.dtype = DType::u8;  // whatever integers the host declared, they are read as a mask
        stream.provide("key_mask", operand(1, "attention_mask", DType::u8));
    }
    // Absent types are 0, as is every index here.
    stream.provide("types", has(2) ? operand(2, "token_type_ids", DType::i32)
                                   : b.reshape(b.call("iota", {}, Fill{.shape = {shape.tokens, 1}}), {shape.tokens}));
    stream.provide("positions",
                   has(3) ? operand(3, "position_ids", DType::i32) : b.reshape(b.call("iota", {}, Fill{.shape = grid}), {shape.tokens}));
    stream.provide("places", b.call("iota", {}, Fill{.shape = {shape.tokens}}));
    model->build(b, stream);
    DS_CHECK(b.status());
    if (part.outputs.size() != 1) {
        std::string known;
        for (const auto& name : model->outputs) known += (known.empty() ? "" : ", ") + name;
        return fail(Code::E_NOT_FOUND, "graph: model: {} has no output {}; there are {}", model->family, output, known);
    }
    DS_TRY(ValueId result, append(part, std::move(given), prefix));
    const bool random = init == "random" || source.folder.empty();
    if (!random && !has_weights(source.folder))
        return fail(Code::E_NOT_FOUND, "graph: model: {} has no weights; \"model_init\": \"random\" starts without", folder);
    if (!embedded(prefix)) models_.push_back({folder, prefix, model->names, random});
    if (graph_.type(result).shape[0] != shape.tokens) return result;
    return Builder(graph_).reshape(result, {grid[0], grid[1], graph_.type(result).shape.back()});
}

const HostGraph::Embedded* HostGraph::embedded(const std::string& prefix) const {
    for (const Embedded& model : models_)
        if (model.prefix == prefix) return &model;
    return nullptr;
}

// Appends a graph with one output, and answers with that. given: the value here of each of its inputs. A parameter that is here already, of
// the same model embedded before, is the same: both uses train one weight.
Result<ValueId> HostGraph::append(const Graph& part, std::map<ValueId, ValueId> given, const std::string& prefix) {
    const bool again = embedded(prefix);
    for (ValueId id = 0; id < static_cast<ValueId>(part.values.size()); ++id) {
        if (given.contains(id)) continue;
        Value value = part.value(id);
        if (value.kind == Kind::param) {
            value.name = prefix + value.name;
            const ValueId known = graph_.find(value.name);
            const bool same = again && known != kNone && graph_.value(known).kind == Kind::param && graph_.type(known) == value.type;
            if (known != kNone && !same)
                return fail(Code::E_INVALID_ARGUMENT,
                            "graph: model: the name {} is taken; with another \"prefix\" in the options the model's parameters are called "
                            "otherwise",
                            value.name);
            given[id] = same ? known : graph_.add_value(std::move(value));
        } else given[id] = graph_.add_value(std::move(value));
    }
    for (Node node : part.nodes) {
        for (ValueId& id : node.in)
            if (id != kNone) id = given.at(id);
        for (ValueId& id : node.out) id = given.at(id);
        graph_.nodes.push_back(std::move(node));
    }
    return given.at(part.outputs.front().second);
}

Status HostGraph::output(const std::string& name, int32_t value) {
    if (name.empty()) return fail(Code::E_INVALID_ARGUMENT, "graph: an output's name must not be empty");
    DS_CHECK(check(value, "output"));
    DS_CHECK(check_output(graph_, name, value).within("graph"));
    for (const auto& [known, id] : graph_.outputs)
        if (known == name) return fail(Code::E_INVALID_ARGUMENT, "graph: there is an output {} already", name);
    graph_.outputs.emplace_back(name, value);
    return ok();
}

Status HostGraph::loss(int32_t value) {
    DS_CHECK(check(value, "loss"));
    DS_CHECK(check_loss(graph_, value).within("graph"));
    graph_.loss = value;
    return ok();
}

}  // namespace ds
