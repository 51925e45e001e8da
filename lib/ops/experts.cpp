// Mixture of experts (Shazeer et al. 2017, arXiv 1701.06538; Jiang et al. 2024, arXiv 2401.04088): top_k picks each token's experts,
// expert_rows sorts tokens by expert, grouped_matmul multiplies each expert's rows by that expert's weight, combine adds the weighted
// results back to their tokens. Rows are sorted by expert and within one by token, so sums have a fixed order. How many rows an expert has
// is run-time data (`ends`).
#include "ops/rules.h"

namespace ds::ops {
namespace {

Status check_choice(const Type& ids, std::string_view name) {
    DS_CHECK(require_ids(ids, name));
    DS_REQUIRE(ids.shape.size() == 2, "{} must be [tokens, k], but are {}", name, dims_to_string(ids.shape));
    return ok();
}

Status check_group(const Type& x, const Type& ends, std::string_view name) {
    DS_CHECK(require_float(x, name));
    DS_CHECK(require_ids(ends, "ends"));
    DS_REQUIRE(x.shape.size() == 2, "{} must be [rows, columns], but is {}", name, dims_to_string(x.shape));
    DS_REQUIRE(ends.shape.size() == 1 && ends.shape[0] >= 2, "ends must be [experts + 1], but are {}", dims_to_string(ends.shape));
    return ok();
}

Grads grouped_gradient(GradContext& c) {
    const auto& m = c.node.attrs.as<Matmul>();
    Builder& b = c.b;
    Grads g(c.node.in.size(), kNone);
    const DType low = b.type(c.in(0)).dtype;
    const ValueId dy = b.cast(c.dy[0], low);
    std::vector<ValueId> in(c.node.in);
    in[0] = dy;
    if (c.wants[0])
        g[0] = b.call("grouped_matmul", in, Matmul{.transpose_b = !m.transpose_b, .out = b.grad_dtype(c.in(0)), .set_out = true});
    bool any = false;
    for (size_t i = 2; i < g.size(); ++i) any |= c.wants[i];
    if (!any) return g;
    const auto dw = b.call_all("grouped_matmul_grad", {dy, c.in(0), c.in(1)}, Matmul{.transpose_b = m.transpose_b});
    for (size_t i = 2; i < g.size(); ++i) g[i] = dw[std::min(i - 2, dw.size() - 1)];
    return g;
}

}  // namespace

const OpDef& top_k() {
    static const OpDef op = {
        .name = "top_k",
        .meaning = "the k largest of each row, largest first, and their columns; of equal ones the first",
        .inputs = {"x"},
        .outputs = {"y", "ids"},
        .attrs = attrs_type<TopK>(),
        .infer = [](const Attrs& attrs, In in) -> Result<Types> {
            const int64_t k = attrs.as<TopK>().k;
            DS_CHECK(require_float(in[0], "x"));
            DS_REQUIRE(in[0].shape.size() == 2, "x must be [rows, columns], but is {}", dims_to_string(in[0].shape));
            DS_REQUIRE(k >= 1 && k <= in[0].shape[1], "k {} is not between 1 and the {} columns", k, in[0].shape[1]);
            return Types{{in[0].dtype, {in[0].shape[0], k}}, {DType::i32, {in[0].shape[0], k}}};
        },
        .gradient =
            [](GradContext& c) {
                return Grads{c.b.call("top_k_grad", {c.dy[0], c.out(1)}, Rows{c.b.type(c.in(0)).shape[1]})};
            },
        .shard =
            [](const Graph&, const Node&) {
                return std::vector<ShardWay>{{{0}, {0, 0}}};
            },
        .cost = per_element(4),
    };
    return op;
}

const OpDef& top_k_grad() {
    static const OpDef op = {
        .name = "top_k_grad",
        .meaning = "dy at its columns, zeros elsewhere",
        .inputs = {"dy", "ids"},
        .outputs = {"dx"},
        .attrs = attrs_type<Rows>(),
        .infer = [](const Attrs& attrs, In in) -> Result<Types> {
            DS_CHECK(require_float(in[0], "dy"));
            DS_CHECK(check_choice(in[1], "ids"));
            DS_CHECK(require_shape(in[0], "dy", in[1].shape));
            return Types{{in[0].dtype, {in[0].shape[0], attrs.as<Rows>().rows}}};
        },
        .cost = per_element(1),
    };
    return op;
}

const OpDef& expert_rows() {
    static const OpDef op = {
        .name = "expert_rows",
        .meaning =
            "tokens sorted by expert: the token of each row (-1: none), where each expert's rows end, where each choice's row is (-1: "
            "none), real choices an expert",
        .inputs = {"ids", "real?"},
        .outputs = {"tokens", "ends", "places", "counts"},
        .attrs = attrs_type<Routing>(),
        .infer = [](const Attrs& attrs, In in) -> Result<Types> {
            const auto& r = attrs.as<Routing>();
            DS_CHECK(check_choice(in[0], "ids"));
            const int64_t tokens = in[0].shape[0], k = in[0].shape[1];
            DS_REQUIRE(!in[1].present || in[1] == (Type{DType::f32, {tokens}}), "real must be f32 [{}], one a token, but is {}", tokens,
                       to_string(in[1]));
            DS_REQUIRE(r.experts >= 1, "experts is {}", r.experts);
            DS_REQUIRE(r.capacity_factor >= 0 && r.min_capacity >= 0, "capacity_factor {} and min_capacity {} must not be negative",
                       r.capacity_factor, r.min_capacity);
            return Types{{DType::i32, {tokens * k}}, {DType::i32, {r.experts + 1}}, {DType::i32, {tokens, k}}, {DType::f32, {r.experts}}};
        }};
    return op;
}

const OpDef& grouped_matmul() {
    static const OpDef op = {
        .name = "grouped_matmul",
        .meaning = "rows ends[i]..ends[i+1] of x by weight i; rows behind the last end are zero",
        .inputs = {"x", "ends", "weights..."},
        .outputs = {"y"},
        .attrs = attrs_type<Matmul>(),
        .infer = [](const Attrs& attrs, In in) -> Result<Types> {
            const auto& m = attrs.as<Matmul>();
            DS_CHECK(check_group(in[0], in[1], "x"));
            DS_REQUIRE(!m.transpose_a, "transpose_a has no meaning here");
            DS_REQUIRE(static_cast<int64_t>(in.size()) - 2 == in[1].shape[0] - 1, "{} weights for ends {}", in.size() - 2,
                       dims_to_string(in[1].shape));
            for (size_t i = 2; i < in.size(); ++i) {
                DS_CHECK(require_float(in[i], "weights"));
                DS_REQUIRE(in[i].shape.size() == 2 && in[i].shape == in[2].shape && in[i].shape[m.transpose_b ? 1 : 0] == in[0].shape[1],
                           "weight {} must be {} as x and the other weights demand, but is {}", i - 2,
                           m.transpose_b ? "[columns, columns of x]" : "[columns of x, columns]", dims_to_string(in[i].shape));
            }
            return Types{{m.set_out ? m.out : wider(in[0].dtype, in[2].dtype), {in[0].shape[0], in[2].shape[m.transpose_b ? 0 : 1]}}};
        },
        .gradient = grouped_gradient,
        .shard =
            [](const Graph&, const Node& n) {
                const int columns = n.attrs.as<Matmul>().transpose_b ? 0 : 1;
                ShardWay by_column{{kWhole, kWhole}, {1}}, by_row{{1, kWhole}, {kPartial}};
                by_column.in.resize(n.in.size(), columns);
                by_row.in.resize(n.in.size(), 1 - columns);
                return std::vector<ShardWay>{by_column, by_row};
            },
        .cost = [](const Attrs&, In in,
                   In out) { return Cost{.flops = 2 * static_cast<double>(elements(out[0].shape)) * static_cast<double>(in[0].shape[1])}; },
        .low_inputs = 1 << 30,
    };
    return op;
}

const OpDef& grouped_matmul_grad() {
    static const OpDef op = {
        .name = "grouped_matmul_grad",
        .meaning = "of each weight: x^T dy of its rows, transposed as the weight is",
        .inputs = {"dy", "x", "ends"},
        .outputs = {"dweights..."},
        .attrs = attrs_type<Matmul>(),
        .infer = [](const Attrs& attrs, In in) -> Result<Types> {
            DS_CHECK(check_group(in[0], in[2], "dy"));
            DS_CHECK(check_group(in[1], in[2], "x"));
            DS_REQUIRE(in[0].shape[0] == in[1].shape[0], "dy {} and x {} differ in rows", dims_to_string(in[0].shape),
                       dims_to_string(in[1].shape));
            Shape weight{in[1].shape[1], in[0].shape[1]};
            if (attrs.as<Matmul>().transpose_b) std::swap(weight[0], weight[1]);
            return Types(static_cast<size_t>(in[2].shape[0] - 1), Type{DType::f32, weight});
        },
        .cost = [](const Attrs&, In in,
                   In) { return Cost{.flops = 2 * static_cast<double>(elements(in[0].shape)) * static_cast<double>(in[1].shape[1])}; },
    };
    return op;
}

const OpDef& combine() {
    static const OpDef op = {
        .name = "combine",
        .meaning = "of each token: the sum of its weights times rows of x at its places; a place of -1 adds nothing",
        .inputs = {"x", "weights", "places"},
        .outputs = {"y"},
        .attrs = attrs_type<NoAttrs>(),
        .infer = [](const Attrs&, In in) -> Result<Types> {
            DS_CHECK(require_float(in[0], "x"));
            DS_CHECK(require_float(in[1], "weights"));
            DS_CHECK(check_choice(in[2], "places"));
            DS_CHECK(require_shape(in[1], "weights", in[2].shape));
            DS_REQUIRE(in[0].shape.size() == 2, "x must be [rows, columns], but is {}", dims_to_string(in[0].shape));
            return Types{{wider(in[0].dtype, in[1].dtype), {in[2].shape[0], in[0].shape[1]}}};
        },
        .gradient =
            [](GradContext& c) {
                const auto g = c.b.call_all("combine_grad", {c.dy[0], c.in(0), c.in(1), c.in(2)});
                return Grads{g[0], g[1], kNone};
            },
        .shard =
            [](const Graph&, const Node&) {
                return std::vector<ShardWay>{{{kWhole, 0, 0}, {0}}, {{1, kWhole, kWhole}, {1}}};
            },
        .cost = per_element(4),
    };
    return op;
}

const OpDef& combine_grad() {
    static const OpDef op = {
        .name = "combine_grad",
        .meaning = "gradients of combine",
        .inputs = {"dy", "x", "weights", "places"},
        .outputs = {"dx", "dweights"},
        .attrs = attrs_type<NoAttrs>(),
        .infer = [](const Attrs&, In in) -> Result<Types> {
            DS_CHECK(require_float(in[0], "dy"));
            DS_CHECK(require_float(in[1], "x"));
            DS_CHECK(check_choice(in[3], "places"));
            DS_CHECK(require_shape(in[2], "weights", in[3].shape));
            DS_REQUIRE(in[1].shape.size() == 2, "x must be [rows, columns], but is {}", dims_to_string(in[1].shape));
            DS_CHECK(require_shape(in[0], "dy", {in[3].shape[0], in[1].shape[1]}));
            return Types{in[1], in[2]};
        },
        .cost = [](const Attrs&, In in,
                   In) { return Cost{.flops = 6 * static_cast<double>(elements(in[0].shape)) * static_cast<double>(last(in[3].shape))}; },
    };
    return op;
}

}  // namespace ds::ops
