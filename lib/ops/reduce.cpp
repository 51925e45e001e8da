// sum and mean over some or all dimensions. Sums are f32 and in a fixed order, whatever the input's type and the number of threads.
#include <algorithm>

#include "ops/rules.h"

namespace ds::ops {
namespace {

struct Plan {
    Shape kept, y;
    double count = 1;
};  // kept: reduced dimensions are 1

Result<Plan> plan_of(const Attrs& attrs, const Shape& x) {
    const auto& r = attrs.as<Reduce>();
    std::vector<bool> reduced(x.size(), r.axes.empty());
    for (const int64_t a : r.axes) {
        DS_TRY(const int64_t axis, axis_of(a, x.size()));
        DS_REQUIRE(!reduced[static_cast<size_t>(axis)], "axis {} is named twice", axis);
        reduced[static_cast<size_t>(axis)] = true;
    }
    Plan plan;
    for (size_t i = 0; i < x.size(); ++i) {
        plan.kept.push_back(reduced[i] ? 1 : x[i]);
        if (reduced[i]) plan.count *= static_cast<double>(x[i]);
        if (!reduced[i] || r.keep) plan.y.push_back(plan.kept.back());
    }
    return plan;
}

Result<Types> infer_reduce(const Attrs& attrs, In in) {
    DS_CHECK(require_float(in[0], "x"));
    DS_TRY(Plan plan, plan_of(attrs, in[0].shape));
    return Types{{DType::f32, std::move(plan.y)}};
}

Grads gradient(GradContext& c, bool mean) {
    const Type x = c.b.type(c.in(0));
    const Plan plan = *plan_of(c.node.attrs, x.shape);
    ValueId dy = c.b.reshape(c.dy[0], plan.kept);
    if (mean) dy = c.b.scale(dy, 1 / std::max(plan.count, 1.0));
    return {c.b.call("broadcast", {c.b.cast(dy, x.dtype)}, Reshape{x.shape})};
}

std::vector<ShardWay> ways(const Graph& g, const Node& n) {
    std::vector<ShardWay> list;
    const Shape& x = g.type(n.in[0]).shape;
    const Plan plan = *plan_of(n.attrs, x);
    int out = 0;
    for (size_t i = 0; i < x.size(); ++i) {
        const bool reduced = plan.kept[i] == 1 && x[i] != 1;
        list.push_back({{static_cast<int>(i)}, {reduced ? kPartial : out}});
        if (!reduced || n.attrs.as<Reduce>().keep) ++out;
    }
    return list;
}

}  // namespace

const OpDef& sum() {
    static const OpDef op = {
        .name = "sum",
        .meaning = "sum over axes (all by default), in f32",
        .inputs = {"x", "into?"},
        .outputs = {"y"},
        .attrs = attrs_type<Reduce>(),
        .infer = infer_reduce,
        .gradient = [](GradContext& c) { return gradient(c, false); },
        .shard = ways,
        .cost = [](const Attrs&, In in, In) { return Cost{.flops = static_cast<double>(elements(in[0].shape))}; },
        .into = {{0, 1}},
    };
    return op;
}

const OpDef& mean() {
    static const OpDef op = {.name = "mean",
                             .meaning = "mean over axes (all by default), in f32",
                             .inputs = {"x"},
                             .outputs = {"y"},
                             .attrs = attrs_type<Reduce>(),
                             .infer = infer_reduce,
                             .gradient = [](GradContext& c) { return gradient(c, true); },
                             .decompose = [](Builder& b, const Node& n) -> std::vector<ValueId> {
                                 const Plan plan = *plan_of(n.attrs, b.type(n.in[0]).shape);
                                 return {b.scale(b.call("sum", {n.in[0]}, n.attrs), 1 / std::max(plan.count, 1.0))};
                             }};
    return op;
}

}  // namespace ds::ops
