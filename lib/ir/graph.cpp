#include "ir/graph.h"

#include <set>

#include "ir/op.h"

namespace ds {
namespace {

std::string dim_to_string(int64_t d) {
    std::string text;
    const auto factor = [&](int64_t prime, const char* word) {
        while (d > 0 && d % prime == 0) {
            text += (text.empty() ? "" : "*") + std::string(word);
            d /= prime;
        }
    };
    factor(kRows, "rows");
    factor(kLength, "length");
    if (text.empty()) return std::to_string(d);
    return d == 1 ? text : text + "*" + std::to_string(d);
}

}  // namespace

std::string dims_to_string(const Shape& shape) {
    std::string text = "[";
    for (size_t i = 0; i < shape.size(); ++i) text += (i ? "," : "") + dim_to_string(shape[i]);
    return text + "]";
}

std::string to_string(const Type& type) {
    if (!type.present) return "_";
    return std::string(name_of(type.dtype)) + dims_to_string(type.shape);
}

const Type& Graph::type(ValueId id) const {
    static const Type absent{.present = false};
    return id == kNone ? absent : value(id).type;
}

std::vector<Type> Graph::types(const std::vector<ValueId>& ids) const {
    std::vector<Type> out;
    out.reserve(ids.size());
    for (const ValueId id : ids) out.push_back(type(id));
    return out;
}

ValueId Graph::add_value(Value value) {
    if (value.name.empty()) value.name = "v";
    int& count = used_names_[value.name];
    if (count++ > 0) {
        std::string candidate;
        do candidate = value.name + "_" + std::to_string(count++);
        while (used_names_.count(candidate));
        --count;
        used_names_[candidate] = 1;
        value.name = std::move(candidate);
    }
    const auto id = static_cast<ValueId>(values.size());
    if (value.kind != Kind::computed) inputs.push_back(id);
    values.push_back(std::move(value));
    return id;
}

ValueId Graph::find(std::string_view wanted) const {
    for (size_t i = 0; i < values.size(); ++i)
        if (values[i].name == wanted) return static_cast<ValueId>(i);
    return kNone;
}

std::vector<ValueId> roots(const Graph& graph) {
    std::vector<ValueId> ids;
    for (const auto& output : graph.outputs) ids.push_back(output.second);
    if (graph.loss != kNone) ids.push_back(graph.loss);
    for (const auto& grad : graph.grads) ids.push_back(grad.second);
    for (const Crossing& c : graph.sent) ids.push_back(c.value);
    for (const Crossing& c : graph.received)
        if (c.gradient != kNone) ids.push_back(c.gradient);
    return ids;
}

std::vector<int> use_counts(const Graph& graph) {
    std::vector<int> uses(graph.values.size(), 0);
    for (const Node& node : graph.nodes)
        for (const ValueId id : node.in)
            if (id != kNone) ++uses[static_cast<size_t>(id)];
    for (const ValueId id : roots(graph)) ++uses[static_cast<size_t>(id)];
    return uses;
}

const Node* replicate_of(const Graph& graph, ValueId id) {
    const auto made =
        std::find_if(graph.nodes.rbegin(), graph.nodes.rend(), [&](const Node& node) { return !node.out.empty() && node.out[0] == id; });
    if (made == graph.nodes.rend() || made->op->name != "replicate") return nullptr;
    const Kind kind = graph.value(made->in[0]).kind;
    return kind == Kind::param || kind == Kind::shadow ? &*made : nullptr;
}

Status verify(const Graph& graph) {
    std::vector<bool> known(graph.values.size(), false);
    std::set<std::string_view> names;
    for (const ValueId id : graph.inputs) known[static_cast<size_t>(id)] = true;
    for (const Value& value : graph.values)
        if (!names.insert(value.name).second) return fail(Code::E_INTERNAL, "graph {}: two values are called {}", graph.name, value.name);
    for (const Node& node : graph.nodes) {
        for (const ValueId id : node.in)
            if (id != kNone && !known[static_cast<size_t>(id)])
                return fail(Code::E_INTERNAL, "graph {}: {} uses %{} before it is produced", graph.name, node.op->name,
                            graph.value(id).name);
        DS_TRY(const auto inferred, infer(*node.op, node.attrs, graph.types(node.in)));
        if (inferred.size() != node.out.size())
            return fail(Code::E_INTERNAL, "graph {}: {} gives {} outputs, not {}", graph.name, node.op->name, inferred.size(),
                        node.out.size());
        for (size_t i = 0; i < inferred.size(); ++i) {
            const Value& out = graph.value(node.out[i]);
            if (!(out.type == inferred[i]))
                return fail(Code::E_INTERNAL, "graph {}: %{} is {}, but {} gives {}", graph.name, out.name, to_string(out.type),
                            node.op->name, to_string(inferred[i]));
            known[static_cast<size_t>(node.out[i])] = true;
        }
    }
    for (const ValueId id : roots(graph))
        if (!known[static_cast<size_t>(id)])
            return fail(Code::E_INTERNAL, "graph {}: result %{} is never produced", graph.name, graph.value(id).name);
    for (const auto& [param, grad] : graph.grads)
        if (graph.type(grad).dtype != graph.type(param).dtype)
            return fail(Code::E_INTERNAL, "graph {}: the gradient %{} is {}, but %{} is {}", graph.name, graph.value(grad).name,
                        name_of(graph.type(grad).dtype), graph.value(param).name, name_of(graph.type(param).dtype));
    return ok();
}

Result<Graph> bind(const Graph& graph, int64_t rows, int64_t length) {
    Graph bound = graph;
    const auto size = [&](int64_t d) {
        for (; d > 0 && d % kRows == 0; d /= kRows) d *= rows;
        for (; d > 0 && d % kLength == 0; d /= kLength) d *= length;
        return d;
    };
    for (const ValueId id : bound.inputs)
        if (bound.value(id).kind == Kind::input)
            for (int64_t& d : bound.value(id).type.shape) d = size(d);
    for (Node& node : bound.nodes) {
        node.attrs = node.attrs.map_dims(size);
        DS_TRY(const auto types, infer(*node.op, node.attrs, bound.types(node.in)));
        for (size_t i = 0; i < types.size(); ++i) bound.value(node.out[i]).type = types[i];
    }
    return bound;
}

}  // namespace ds
