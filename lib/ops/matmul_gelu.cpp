// A matrix product with GELU (the tanh approximation) behind it, and the product whose result is the gradient of a GELU:
//   pre = op(a) @ op(b) (+ bias), y = gelu(pre);    dx = (op(a) @ op(b)) gelu'(x)
// for backends whose products do that where their sums still are. Pass `epilogues` makes them, behind the backward pass: they have no
// gradient.
#include "ops/rules.h"

namespace ds::ops {
namespace {

Result<Types> infer_product(const Attrs& attrs, In in, const Type& bias) {
    const Type operands[] = {in[0], in[1], bias, Type{.present = false}};
    return find_op("matmul")->infer(attrs, operands);
}

Cost cost_of_product(const Attrs& attrs, In in, In out) { return find_op("matmul")->cost(attrs, in, out); }

}  // namespace

const OpDef& matmul_gelu() {
    static const OpDef op = {
        .name = "matmul_gelu",
        .meaning = "gelu (tanh approximation) of a matrix product, and the product",
        .inputs = {"a", "b", "bias?"},
        .outputs = {"y", "pre"},
        .attrs = attrs_type<Matmul>(),
        .infer = [](const Attrs& attrs, In in) -> Result<Types> {
            DS_TRY(const Types pre, infer_product(attrs, in, in[2]));
            return Types{pre[0], pre[0]};
        },
        .cost = cost_of_product,
        .low_inputs = 2,
    };
    return op;
}

const OpDef& matmul_gelu_grad() {
    static const OpDef op = {
        .name = "matmul_gelu_grad",
        .meaning = "a matrix product times the slope of gelu (tanh approximation) at x",
        .inputs = {"a", "b", "x"},
        .outputs = {"dx"},
        .attrs = attrs_type<Matmul>(),
        .infer = [](const Attrs& attrs, In in) -> Result<Types> {
            DS_TRY(const Types dy, infer_product(attrs, in, Type{.present = false}));
            DS_CHECK(require_float(in[2], "x"));
            DS_CHECK(require_shape(in[2], "x", dy[0].shape));
            return dy;
        },
        .cost = cost_of_product,
        .low_inputs = 2,
    };
    return op;
}

}  // namespace ds::ops
