// A matrix product and sums of one of its operands:  y = op(a) @ op(b) (+ into),  sums[i] = sum over k of op(a)[i, k], or of op(b)[k, i] (+
// sums_into), in f32. A weight's gradient and its bias's are that, for backends whose products add up what they read anyway. Pass
// `epilogues` makes it, behind the backward pass: it has no gradient.
#include "ops/attrs_epilogue.h"
#include "ops/rules.h"

namespace ds::ops {

const OpDef& matmul_sums() {
    static const OpDef op = {
        .name = "matmul_sums",
        .meaning = "a matrix product, and the sums of an operand over the dimension that it contracts",
        .inputs = {"a", "b", "into?", "sums_into?"},
        .outputs = {"y", "sums"},
        .attrs = attrs_type<MatmulSums>(),
        .infer = [](const Attrs& attrs, In in) -> Result<Types> {
            const auto& m = attrs.as<MatmulSums>();
            DS_REQUIRE(in[0].shape.size() == 2 && in[1].shape.size() == 2, "a and b must be matrices, but are {} and {}",
                       dims_to_string(in[0].shape), dims_to_string(in[1].shape));
            const Type operands[] = {in[0], in[1], Type{.present = false}, in[2]};
            DS_TRY(Types types, find_op("matmul")->infer(m.product(), operands));
            types.push_back({DType::f32, {types[0].shape[m.of_a ? 0 : 1]}});
            DS_CHECK(require_shape(in[3], "sums_into", types[1].shape));
            return types;
        },
        .cost = [](const Attrs& attrs, In in, In out) { return find_op("matmul")->cost(attrs.as<MatmulSums>().product(), in, out); },
        .low_inputs = 2,
        .into = {{0, 2}, {1, 3}},
    };
    return op;
}

}  // namespace ds::ops
