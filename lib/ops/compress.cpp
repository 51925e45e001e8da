// What compression-aware training puts in front of a product: values rounded to few bits, and masks of what counts most. Both hand their
// gradient on as it comes (straight-through estimators, Bengio et al. 2013, arXiv 1308.3432), as DeepSpeed's compression/utils.py does.
#include "ops/attrs_compress.h"
#include "ops/rules.h"

namespace ds::ops {
namespace {

Grads straight_through(GradContext& c) { return {c.b.cast(c.dy[0], c.b.grad_dtype(c.in(0)))}; }

}  // namespace

const OpDef& fake_quantize() {
    static const OpDef op = {
        .name = "fake_quantize",
        .meaning = "each group's values rounded to `bits` bits; the gradient passes",
        .inputs = {"x"},
        .outputs = {"y"},
        .attrs = attrs_type<FakeQuantize>(),
        .infer = [](const Attrs& attrs, In in) -> Result<Types> {
            const auto& a = attrs.as<FakeQuantize>();
            DS_CHECK(require_float(in[0], "x"));
            DS_REQUIRE(a.bits >= 1 && a.bits <= 16, "bits is {}, outside 1 to 16", a.bits);
            DS_REQUIRE(a.bits > 2 || !a.asymmetric, "{} bits are symmetric only", a.bits);
            DS_REQUIRE(a.groups >= 0 && (a.groups == 0 || elements(in[0].shape) % a.groups == 0),
                       "groups is {}, which does not divide the {} elements of x", a.groups, elements(in[0].shape));
            return Types{in[0]};
        },
        .gradient = straight_through,
        .shard = [](const Graph& g,
                    const Node& n) { return n.attrs.as<FakeQuantize>().groups == 0 ? split_rows(g, n) : std::vector<ShardWay>{}; },
        .cost = per_element(6),
    };
    return op;
}

const OpDef& quantize_within() {
    static const OpDef op = {
        .name = "quantize_within",
        .meaning = "values rounded to `bits` bits of a given range; the gradient passes",
        .inputs = {"x", "range"},
        .outputs = {"y"},
        .attrs = attrs_type<QuantizeWithin>(),
        .infer = [](const Attrs& attrs, In in) -> Result<Types> {
            const auto& a = attrs.as<QuantizeWithin>();
            DS_CHECK(require_float(in[0], "x"));
            DS_CHECK(require_shape(in[1], "range", {2}));
            DS_REQUIRE(a.bits >= 3 && a.bits <= 16, "bits is {}, outside 3 to 16", a.bits);
            return Types{in[0]};
        },
        .gradient = [](GradContext& c) -> Grads {
            return {c.b.cast(c.dy[0], c.b.grad_dtype(c.in(0))), kNone};
        },
        .shard = split_rows,
        .cost = per_element(6),
    };
    return op;
}

const OpDef& moving_range() {
    static const OpDef op = {
        .name = "moving_range",
        .meaning = "least and largest value as they move; ends: rows of x from its last entry on don't count",
        .inputs = {"x", "range", "ends?"},
        .outputs = {"moved"},
        .attrs = attrs_type<MovingRange>(),
        .infer = [](const Attrs& attrs, In in) -> Result<Types> {
            const double momentum = attrs.as<MovingRange>().momentum;
            DS_CHECK(require_float(in[0], "x"));
            DS_CHECK(require_shape(in[1], "range", {2}));
            DS_REQUIRE(in[1].dtype == DType::f32, "range must be f32, not {}", name_of(in[1].dtype));
            DS_REQUIRE(momentum >= 0 && momentum <= 1, "momentum is {}, outside 0 to 1", momentum);
            if (in[2].present) DS_CHECK(require_ids(in[2], "ends"));
            return Types{in[1]};
        },
        .gradient = [](GradContext& c) -> Grads { return Grads(c.node.in.size(), kNone); },
        .cost = per_element(2),
    };
    return op;
}

const OpDef& top_mask() {
    static const OpDef op = {
        .name = "top_mask",
        .meaning = "1 where a score is among the largest, else 0; the gradient passes",
        .inputs = {"scores"},
        .outputs = {"mask"},
        .attrs = attrs_type<TopMask>(),
        .infer = [](const Attrs& attrs, In in) -> Result<Types> {
            const auto& a = attrs.as<TopMask>();
            DS_CHECK(require_float(in[0], "scores"));
            DS_REQUIRE(a.ratio >= 0 && a.ratio <= 1, "ratio is {}, outside 0 to 1", a.ratio);
            DS_REQUIRE(a.m == 0 || (a.n >= 0 && a.n <= a.m && last(in[0].shape) % a.m == 0), "{} of {} neighbours do not fit rows of {}",
                       a.n, a.m, last(in[0].shape));
            return Types{in[0]};
        },
        .gradient = straight_through,
        .cost = per_element(8),
    };
    return op;
}

}  // namespace ds::ops
