// y = op(a) @ op(b) (+ bias) (+ into), where both operands are multiplied with a scale that their largest magnitude gives, rounded to 8-bit
// floats (base/float8.h), and the product is divided by the scales: per-tensor scaling by the present values. Rank of b is 2. Products of
// the gradient run likewise.
#include "ops/attrs_fp8.h"
#include "ops/rules.h"

namespace ds::ops {
namespace {

Grads gradient(GradContext& c) {
    const auto& m = c.node.attrs.as<Fp8Matmul>();
    Builder& b = c.b;
    Grads g(c.node.in.size(), kNone);
    ValueId dy = c.dy[0];
    const ValueId a = c.in(0), w = c.in(1);
    if (c.in(3) != kNone && c.wants[3]) g[3] = b.cast(dy, b.grad_dtype(c.in(3)));
    dy = b.cast(dy, b.type(a).dtype);
    const auto giving = [](DType out, bool ta, bool tb, bool gradient_first) {  // gradients reach further than activations and weights
        return Fp8Matmul{
            .transpose_a = ta, .transpose_b = tb, .out = out, .set_out = true, .wide_a = gradient_first, .wide_b = !gradient_first};
    };
    if (c.wants[0]) g[0] = b.call("fp8_matmul", {dy, w}, giving(b.grad_dtype(a), false, !m.transpose_b, true));
    if (c.wants[1]) {
        const ValueId x = as_matrix(b, a), d = as_matrix(b, dy);
        g[1] = m.transpose_b ? b.call("fp8_matmul", {d, x}, giving(b.grad_dtype(w), true, false, true))
                             : b.call("fp8_matmul", {x, d}, giving(b.grad_dtype(w), true, false, false));
    }
    if (c.in(2) != kNone && c.wants[2]) g[2] = b.cast(b.reduce_to(dy, b.type(c.in(2)).shape), DType::f32);
    return g;
}

}  // namespace

const OpDef& fp8_matmul() {
    static const OpDef op = {
        .name = "fp8_matmul",
        .meaning = "matrix product of operands that are scaled and rounded to 8-bit floats",
        .inputs = {"a", "b", "bias?", "into?"},
        .outputs = {"y"},
        .attrs = attrs_type<Fp8Matmul>(),
        .infer = [](const Attrs& attrs, In in) -> Result<Types> {
            const auto& m = attrs.as<Fp8Matmul>();
            DS_REQUIRE(in[1].shape.size() == 2, "b must be a matrix, but is {}", dims_to_string(in[1].shape));
            return find_op("matmul")->infer(m.product(), in);
        },
        .gradient = gradient,
        .cost = [](const Attrs& attrs, In in, In out) { return find_op("matmul")->cost(attrs.as<Fp8Matmul>().product(), in, out); },
        .low_inputs = 2,
        .into = {{0, 3}},
    };
    return op;
}

}  // namespace ds::ops
