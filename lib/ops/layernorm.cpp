// Layer normalisation over the last dimension:  y = (x - mean) * rstd * weight + bias,  rstd = 1 / sqrt(var + eps).
// Ba, Kiros, Hinton 2016 (arXiv 1607.06450). mean and rstd are outputs because the gradient needs them.
#include "ops/rules.h"

namespace ds::ops {

const OpDef& layernorm() {
    static const OpDef op = {
        .name = "layernorm",
        .meaning = "layer normalisation over the last dimension",
        .inputs = {"x", "weight", "bias"},
        .outputs = {"y", "mean", "rstd"},
        .attrs = attrs_type<Norm>(),
        .infer = [](const Attrs& attrs, In in) -> Result<Types> {
            const Shape features{last(in[0].shape)}, rows = all_but_last(in[0].shape);
            DS_CHECK(require_float(in[0], "x"));
            DS_REQUIRE(in[1].shape == features, "weight must be {}, the last dimension of x {}, but is {}", dims_to_string(features),
                       dims_to_string(in[0].shape), dims_to_string(in[1].shape));
            DS_REQUIRE(in[2].shape == features, "bias must be {}, the last dimension of x {}, but is {}", dims_to_string(features),
                       dims_to_string(in[0].shape), dims_to_string(in[2].shape));
            return Types{{attrs.as<Norm>().out, in[0].shape}, {DType::f32, rows}, {DType::f32, rows}};
        },
        .gradient =
            [](GradContext& c) {
                auto g = c.b.call_all("layernorm_grad", {c.dy[0], c.in(0), c.in(1), c.out(1), c.out(2)}, c.node.attrs);
                g.resize(3);
                return g;
            },
        .shard = split_rows,
        .cost = per_element(8),
        .cheap = true,
    };
    return op;
}

const OpDef& layernorm_grad() {
    static const OpDef op = {
        .name = "layernorm_grad",
        .meaning = "gradients of layernorm",
        .inputs = {"dy", "x", "weight", "mean", "rstd", "dx_into?", "dweight_into?", "dbias_into?"},
        .outputs = {"dx", "dweight", "dbias"},
        .attrs = attrs_type<Norm>(),
        .infer = [](const Attrs&, In in) -> Result<Types> {
            const Shape features{last(in[1].shape)}, rows = all_but_last(in[1].shape);
            const Shape shapes[] = {in[1].shape, in[1].shape, features, rows, rows, in[1].shape, features, features};
            static constexpr std::string_view names[] = {"dy", "x", "weight", "mean", "rstd", "dx_into", "dweight_into", "dbias_into"};
            for (size_t i = 0; i < in.size(); ++i) {
                if (in[i].present) DS_CHECK(require_float(in[i], names[i]));
                DS_CHECK(require_shape(in[i], names[i], shapes[i]));
            }
            return Types{in[1], {DType::f32, features}, {DType::f32, features}};
        },
        .cost = per_element(16),
        .into = {{0, 5}, {1, 6}, {2, 7}},
    };
    return op;
}

}  // namespace ds::ops
