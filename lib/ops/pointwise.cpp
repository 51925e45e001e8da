// exp, log, sqrt, scale, cast.
#include "ops/rules.h"

namespace ds::ops {
namespace {

template <class A>
OpDef pointwise(std::string_view name, std::string_view meaning, std::function<Grads(GradContext&)> gradient) {
    return {
        .name = name,
        .meaning = meaning,
        .inputs = {"x"},
        .outputs = {"y"},
        .attrs = attrs_type<A>(),
        .infer = same_as_first,
        .gradient = std::move(gradient),
        .shard = split_any,
        .cost = per_element(4),
        .cheap = true,
        .in_place = true,
    };
}

}  // namespace

const OpDef& exp() {
    static const OpDef op = pointwise<NoAttrs>("exp", "e^x", [](GradContext& c) { return Grads{c.b.mul(c.dy[0], c.out(0))}; });
    return op;
}

const OpDef& log() {
    static const OpDef op = pointwise<NoAttrs>("log", "natural logarithm", [](GradContext& c) { return Grads{c.b.div(c.dy[0], c.in(0))}; });
    return op;
}

const OpDef& sqrt() {
    static const OpDef op =
        pointwise<NoAttrs>("sqrt", "square root", [](GradContext& c) { return Grads{c.b.scale(c.b.div(c.dy[0], c.out(0)), 0.5)}; });
    return op;
}

const OpDef& scale() {
    static const OpDef op =
        pointwise<Scale>("scale", "x * factor", [](GradContext& c) { return Grads{c.b.call("scale", {c.dy[0]}, c.node.attrs)}; });
    return op;
}

const OpDef& cast() {
    static const OpDef op = [] {
        OpDef def = pointwise<Cast>("cast", "x in another float type, rounded to nearest even",
                                    [](GradContext& c) { return Grads{c.b.cast(c.dy[0], c.b.grad_dtype(c.in(0)))}; });
        def.infer = [](const Attrs& a, In in) -> Result<Types> {
            const DType to = a.as<Cast>().to;
            DS_CHECK(require_float(in[0], "x"));
            DS_CHECK(require_float({to, {}}, "to"));
            return Types{{to, in[0].shape}};
        };
        return def;
    }();
    return op;
}

}  // namespace ds::ops
