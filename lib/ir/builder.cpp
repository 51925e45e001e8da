#include "ir/builder.h"

#include <algorithm>

namespace ds {

ValueId Builder::input(std::string name, DType dtype, Shape shape) {
    return graph_.add_value({.name = std::move(name), .type = {dtype, std::move(shape)}, .kind = Kind::input});
}

ValueId Builder::param(std::string name, Shape shape, Init init, bool trainable) {
    if (const ValueId known = graph_.find(name); known != kNone && graph_.value(known).kind == Kind::param) {  // a tied weight
        if (graph_.type(known).shape != shape)
            fail_with(fail(Code::E_INVALID_ARGUMENT, "parameter {}: used as {} and as {}", name, dims_to_string(graph_.type(known).shape),
                           dims_to_string(shape)));
        return known;
    }
    return graph_.add_value(
        {.name = std::move(name), .type = {DType::f32, std::move(shape)}, .kind = Kind::param, .init = init, .trainable = trainable});
}

Result<std::vector<ValueId>> Builder::try_call(const OpDef& op, std::vector<ValueId> in, Attrs attrs, std::string name) {
    while (!in.empty() && in.back() == kNone) in.pop_back();
    if (attrs.type() != op.attrs) {
        if (attrs.type() != attrs_type<NoAttrs>()) return fail(Code::E_INTERNAL, "{}: given attributes of another op", op.name);
        attrs = Attrs(op.attrs, op.attrs->defaults());
    }
    DS_TRY(auto types, infer(op, attrs, graph_.types(in)));
    Node node{.op = &op, .attrs = std::move(attrs), .in = std::move(in), .backward = backward_};
    for (size_t i = 0; i < types.size(); ++i) {
        std::string label = name.empty() ? std::string(op.name) : name;
        if (i > 0)
            label += "." + std::string(i < op.outputs.size() && !op.has_variadic_outputs() ? plain_name(op.outputs[i]) : std::to_string(i));
        node.out.push_back(graph_.add_value({.name = std::move(label), .type = std::move(types[i])}));
    }
    graph_.nodes.push_back(node);
    return graph_.nodes.back().out;
}

std::vector<ValueId> Builder::call_all(std::string_view op_name, std::vector<ValueId> in, Attrs attrs, std::string name) {
    const OpDef* op = find_op(op_name);
    if (status_.ok() && !op) fail_with(fail(Code::E_INTERNAL, "there is no op {}", op_name));
    if (!status_.ok()) return std::vector<ValueId>(8, kNone);
    auto made = try_call(*op, std::move(in), std::move(attrs), std::move(name));
    if (made.ok()) return std::move(made).value();
    fail_with(std::move(made).status());
    return std::vector<ValueId>(8, kNone);
}

ValueId Builder::call(std::string_view op, std::vector<ValueId> in, Attrs attrs, std::string name) {
    return call_all(op, std::move(in), std::move(attrs), std::move(name)).front();
}

ValueId Builder::cast(ValueId x, DType to) { return x == kNone || type(x).dtype == to ? x : call("cast", {x}, Cast{to}); }

ValueId Builder::reshape(ValueId x, Shape shape) {
    return x == kNone || type(x).shape == shape ? x : call("reshape", {x}, Reshape{std::move(shape)});
}

ValueId Builder::reduce_to(ValueId x, const Shape& shape) {
    if (x == kNone || type(x).shape == shape) return x;
    const Shape from = type(x).shape;
    const size_t lead = from.size() - shape.size();
    Reduce reduce;
    for (size_t i = 0; i < from.size(); ++i)
        if (i < lead || (shape[i - lead] == 1 && from[i] != 1)) reduce.axes.push_back(static_cast<int64_t>(i));
    return reshape(reduce.axes.empty() ? x : call("sum", {x}, reduce), shape);
}

ValueId Builder::places_of(ValueId x) {
    constexpr std::pair<std::string_view, std::string_view> taken[] = {{"ids", "places"},
                                                                       {"source.ids", "source.places"},
                                                                       {"first", "row_places"},
                                                                       {"last", "row_places"},
                                                                       {"label_rows", "label_places"}};
    const Shape shape = type(x).shape;
    for (auto node = graph_.nodes.rbegin(); node != graph_.nodes.rend() && x != kNone; ++node) {
        if (std::find(node->out.begin(), node->out.end(), x) == node->out.end()) continue;
        const std::string_view source = node->op->name == "embedding" ? std::string_view(graph_.value(node->in[1]).name) : "";
        for (const auto& [rows, places] : taken) {
            if (source != rows) continue;
            const ValueId known = graph_.find(places);
            return known != kNone ? known : input(std::string(places), DType::i32, {elements(shape) / shape.back()});
        }
        x = node->in.empty() ? kNone : node->in[0];
    }
    return kNone;
}

DType Builder::grad_dtype(ValueId id) const {
    const Kind kind = graph_.value(id).kind;
    const bool of_weight = kind == Kind::param || kind == Kind::shadow || replicate_of(graph_, id);
    return of_weight ? DType::f32 : type(id).dtype;
}

}  // namespace ds
