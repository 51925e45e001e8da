// Cross-entropy of integer labels:  loss = mean over labels != ignore of (lse(logits) - logits[label]), 0 when there is none.
// linear_cross_entropy is the same of x @ weight^T + bias, computed in chunks so that the logits never exist as a whole
// (as Liger's fused linear cross-entropy; Hsu et al. 2024, arXiv 2410.10989). The fuse pass makes it.
#include "ops/rules.h"

namespace ds::ops {
namespace {

Status check_labels(const Type& labels, int64_t rows) {
    DS_CHECK(require_ids(labels, "labels"));
    DS_REQUIRE(elements(labels.shape) == rows, "labels must have one entry a row of the logits ({}), but are {}", rows,
               dims_to_string(labels.shape));
    return ok();
}

}  // namespace

const OpDef& cross_entropy() {
    static const OpDef op = {
        .name = "cross_entropy",
        .meaning = "mean of -log softmax(logits)[label] over unignored labels",
        .inputs = {"logits", "labels"},
        .outputs = {"loss", "lse"},
        .attrs = attrs_type<CrossEntropy>(),
        .infer = [](const Attrs&, In in) -> Result<Types> {
            DS_CHECK(require_float(in[0], "logits"));
            DS_REQUIRE(in[0].shape.size() >= 2, "logits must have rank 2 or more, but are {}", dims_to_string(in[0].shape));
            const int64_t rows = elements(all_but_last(in[0].shape));
            DS_CHECK(check_labels(in[1], rows));
            return Types{{DType::f32, {}}, {DType::f32, {rows}}};
        },
        .gradient =
            [](GradContext& c) {
                return Grads{c.b.call("cross_entropy_grad", {c.dy[0], c.in(0), c.in(1), c.out(1)}, c.node.attrs), kNone};
            },
        .cost = [](const Attrs&, In in, In) { return Cost{.flops = 10 * static_cast<double>(elements(in[0].shape))}; },
    };
    return op;
}

const OpDef& cross_entropy_grad() {
    static const OpDef op = {
        .name = "cross_entropy_grad",
        .meaning = "(softmax(logits) - onehot(label)) * dloss / labels",
        .inputs = {"dloss", "logits", "labels", "lse"},
        .outputs = {"dlogits"},
        .attrs = attrs_type<CrossEntropy>(),
        .infer = [](const Attrs&, In in) -> Result<Types> {
            const int64_t rows = elements(all_but_last(in[1].shape));
            DS_CHECK(require_float(in[1], "logits"));
            DS_CHECK(check_labels(in[2], rows));
            DS_CHECK(require_shape(in[0], "dloss", {}));
            DS_CHECK(require_shape(in[3], "lse", {rows}));
            return Types{in[1]};
        },
        .cost = per_element(10),
    };
    return op;
}

const OpDef& linear_cross_entropy() {
    static const OpDef op = {
        .name = "linear_cross_entropy",
        .meaning = "cross_entropy(x @ weight^T + bias, labels) without the logits",
        .inputs = {"x", "weight", "bias?", "labels"},
        .outputs = {"loss", "lse", "kept?"},
        .attrs = attrs_type<CrossEntropy>(),
        .infer = [](const Attrs& attrs, In in) -> Result<Types> {
            DS_CHECK(require_float(in[0], "x"));
            const Shape &x = in[0].shape, &w = in[1].shape;
            DS_REQUIRE(x.size() == 2 && w.size() == 2 && x[1] == w[1], "x and weight must be [rows, D] and [V, D], but are {} and {}",
                       dims_to_string(x), dims_to_string(w));
            if (in[2].present)
                DS_REQUIRE(in[2].shape == Shape{w[0]}, "bias must be [{}], the rows of weight, but is {}", w[0],
                           dims_to_string(in[2].shape));
            DS_CHECK(check_labels(in[3], x[0]));
            Types types{{DType::f32, {}}, {DType::f32, {x[0]}}};
            if (attrs.as<CrossEntropy>().keep) types.push_back({DType::f32, w});
            return types;
        },
        .gradient =
            [](GradContext& c) {
                const bool bias = c.in(2) != kNone;
                auto g = c.b.call_all("linear_cross_entropy_grad", {c.dy[0], c.in(0), c.in(1), c.in(2), c.in(3), c.out(1)}, c.node.attrs);
                return Grads{c.b.cast(g[0], c.b.grad_dtype(c.in(0))), g[1], bias ? g[2] : kNone, kNone};
            },
        .cost = [](const Attrs&, In in,
                   In) { return Cost{.flops = 2 * static_cast<double>(elements(in[0].shape)) * static_cast<double>(in[1].shape[0])}; },
        .low_inputs = 2,
    };
    return op;
}

const OpDef& linear_cross_entropy_grad() {
    static const OpDef op = {
        .name = "linear_cross_entropy_grad",
        .meaning = "gradients of linear_cross_entropy",
        .inputs = {"dloss", "x", "weight", "bias?", "labels", "lse", "dweight_into?", "dbias_into?", "kept?"},
        .outputs = {"dx", "dweight?", "dbias"},
        .attrs = attrs_type<CrossEntropy>(),
        .infer = [](const Attrs&, In in) -> Result<Types> {
            const Shape &x = in[1].shape, &w = in[2].shape;
            DS_CHECK(require_float(in[1], "x"));
            DS_REQUIRE(x.size() == 2 && w.size() == 2 && x[1] == w[1], "x and weight must be [rows, D] and [V, D], but are {} and {}",
                       dims_to_string(x), dims_to_string(w));
            DS_CHECK(check_labels(in[4], x[0]));
            DS_CHECK(require_shape(in[0], "dloss", {}));
            DS_CHECK(require_shape(in[3], "bias", {w[0]}));
            DS_CHECK(require_shape(in[5], "lse", {x[0]}));
            DS_CHECK(require_shape(in[6], "dweight_into", w));
            DS_CHECK(require_shape(in[7], "dbias_into", {w[0]}));
            DS_CHECK(require_shape(in[8], "kept", w));
            DS_REQUIRE(!in[8].present || !in[6].present, "kept and dweight_into exclude each other: dweight replaces what was kept");
            Types types{in[1], {DType::f32, in[2].shape}};
            if (in[3].present) types.push_back({DType::f32, in[3].shape});
            return types;
        },
        .cost =
            [](const Attrs&, In in, In out) {
                return Cost{.flops = (out[1].present ? 6 : 4) * static_cast<double>(elements(in[1].shape)) *
                                     static_cast<double>(in[2].shape[0])};
            },
        .into = {{1, 6}, {2, 7}},
        .replaces = {{1, 8}},
    };
    return op;
}

}  // namespace ds::ops
