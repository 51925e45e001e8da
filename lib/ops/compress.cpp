// What compression-aware training puts in front of a product: values rounded to few bits, and masks of what counts most. Both hand their gradient on as it
// comes (straight-through estimators, Bengio et al. 2013, arXiv 1308.3432), as DeepSpeed's compression/utils.py does.
#include "ops/attrs_compress.h"
#include "ops/rules.h"

namespace ds::ops {
namespace {

Grads straight_through(GradContext& c) { return {c.b.cast(c.dy[0], c.b.grad_dtype(c.in(0)))}; }

}  // namespace

const OpDef& fake_quantize() {
    static const OpDef op = {
        .name = "fake_quantize", .meaning = "each group's values rounded to `bits` bits; the gradient passes", .inputs = {"x"}, .outputs = {"y"}, .attrs = attrs_type<FakeQuantize>(),
        .infer = [](const Attrs& attrs, In in) -> Result<Types> {
            const auto& a = attrs.as<FakeQuantize>();
            DS_CHECK(require_float(in[0], "x"));
            DS_REQUIRE(a.bits >= 1 && a.bits <= 16, "bits is {}, outside 1 to 16", a.bits);
            DS_REQUIRE(a.bits > 2 || !a.asymmetric, "{} bits are symmetric only", a.bits);
            DS_REQUIRE(a.groups >= 0 && (a.groups == 0 || elements(in[0].shape) % a.groups == 0), "groups is {}, which does not divide the {} elements of x", a.groups, elements(in[0].shape));
            return Types{in[0]};
        },
        .gradient = straight_through,
        .shard = [](const Graph& g, const Node& n) { return n.attrs.as<FakeQuantize>().groups == 0 ? split_rows(g, n) : std::vector<ShardWay>{}; },
        .cost = per_element(6)};
    return op;
}

const OpDef& top_mask() {
    static const OpDef op = {
        .name = "top_mask", .meaning = "1 where a score is among the largest, else 0; the gradient passes", .inputs = {"scores"}, .outputs = {"mask"}, .attrs = attrs_type<TopMask>(),
        .infer = [](const Attrs& attrs, In in) -> Result<Types> {
            const auto& a = attrs.as<TopMask>();
            DS_CHECK(require_float(in[0], "scores"));
            DS_REQUIRE(a.ratio >= 0 && a.ratio <= 1, "ratio is {}, outside 0 to 1", a.ratio);
            DS_REQUIRE(a.m == 0 || (a.n >= 0 && a.n <= a.m && last(in[0].shape) % a.m == 0), "{} of {} neighbours do not fit rows of {}", a.n, a.m, last(in[0].shape));
            return Types{in[0]};
        },
        .gradient = straight_through, .cost = per_element(8)};
    return op;
}

}  // namespace ds::ops
