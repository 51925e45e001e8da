// add, sub, mul, div with numpy broadcasting. Mixed float types give f32.
#include "ops/rules.h"

namespace ds::ops {
namespace {

Result<Types> infer_binary(const Attrs&, In in) {
    DS_CHECK(require_float(in[0], "a"));
    DS_CHECK(require_float(in[1], "b"));
    DS_TRY(Shape shape, broadcast_shapes(in[0].shape, in[1].shape));
    return Types{{wider(in[0].dtype, in[1].dtype), std::move(shape)}};
}

// The gradient g of y, brought to operand i's shape and type.
ValueId to_operand(GradContext& c, ValueId g, size_t i) {
    g = c.b.reduce_to(g, c.b.type(c.in(i)).shape);
    return c.b.cast(g, c.b.grad_dtype(c.in(i)));
}

OpDef binary(std::string_view name, std::string_view meaning, std::function<Grads(GradContext&)> gradient) {
    return {
        .name = name,
        .meaning = meaning,
        .inputs = {"a", "b"},
        .outputs = {"y"},
        .attrs = attrs_type<NoAttrs>(),
        .infer = infer_binary,
        .gradient = std::move(gradient),
        .shard = split_any,
        .cost = per_element(1),
        .cheap = true,
        .in_place = true,
    };
}

}  // namespace

const OpDef& add() {
    static const OpDef op = binary("add", "a + b", [](GradContext& c) {
        return Grads{c.wants[0] ? to_operand(c, c.dy[0], 0) : kNone, c.wants[1] ? to_operand(c, c.dy[0], 1) : kNone};
    });
    return op;
}

const OpDef& sub() {
    static const OpDef op = binary("sub", "a - b", [](GradContext& c) {
        return Grads{c.wants[0] ? to_operand(c, c.dy[0], 0) : kNone, c.wants[1] ? to_operand(c, c.b.scale(c.dy[0], -1), 1) : kNone};
    });
    return op;
}

const OpDef& mul() {
    static const OpDef op = binary("mul", "a * b", [](GradContext& c) {
        return Grads{c.wants[0] ? to_operand(c, c.b.mul(c.dy[0], c.in(1)), 0) : kNone,
                     c.wants[1] ? to_operand(c, c.b.mul(c.dy[0], c.in(0)), 1) : kNone};
    });
    return op;
}

const OpDef& div() {
    static const OpDef op = binary("div", "a / b", [](GradContext& c) {
        Grads g{kNone, kNone};
        if (c.wants[0]) g[0] = to_operand(c, c.b.div(c.dy[0], c.in(1)), 0);
        if (c.wants[1]) g[1] = to_operand(c, c.b.scale(c.b.div(c.b.mul(c.dy[0], c.out(0)), c.in(1)), -1), 1);
        return g;
    });
    return op;
}

}  // namespace ds::ops
