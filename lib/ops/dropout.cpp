// Dropout (Srivastava et al. 2014): each element is zeroed with probability p, the others divided by 1 - p. Which ones follows from seed,
// step, salt and the element's index in the whole batch, so that the gradient draws the same ones again and no mask is kept.
#include "ops/rules.h"

namespace ds::ops {

const OpDef& dropout() {
    static const OpDef op = {
        .name = "dropout",
        .meaning = "zeroes elements with probability p and divides the others by 1 - p; the identity in evaluation",
        .inputs = {"x", "tokens?"},
        .outputs = {"y"},
        .attrs = attrs_type<Dropout>(),
        .infer = [](const Attrs& attrs, In in) -> Result<Types> {
            const double p = attrs.as<Dropout>().p;
            DS_CHECK(require_float(in[0], "x"));
            DS_REQUIRE(p >= 0 && p < 1, "p = {} is outside [0, 1)", p);
            if (in[1].present)
                DS_REQUIRE(elements(in[1].shape) == elements(all_but_last(in[0].shape)),
                           "tokens must have one entry a row of x {}, but are {}", dims_to_string(in[0].shape),
                           dims_to_string(in[1].shape));
            return Types{in[0]};
        },
        .gradient =
            [](GradContext& c) {
                return Grads{c.b.call("dropout", {c.dy[0], c.in(1)}, c.node.attrs), kNone};
            },
        .shard = [](const Graph& g, const Node& n) { return split_rows_with(1, g, n); },
        .cost = per_element(12),
        .cheap = true,
        .in_place = true,
    };
    return op;
}

}  // namespace ds::ops
