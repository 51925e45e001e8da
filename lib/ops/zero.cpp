// What ZeRO needs in a plan (Rajbhandari et al. 2020, arXiv 1910.02054): gradients laid one behind the other and summed over ranks so that
// each keeps its part of the sum, and weights put together from the parts that ranks hold. The pass `zero` makes these nodes; nothing
// differentiates them.
#include "base/mesh.h"
#include "ops/attrs_zero.h"
#include "ops/rules.h"

namespace ds::ops {
namespace {

Status check_parts(const Parts& p) {
    DS_REQUIRE(p.group >= 0 && p.group <= kSameExperts, "group {} is none of the {} that ranks form", p.group, kSameExperts + 1);
    DS_REQUIRE(p.rank >= 0 && p.rank < static_cast<int64_t>(p.ends.size()), "rank {} is not one of {}", p.rank, p.ends.size());
    for (size_t r = 0; r < p.ends.size(); ++r)
        DS_REQUIRE(p.size(static_cast<int64_t>(r)) >= 0, "ends must not fall, but rank {}'s is {}", r, p.ends[r]);
    return ok();
}

}  // namespace

const OpDef& bucket() {
    static const OpDef op = {.name = "bucket",
                             .meaning = "f32 inputs one behind the other, zeros between them",
                             .inputs = {"x..."},
                             .outputs = {"y"},
                             .attrs = attrs_type<Bucket>(),
                             .infer = [](const Attrs& attrs, In in) -> Result<Types> {
                                 const auto& b = attrs.as<Bucket>();
                                 DS_REQUIRE(b.starts.size() == in.size(), "has {} starts for {} inputs", b.starts.size(), in.size());
                                 for (size_t i = 0; i < in.size(); ++i) {
                                     const int64_t end = i + 1 < in.size() ? b.starts[i + 1] : b.size;
                                     DS_REQUIRE(in[i].dtype == DType::f32 && b.starts[i] >= 0 && b.starts[i] + elements(in[i].shape) <= end,
                                                "input {}, {}, must be f32 and lie between {} and {}", i, to_string(in[i]), b.starts[i],
                                                end);
                                 }
                                 return Types{{DType::f32, {b.size}}};
                             }};
    return op;
}

const OpDef& reduce_bucket() {
    static const OpDef op = {
        .name = "reduce_bucket",
        .meaning = "this rank's part of the sum of x over ranks, plus into",
        .inputs = {"x", "into?"},
        .outputs = {"y"},
        .attrs = attrs_type<Parts>(),
        .infer = [](const Attrs& attrs, In in) -> Result<Types> {
            const auto& p = attrs.as<Parts>();
            DS_CHECK(check_parts(p));
            DS_REQUIRE(in[0] == (Type{DType::f32, {p.ends.back()}}), "x must be f32 with {} elements", p.ends.back());
            Type y{DType::f32, {p.size(p.rank)}};
            DS_REQUIRE(!in[1].present || in[1] == y, "into must be {}", to_string(y));
            return Types{std::move(y)};
        },
        .into = {{0, 1}},
    };
    return op;
}

const OpDef& gather_parts() {
    static const OpDef op = {.name = "gather_parts",
                             .meaning = "every rank's part, put together",
                             .inputs = {"x"},
                             .outputs = {"y"},
                             .attrs = attrs_type<Parts>(),
                             .infer = [](const Attrs& attrs, In in) -> Result<Types> {
                                 const auto& p = attrs.as<Parts>();
                                 DS_CHECK(check_parts(p));
                                 DS_REQUIRE(elements(p.shape) == p.ends.back(), "{} has not the {} elements that are dealt out",
                                            dims_to_string(p.shape), p.ends.back());
                                 DS_REQUIRE(in[0].shape == Shape{p.size(p.rank)}, "x must have this rank's {} elements", p.size(p.rank));
                                 return Types{{in[0].dtype, p.shape}};
                             }};
    return op;
}

const OpDef& fetch() {
    static const OpDef op = {.name = "fetch",
                             .meaning = "weights that lie on disk",
                             .inputs = {},
                             .outputs = {"y"},
                             .attrs = attrs_type<Fetch>(),
                             .infer = [](const Attrs& attrs, In) -> Result<Types> {
                                 const auto& f = attrs.as<Fetch>();
                                 DS_REQUIRE(f.slot >= 0, "there is no slot {}", f.slot);
                                 return Types{{f.dtype, f.shape}};
                             }};
    return op;
}

}  // namespace ds::ops
