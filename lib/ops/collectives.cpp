// What ranks exchange within a plan. A value is whole (every rank has the same), cut (each has its share) or partial (each has a summand);
// gradients of whole values are whole, of cut ones cut, of partial ones whole. These ops convert, and their gradients convert back:
// replicate hands a whole value to nodes that each rank runs for its share only, so its gradient is summed (Megatron's f; Shoeybi et al.
// 2019, arXiv 1909.08053), all_reduce sums summands (Megatron's g).
#include "base/stripes.h"
#include "ops/rules.h"

namespace ds::ops {
namespace {

Cut cut_of(const Share& s) { return {static_cast<int>(s.dim), s.period, s.units}; }

Status check_share(const Share& s, const Shape& shape) {
    DS_REQUIRE(s.ranks > 0 && s.rank >= 0 && s.rank < s.ranks, "rank {} is not one of {}", s.rank, s.ranks);
    DS_REQUIRE(s.dim >= 0 && s.dim < static_cast<int64_t>(shape.size()), "dim {} is outside rank {}", s.dim, shape.size());
    DS_REQUIRE(s.units > 0 && s.period > 0 && s.period <= s.full && s.period % s.units == 0 && s.full % (s.period / s.units) == 0,
               "{} does not divide into periods of {} and those into {} units", s.full, s.period, s.units);
    return ok();
}

int64_t local_size(const Share& s) { return held(cut_of(s), s.full, static_cast<int>(s.rank), static_cast<int>(s.ranks)); }

Result<Types> to_share(const Attrs& attrs, In in) {
    const auto& s = attrs.as<Share>();
    DS_CHECK(check_share(s, in[0].shape));
    Type y = in[0];
    DS_REQUIRE(y.shape[static_cast<size_t>(s.dim)] == s.full, "dimension {} of x {} must be {}", s.dim, dims_to_string(y.shape), s.full);
    y.shape[static_cast<size_t>(s.dim)] = local_size(s);
    return Types{std::move(y)};
}

Result<Types> from_share(const Attrs& attrs, In in) {
    const auto& s = attrs.as<Share>();
    DS_CHECK(check_share(s, in[0].shape));
    Type y = in[0];
    DS_REQUIRE(y.shape[static_cast<size_t>(s.dim)] == local_size(s), "dimension {} of x {} must be this rank's {} of {}", s.dim,
               dims_to_string(y.shape), local_size(s), s.full);
    y.shape[static_cast<size_t>(s.dim)] = s.full;
    return Types{std::move(y)};
}

Result<Types> same(const Attrs& attrs, In in) {
    const int64_t group = attrs.as<Exchange>().group;
    DS_REQUIRE(group >= 0 && group < kAxes, "group {} is none of the mesh's {} axes", group, kAxes);
    return Types{in[0]};
}

Grads gathered(GradContext& c) {
    Share s = c.node.attrs.as<Share>();
    s.sum_gradient = false;
    return {c.b.call("all_gather", {c.dy[0]}, s)};
}

}  // namespace

const OpDef& replicate() {
    static const OpDef op = {
        .name = "replicate",
        .meaning = "x itself; its gradient is the sum over ranks",
        .inputs = {"x"},
        .outputs = {"y"},
        .attrs = attrs_type<Exchange>(),
        .infer = same,
        .gradient = [](GradContext& c) { return Grads{c.b.call("all_reduce", {c.dy[0]}, c.node.attrs)}; },
        .cheap = true,
        .view = true,
    };
    return op;
}

const OpDef& all_reduce() {
    static const OpDef op = {
        .name = "all_reduce",
        .meaning = "the sum of x over ranks",
        .inputs = {"x"},
        .outputs = {"y"},
        .attrs = attrs_type<Exchange>(),
        .infer = same,
        .gradient =
            [](GradContext& c) {
                const bool sums = c.node.attrs.as<Exchange>().sum_gradient;
                return Grads{sums ? c.b.call("all_reduce", {c.dy[0]}, c.node.attrs) : c.dy[0]};
            },
        .in_place = true,
    };
    return op;
}

const OpDef& batch_sum() {
    static const OpDef op = {
        .name = "batch_sum",
        .meaning = "x, a sum over tokens, as the sum over those of all ranks that hold rows of the batch (pass batch_sums)",
        .inputs = {"x"},
        .outputs = {"y"},
        .attrs = attrs_type<NoAttrs>(),
        .infer = [](const Attrs&, In in) -> Result<Types> { return Types{in[0]}; },
        .gradient = [](GradContext& c) { return Grads{c.dy[0]}; },
        .cheap = true,
        .view = true,
    };
    return op;
}

const OpDef& take_share() {
    static const OpDef op = {
        .name = "take_share",
        .meaning = "this rank's share of x",
        .inputs = {"x"},
        .outputs = {"y"},
        .attrs = attrs_type<Share>(),
        .infer = to_share,
        .gradient =
            [](GradContext& c) {
                const bool sums = c.node.attrs.as<Share>().sum_gradient;
                return sums ? Grads{c.b.call("pad_share", {c.dy[0]}, c.node.attrs)} : gathered(c);
            },
        .cheap = true,
    };
    return op;
}

const OpDef& pad_share() {
    static const OpDef op = {
        .name = "pad_share",
        .meaning = "x as this rank's share of zeros",
        .inputs = {"x"},
        .outputs = {"y"},
        .attrs = attrs_type<Share>(),
        .infer = from_share,
        .gradient = [](GradContext& c) { return Grads{c.b.call("take_share", {c.dy[0]}, c.node.attrs)}; },
    };
    return op;
}

const OpDef& share_gradient() {
    static const OpDef op = {
        .name = "share_gradient",
        .meaning = "x itself, which all ranks computed alike; each goes on with an equal part of its gradient",
        .inputs = {"x"},
        .outputs = {"y"},
        .attrs = attrs_type<Share>(),
        .infer = [](const Attrs& attrs, In in) -> Result<Types> {
            DS_REQUIRE(attrs.as<Share>().ranks > 0, "ranks is {}", attrs.as<Share>().ranks);
            return Types{in[0]};
        },
        .gradient = [](GradContext& c) { return Grads{c.b.scale(c.dy[0], 1.0 / static_cast<double>(c.node.attrs.as<Share>().ranks))}; },
        .cheap = true,
        .view = true,
    };
    return op;
}

const OpDef& all_gather() {
    static const OpDef op = {.name = "all_gather",
                             .meaning = "every rank's share, put together",
                             .inputs = {"x"},
                             .outputs = {"y"},
                             .attrs = attrs_type<Share>(),
                             .infer = from_share,
                             .gradient = [](GradContext& c) {
                                 const bool sums = c.node.attrs.as<Share>().sum_gradient;
                                 return Grads{c.b.call(sums ? "reduce_scatter" : "take_share", {c.dy[0]}, c.node.attrs)};
                             }};
    return op;
}

const OpDef& reduce_scatter() {
    static const OpDef op = {
        .name = "reduce_scatter",
        .meaning = "this rank's share of the sum of x over ranks",
        .inputs = {"x"},
        .outputs = {"y"},
        .attrs = attrs_type<Share>(),
        .infer = to_share,
        .gradient = gathered,
    };
    return op;
}

const OpDef& label_share() {
    static const OpDef op = {.name = "label_share",
                             .meaning = "unignored entries of mine / those of all; 0 where there is none",
                             .inputs = {"mine", "all"},
                             .outputs = {"y"},
                             .attrs = attrs_type<CrossEntropy>(),
                             .infer = [](const Attrs&, In in) -> Result<Types> {
                                 DS_CHECK(require_ids(in[0], "mine"));
                                 DS_CHECK(require_ids(in[1], "all"));
                                 return Types{{DType::f32, {}}};
                             }};
    return op;
}

}  // namespace ds::ops
