// Cross-entropy over a vocabulary that is cut over ranks (Shoeybi et al. 2019, arXiv 1909.08053): each rank has the logits of its words.
// What ranks tell each other is two numbers a row. The gradient needs no exchange but that of x, which all have alike: given the whole
// vocabulary's lse, each rank's part of the softmax is its own.
#include "base/mesh.h"
#include "ops/attrs_parallel.h"
#include "ops/rules.h"

namespace ds::ops {
namespace {

Status check_words(const Attrs& attrs, const Type& labels) {
    const auto& s = attrs.as<ShardedCrossEntropy>().share;
    DS_CHECK(require_ids(labels, "labels"));
    DS_REQUIRE(s.ranks > 0 && s.rank >= 0 && s.rank < s.ranks, "rank {} is not one of {}", s.rank, s.ranks);
    DS_REQUIRE(s.units > 0 && s.period == s.full && s.full % s.units == 0, "{} words are not dealt out in {} units", s.full, s.units);
    return ok();
}

int64_t words(const Share& s) { return Cut{0, s.period, s.units}.local(s.full, static_cast<int>(s.rank), static_cast<int>(s.ranks)); }

// Of labels as a rank counts its words: any number that is ignored could be one of its words, or another's mark.
CrossEntropy of_local_labels(const Attrs& attrs) {
    CrossEntropy of = attrs.as<ShardedCrossEntropy>().of;
    of.ignore = kIgnoredLabel;
    return of;
}

}  // namespace

const OpDef& local_labels() {
    static const OpDef op = {
        .name = "local_labels",
        .meaning = "labels as this rank counts its words; -1: another's word, -100: ignored",
        .inputs = {"labels"},
        .outputs = {"y"},
        .attrs = attrs_type<ShardedCrossEntropy>(),
        .infer = [](const Attrs& attrs, In in) -> Result<Types> {
            DS_CHECK(check_words(attrs, in[0]));
            return Types{in[0]};
        },
        .cheap = true,
    };
    return op;
}

const OpDef& vocabulary_merge() {
    static const OpDef op = {.name = "vocabulary_merge",
                             .meaning = "cross-entropy over all words, of what each rank has of its own",
                             .inputs = {"loss", "lse", "labels"},
                             .outputs = {"merged", "merged_lse"},
                             .attrs = attrs_type<ShardedCrossEntropy>(),
                             .infer = [](const Attrs& attrs, In in) -> Result<Types> {
                                 DS_CHECK(check_words(attrs, in[2]));
                                 DS_CHECK(require_shape(in[0], "loss", {}));
                                 DS_CHECK(require_shape(in[1], "lse", {elements(in[2].shape)}));
                                 return Types{{DType::f32, {}}, {DType::f32, in[1].shape}};
                             }};
    return op;
}

const OpDef& sharded_cross_entropy() {
    static const OpDef op = {
        .name = "sharded_cross_entropy",
        .meaning = "linear_cross_entropy with this rank's rows of weight",
        .inputs = {"x", "weight", "bias?", "labels"},
        .outputs = {"loss", "lse"},
        .attrs = attrs_type<ShardedCrossEntropy>(),
        .infer = [](const Attrs& attrs, In in) -> Result<Types> {
            const auto& a = attrs.as<ShardedCrossEntropy>();
            DS_CHECK(check_words(attrs, in[3]));
            DS_REQUIRE(in[1].shape.size() == 2 && in[1].shape[0] == words(a.share),
                       "weight must have {} rows, this rank's of {} words, but is {}", words(a.share), a.share.full,
                       dims_to_string(in[1].shape));
            return find_op("linear_cross_entropy")->infer(Attrs(a.of), in);
        },
        .gradient =
            [](GradContext& c) {
                const bool bias = c.in(2) != kNone;
                const ValueId labels = c.b.call("local_labels", {c.in(3)}, c.node.attrs);
                auto g = c.b.call_all("linear_cross_entropy_grad", {c.dy[0], c.in(0), c.in(1), c.in(2), labels, c.out(1)},
                                      of_local_labels(c.node.attrs));
                return Grads{c.b.cast(g[0], c.b.grad_dtype(c.in(0))), g[1], bias ? g[2] : kNone, kNone};
            },
        .cost = [](const Attrs&, In in,
                   In) { return Cost{.flops = 2 * static_cast<double>(elements(in[0].shape)) * static_cast<double>(in[1].shape[0])}; },
        .decompose = [](Builder& b, const Node& n) -> std::vector<ValueId> {
            const ValueId labels = b.call("local_labels", {n.in[3]}, n.attrs);
            const auto own = b.call_all("linear_cross_entropy", {n.in[0], n.in[1], n.in[2], labels}, of_local_labels(n.attrs));
            if (!b.status().ok()) return {kNone, kNone};
            return b.call_all("vocabulary_merge", {own[0], own[1], n.in[3]}, n.attrs);
        },
        .low_inputs = 2,
    };
    return op;
}

}  // namespace ds::ops
