#include "ir/host_op.h"

#include "base/json.h"
#include "ir/builder.h"

namespace ds {
namespace {

// Attributes are the host's own business: an object that is handed on as it is. A gradient's node knows the op's node besides.
struct HostCall {
    std::string attributes = "{}";
    size_t inputs = 0, outputs = 0;
    std::vector<bool> wants;  // by input
};

const AttrsType kHostCall = {
    .defaults = []() -> std::shared_ptr<const void> { return std::make_shared<const HostCall>(); },
    .parse = [](const Json& object) -> Result<std::shared_ptr<const void>> {
        return std::shared_ptr<const void>(std::make_shared<const HostCall>(HostCall{object.dump(), 0, 0, {}}));
    },
    .print = [](const void* value, bool) { return OrderedJson::parse(static_cast<const HostCall*>(value)->attributes); },
    .map_dims = [](const void* value, const std::function<int64_t(int64_t)>&) -> std::shared_ptr<const void> {
        return std::make_shared<const HostCall>(*static_cast<const HostCall*>(value));
    },
};

}  // namespace

const HostOp* host_op(const Node& node) { return node.op->attrs == &kHostCall ? static_cast<const HostOp*>(node.op) : nullptr; }

std::shared_ptr<const HostOp> HostOp::make(HostFunctions given) {
    const auto functions = std::make_shared<const HostFunctions>(std::move(given));
    const auto made = [&](std::string name, std::vector<std::string_view> inputs, std::vector<std::string_view> outputs) {
        std::shared_ptr<HostOp> op(new HostOp(functions));
        op->own_name_ = std::move(name);
        op->name = op->own_name_;
        op->meaning = "an op of the host's own";
        op->inputs = std::move(inputs);
        op->outputs = std::move(outputs);
        op->attrs = &kHostCall;
        return op;
    };
    const auto op = made(functions->name, {"x..."}, {"y..."});
    op->infer = [functions](const Attrs& attrs, std::span<const Type> in) -> Result<std::vector<Type>> {
        for (const Type& type : in) DS_REQUIRE(type.present, "an op of the host's own has no optional inputs");
        DS_TRY(std::vector<Shape> shapes, functions->shapes(attrs.as<HostCall>().attributes, in));
        std::vector<Type> types;
        for (Shape& shape : shapes) types.push_back({DType::f32, std::move(shape)});
        return types;
    };
    if (!functions->backward) return op;
    const auto gradient = made(functions->name + "_grad", {"x..."}, {"dx..."});
    gradient->infer = [](const Attrs& attrs, std::span<const Type> in) -> Result<std::vector<Type>> {
        const auto& call = attrs.as<HostCall>();
        std::vector<Type> types;
        for (size_t i = 0; i < call.inputs; ++i)
            if (call.wants[i]) types.push_back({DType::f32, in[i].shape});
        return types;
    };
    op->gradient_ = gradient;
    op->gradient = [self = op.get()](GradContext& c) { return self->differentiate(c); };
    return op;
}

Grads HostOp::differentiate(GradContext& c) const {
    HostCall call{c.node.attrs.as<HostCall>().attributes, c.node.in.size(), c.node.out.size(), {}};
    std::vector<ValueId> in = c.node.in;
    in.insert(in.end(), c.node.out.begin(), c.node.out.end());
    for (size_t i = 0; i < c.node.out.size(); ++i)
        in.push_back(c.dy[i] == kNone ? c.b.call("fill", {}, Fill{.shape = c.b.type(c.out(i)).shape}) : c.b.cast(c.dy[i], DType::f32));
    for (size_t i = 0; i < call.inputs; ++i) call.wants.push_back(c.wants[i] && is_float(c.b.type(c.in(i)).dtype));
    const std::vector<bool> wants = call.wants;
    auto made = c.b.try_call(*gradient_, std::move(in), Attrs(&kHostCall, std::make_shared<const HostCall>(std::move(call))));
    Grads grads(c.node.in.size(), kNone);
    if (!made.ok()) {
        c.b.fail_with(made.status());
        return grads;
    }
    size_t next = 0;
    for (size_t i = 0; i < wants.size(); ++i)
        if (wants[i]) grads[i] = c.b.cast((*made)[next++], c.b.grad_dtype(c.in(i)));
    return grads;
}

Status HostOp::run(const Attrs& of_node, std::span<const HostValue> in, std::span<const HostValue> out) const {
    const auto& call = of_node.as<HostCall>();
    if (call.wants.empty()) return functions_->forward(call.attributes, in, out);
    std::vector<HostValue> gradients;
    size_t next = 0;
    for (size_t i = 0; i < call.inputs; ++i) gradients.push_back(call.wants[i] ? out[next++] : HostValue{nullptr, DType::f32, in[i].shape});
    return functions_->backward(call.attributes, in.first(call.inputs), in.subspan(call.inputs, call.outputs),
                                in.subspan(call.inputs + call.outputs), gradients);
}

}  // namespace ds
