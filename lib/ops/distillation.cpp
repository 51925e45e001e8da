// What a student loses against its teacher: loss = T^2 times the mean, over rows with a label, of KL(softmax(teacher / T) || softmax(logits
// / T)), 0 when there is no label. T^2 keeps the gradient's size whatever the temperature (Hinton et al. 2015, arXiv 1503.02531). The
// teacher has no gradient: dlogits = T (softmax(logits / T) - softmax(teacher / T)) dloss / labelled rows.
#include "ops/attrs_compress.h"
#include "ops/rules.h"

namespace ds::ops {
namespace {

Status check_rows(const Type& logits, const Type& teacher, const Type& labels, double temperature) {
    DS_CHECK(require_float(logits, "logits"));
    DS_CHECK(require_float(teacher, "teacher"));
    DS_CHECK(require_ids(labels, "labels"));
    DS_REQUIRE(temperature > 0, "temperature is {}, but must be above 0", temperature);
    DS_REQUIRE(logits.shape.size() >= 2, "logits must have rank 2 or more, but are {}", dims_to_string(logits.shape));
    DS_CHECK(require_shape(teacher, "teacher", logits.shape));
    const int64_t rows = elements(all_but_last(logits.shape));
    DS_REQUIRE(elements(labels.shape) == rows, "labels must have one entry a row of the logits ({}), but are {}", rows,
               dims_to_string(labels.shape));
    return ok();
}

}  // namespace

const OpDef& distillation_loss() {
    static const OpDef op = {
        .name = "distillation_loss",
        .meaning = "mean of T^2 KL(softmax(teacher / T) || softmax(logits / T)) over rows with a label",
        .inputs = {"logits", "teacher", "labels"},
        .outputs = {"loss", "lse", "teacher_lse"},
        .attrs = attrs_type<Distillation>(),
        .infer = [](const Attrs& attrs, In in) -> Result<Types> {
            DS_CHECK(check_rows(in[0], in[1], in[2], attrs.as<Distillation>().temperature));
            const Type rows{DType::f32, {elements(all_but_last(in[0].shape))}};
            return Types{{DType::f32, {}}, rows, rows};
        },
        .gradient =
            [](GradContext& c) {
                return Grads{c.b.call("distillation_loss_grad", {c.dy[0], c.in(0), c.in(1), c.in(2), c.out(1), c.out(2)}, c.node.attrs),
                             kNone, kNone};
            },
        .cost = [](const Attrs&, In in, In) { return Cost{.flops = 20 * static_cast<double>(elements(in[0].shape))}; },
    };
    return op;
}

const OpDef& distillation_loss_grad() {
    static const OpDef op = {
        .name = "distillation_loss_grad",
        .meaning = "T (softmax(logits / T) - softmax(teacher / T)) * dloss / labels",
        .inputs = {"dloss", "logits", "teacher", "labels", "lse", "teacher_lse"},
        .outputs = {"dlogits"},
        .attrs = attrs_type<Distillation>(),
        .infer = [](const Attrs& attrs, In in) -> Result<Types> {
            DS_CHECK(require_shape(in[0], "dloss", {}));
            DS_CHECK(check_rows(in[1], in[2], in[3], attrs.as<Distillation>().temperature));
            const Shape rows{elements(all_but_last(in[1].shape))};
            DS_CHECK(require_shape(in[4], "lse", rows));
            DS_CHECK(require_shape(in[5], "teacher_lse", rows));
            return Types{in[1]};
        },
        .cost = per_element(20),
    };
    return op;
}

}  // namespace ds::ops
