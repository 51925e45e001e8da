// relu, gelu, silu, tanh and their gradients. The gradient ops take what is cheapest to keep: y for relu and tanh, x for gelu and silu.
//   gelu(x) = x * Phi(x)                                       (Hendrycks, Gimpel 2016, arXiv 1606.08415)
//   gelu(x) = x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3)))  with tanh = true
//   silu(x) = x / (1 + exp(-x))
#include "ops/rules.h"

namespace ds::ops {
namespace {

template <class A>
OpDef activation(std::string_view name, std::string_view meaning, std::string_view grad_op, bool keeps_output) {
    return {
        .name = name,
        .meaning = meaning,
        .inputs = {"x"},
        .outputs = {"y"},
        .attrs = attrs_type<A>(),
        .infer = same_as_first,
        .gradient =
            [=](GradContext& c) {
                return Grads{c.b.call(grad_op, {c.dy[0], keeps_output ? c.out(0) : c.in(0)}, c.node.attrs)};
            },
        .shard = split_any,
        .cost = per_element(10),
        .cheap = true,
        .in_place = true,
    };
}

template <class A>
OpDef gradient_of(std::string_view name, std::string_view meaning, std::string_view kept) {
    return {
        .name = name,
        .meaning = meaning,
        .inputs = {"dy", kept},
        .outputs = {"dx"},
        .attrs = attrs_type<A>(),
        .infer = [](const Attrs&, In in) -> Result<Types> {
            DS_REQUIRE(in[0].shape == in[1].shape, "the shapes {} and {} must be equal", dims_to_string(in[0].shape),
                       dims_to_string(in[1].shape));
            return Types{in[1]};
        },
        .shard = split_any,
        .cost = per_element(15),
        .cheap = true,
        .in_place = true,
    };
}

}  // namespace

const OpDef& relu() {
    static const OpDef op = activation<NoAttrs>("relu", "max(x, 0)", "relu_grad", true);
    return op;
}
const OpDef& relu_grad() {
    static const OpDef op = gradient_of<NoAttrs>("relu_grad", "dy where y > 0, else 0", "y");
    return op;
}
const OpDef& gelu() {
    static const OpDef op = activation<Gelu>("gelu", "x * Phi(x), or its tanh approximation", "gelu_grad", false);
    return op;
}
const OpDef& gelu_grad() {
    static const OpDef op = gradient_of<Gelu>("gelu_grad", "dy * gelu'(x)", "x");
    return op;
}
const OpDef& silu() {
    static const OpDef op = activation<NoAttrs>("silu", "x * sigmoid(x)", "silu_grad", false);
    return op;
}
const OpDef& silu_grad() {
    static const OpDef op = gradient_of<NoAttrs>("silu_grad", "dy * silu'(x)", "x");
    return op;
}
const OpDef& tanh() {
    static const OpDef op = activation<NoAttrs>("tanh", "hyperbolic tangent", "tanh_grad", true);
    return op;
}
const OpDef& tanh_grad() {
    static const OpDef op = gradient_of<NoAttrs>("tanh_grad", "dy * (1 - y^2)", "y");
    return op;
}

}  // namespace ds::ops
