// Binary cross-entropy of logits: the mean over all elements of softplus(x) - x * target, which is -target * log p - (1 - target) * log(1 -
// p) with p = sigmoid(x); torch's BCEWithLogitsLoss. softplus(x) = max(x, 0) + log(1 + exp(-|x|)) never overflows. The gradient (p -
// target) / n is a rule of its own, as that of the pieces is wrong where x is 0.
#include <algorithm>

#include "ops/rules.h"

namespace ds::ops {
namespace {

double count(Builder& b, ValueId id) { return static_cast<double>(std::max<int64_t>(elements(b.type(id).shape), 1)); }
ValueId number(Builder& b, double value) { return b.call("fill", {}, Fill{.value = value}); }

Result<Types> infer_loss(const Attrs&, In in) {
    DS_CHECK(require_float(in[0], "logits"));
    DS_CHECK(require_float(in[1], "targets"));
    DS_REQUIRE(in[0].shape == in[1].shape, "targets must be {} as the logits, but are {}", dims_to_string(in[0].shape),
               dims_to_string(in[1].shape));
    return Types{{DType::f32, {}}};
}

Grads gradient(GradContext& c) {
    Builder& b = c.b;
    const ValueId x = b.cast(c.in(0), DType::f32), target = b.cast(c.in(1), DType::f32), share = b.scale(c.dy[0], 1 / count(b, x));
    Grads g{kNone, kNone};
    if (c.wants[0]) {
        const ValueId p = b.add(b.scale(b.call("tanh", {b.scale(x, 0.5)}), 0.5), number(b, 0.5));
        g[0] = b.cast(b.mul(b.sub(p, target), share), b.grad_dtype(c.in(0)));
    }
    if (c.wants[1]) g[1] = b.cast(b.scale(b.mul(x, share), -1), b.grad_dtype(c.in(1)));
    return g;
}

std::vector<ValueId> pieces(Builder& b, const Node& n) {
    const ValueId x = b.cast(n.in[0], DType::f32), target = b.cast(n.in[1], DType::f32);
    const ValueId positive = b.call("relu", {x}), size = b.add(positive, b.call("relu", {b.scale(x, -1)}));
    const ValueId rest = b.call("log", {b.add(b.call("exp", {b.scale(size, -1)}), number(b, 1))});
    return {b.scale(b.call("sum", {b.add(b.sub(positive, b.mul(x, target)), rest)}), 1 / count(b, x))};
}

}  // namespace

const OpDef& binary_cross_entropy() {
    static const OpDef op = {
        .name = "binary_cross_entropy",
        .meaning = "mean of softplus(logits) - logits * targets: each element says yes or no by itself",
        .inputs = {"logits", "targets"},
        .outputs = {"loss"},
        .attrs = attrs_type<NoAttrs>(),
        .infer = infer_loss,
        .gradient = gradient,
        .cost = per_element(10),
        .decompose = pieces,
    };
    return op;
}

}  // namespace ds::ops
