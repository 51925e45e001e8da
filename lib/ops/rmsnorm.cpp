// Root-mean-square normalisation over the last dimension:  y = x * rstd * weight,  rstd = 1 / sqrt(mean(x^2) + eps).
// Zhang, Sennrich 2019 (arXiv 1910.07467).
#include "ops/rules.h"

namespace ds::ops {

const OpDef& rmsnorm() {
    static const OpDef op = {
        .name = "rmsnorm",
        .meaning = "root-mean-square normalisation over the last dimension",
        .inputs = {"x", "weight"},
        .outputs = {"y", "rstd"},
        .attrs = attrs_type<Norm>(),
        .infer = [](const Attrs& attrs, In in) -> Result<Types> {
            const Shape features{last(in[0].shape)};
            DS_CHECK(require_float(in[0], "x"));
            DS_REQUIRE(in[1].shape == features, "weight must be {}, the last dimension of x {}, but is {}", dims_to_string(features),
                       dims_to_string(in[0].shape), dims_to_string(in[1].shape));
            return Types{{attrs.as<Norm>().out, in[0].shape}, {DType::f32, all_but_last(in[0].shape)}};
        },
        .gradient =
            [](GradContext& c) {
                auto g = c.b.call_all("rmsnorm_grad", {c.dy[0], c.in(0), c.in(1), c.out(1)}, c.node.attrs);
                g.resize(2);
                return g;
            },
        .shard = split_rows,
        .cost = per_element(6),
        .cheap = true,
    };
    return op;
}

const OpDef& rmsnorm_grad() {
    static const OpDef op = {
        .name = "rmsnorm_grad",
        .meaning = "gradients of rmsnorm",
        .inputs = {"dy", "x", "weight", "rstd", "dx_into?", "dweight_into?"},
        .outputs = {"dx", "dweight"},
        .attrs = attrs_type<Norm>(),
        .infer = [](const Attrs&, In in) -> Result<Types> {
            const Shape features{last(in[1].shape)};
            const Shape shapes[] = {in[1].shape, in[1].shape, features, all_but_last(in[1].shape), in[1].shape, features};
            static constexpr std::string_view names[] = {"dy", "x", "weight", "rstd", "dx_into", "dweight_into"};
            for (size_t i = 0; i < in.size(); ++i) {
                if (in[i].present) DS_CHECK(require_float(in[i], names[i]));
                DS_CHECK(require_shape(in[i], names[i], shapes[i]));
            }
            return Types{in[1], {DType::f32, features}};
        },
        .cost = per_element(12),
        .into = {{0, 4}, {1, 5}},
    };
    return op;
}

}  // namespace ds::ops
