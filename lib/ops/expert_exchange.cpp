// Expert parallelism (Lepikhin et al. 2020, arXiv 2006.16668): the ranks of a group hold near-even parts of the experts and send each other
// the rows of theirs. expert_send turns rows sorted by expert into those of this rank's experts, of all ranks of the group; expert_return
// sends what became of them back. Each is the other's gradient. How many rows go where is run-time data, told by `ends` and exchanged
// first.
#include "base/mesh.h"
#include "ops/rules.h"

namespace ds::ops {
namespace {

Status check_group(const ExpertGroup& g) {
    DS_REQUIRE(g.group >= 0 && g.group < kAxes, "group {} is none of the mesh's {} axes", g.group, kAxes);
    DS_REQUIRE(g.ranks > 0 && g.rank >= 0 && g.rank < g.ranks && g.base >= 0, "rank {} is not one of {} from {} on", g.rank, g.ranks,
               g.base);
    DS_REQUIRE(g.experts >= g.ranks && g.rows >= 0, "{} experts are fewer than {} ranks, or rows {} are negative", g.experts, g.ranks,
               g.rows);
    return ok();
}

Status check_rows(const Type& x, const Type& ends, const ExpertGroup& g) {
    DS_CHECK(require_float(x, "x"));
    DS_CHECK(require_ids(ends, "ends"));
    DS_REQUIRE(x.shape.size() == 2, "x must be [rows, columns], but is {}", dims_to_string(x.shape));
    DS_CHECK(require_shape(ends, "ends", {g.experts + 1}));
    return ok();
}

}  // namespace

const OpDef& expert_send() {
    static const OpDef op = {
        .name = "expert_send",
        .meaning = "rows sorted by expert, exchanged for those of this rank's experts",
        .inputs = {"x", "ends"},
        .outputs = {"rows", "own_ends"},
        .attrs = attrs_type<ExpertGroup>(),
        .infer = [](const Attrs& attrs, In in) -> Result<Types> {
            const auto& g = attrs.as<ExpertGroup>();
            DS_CHECK(check_group(g));
            DS_CHECK(check_rows(in[0], in[1], g));
            return Types{{in[0].dtype, {g.rows, in[0].shape[1]}}, {DType::i32, {near_even(g.experts, g.rank, g.ranks).size() + 1}}};
        },
        .gradient =
            [](GradContext& c) {
                return Grads{c.b.call("expert_return", {c.dy[0], c.in(1), c.in(0)}, c.node.attrs), kNone};
            },
    };
    return op;
}

const OpDef& expert_return() {
    static const OpDef op = {
        .name = "expert_return",
        .meaning = "rows of this rank's experts, sent back to where expert_send had them from; `like` has the shape of what comes back",
        .inputs = {"x", "ends", "like"},
        .outputs = {"y"},
        .attrs = attrs_type<ExpertGroup>(),
        .infer = [](const Attrs& attrs, In in) -> Result<Types> {
            const auto& g = attrs.as<ExpertGroup>();
            DS_CHECK(check_group(g));
            DS_CHECK(check_rows(in[0], in[1], g));
            DS_REQUIRE(in[0].shape[0] == g.rows && in[2].shape.size() == 2, "x must have {} rows and like be a matrix, but are {} and {}",
                       g.rows, dims_to_string(in[0].shape), dims_to_string(in[2].shape));
            return Types{{in[0].dtype, {in[2].shape[0], in[0].shape[1]}}};
        },
        .gradient =
            [](GradContext& c) {
                return Grads{c.b.call_all("expert_send", {c.dy[0], c.in(1)}, c.node.attrs)[0], kNone, kNone};
            },
    };
    return op;
}

}  // namespace ds::ops
