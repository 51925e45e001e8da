// Softmax over the last dimension:  y = exp(x - max) / sum exp(x - max);  dx = y * (dy - sum(dy * y)).
#include "ops/rules.h"

namespace ds::ops {

const OpDef& softmax() {
    static const OpDef op = {
        .name = "softmax",
        .meaning = "exp(x) / sum exp(x) over the last dimension",
        .inputs = {"x"},
        .outputs = {"y"},
        .attrs = attrs_type<NoAttrs>(),
        .infer = same_as_first,
        .gradient =
            [](GradContext& c) {
                return Grads{c.b.call("softmax_grad", {c.dy[0], c.out(0)})};
            },
        .shard = split_rows,
        .cost = per_element(12),
        .cheap = true,
    };
    return op;
}

const OpDef& softmax_grad() {
    static const OpDef op = {.name = "softmax_grad",
                             .meaning = "y * (dy - sum(dy * y))",
                             .inputs = {"dy", "y"},
                             .outputs = {"dx"},
                             .attrs = attrs_type<NoAttrs>(),
                             .infer = [](const Attrs&, In in) -> Result<Types> {
                                 DS_CHECK(require_float(in[0], "dy"));
                                 DS_CHECK(require_float(in[1], "y"));
                                 DS_CHECK(require_shape(in[0], "dy", in[1].shape));
                                 return Types{in[1]};
                             },
                             .shard = split_rows,
                             .cost = per_element(4)};
    return op;
}

}  // namespace ds::ops
