// A layer of long short-term memory (Hochreiter, Schmidhuber 1997; with the forget gate of Gers et al. 2000), as torch's LSTM computes it.
// x holds what the inputs add to the four gates, in torch's order input, forget, cell, output; weight [4 H, H] is what the state before
// adds:
//   i, f, o = logistic, g = tanh of x_t + weight h_{t-1};   c_t = f c_{t-1} + i g;   y_t = h_t = o tanh c_t.
// Rows are tokens; `segments` cuts them into sequences, each of which begins with h = c = 0. cells and gates are outputs because the
// gradient needs them.
#include "ops/rules.h"

namespace ds::ops {
namespace {

Result<Types> infer_lstm(const Attrs&, In in) {
    const Shape &x = in[0].shape, &w = in[1].shape;
    DS_CHECK(require_float(in[0], "x"));
    DS_CHECK(require_float(in[1], "weight"));
    DS_REQUIRE(x.size() == (in[2].present ? 2u : 3u), "x must have rank {}, but is {}",
               in[2].present ? "2 with segments" : "3 [rows, length, gates]", dims_to_string(x));
    DS_REQUIRE(w.size() == 2 && w[0] == 4 * w[1] && x.back() == w[0], "weight must be [4 H, H] where x has 4 H columns, but are {} and {}",
               dims_to_string(w), dims_to_string(x));
    if (in[2].present) DS_CHECK(require_ids(in[2], "segments"));
    DS_REQUIRE(!in[2].present || (in[2].shape.size() == 1 && in[2].shape[0] >= 2),
               "segments must be the ends of at least one sequence, 0 first, but are {}", dims_to_string(in[2].shape));
    Shape y = x;
    y.back() = w[1];
    return Types{{in[0].dtype, y}, {DType::f32, y}, {DType::f32, x}};
}

}  // namespace

const OpDef& lstm() {
    static const OpDef op = {
        .name = "lstm",
        .meaning = "a layer of long short-term memory over sequences; x is what inputs add to the gates",
        .inputs = {"x", "weight", "segments?"},
        .outputs = {"y", "cells", "gates"},
        .attrs = attrs_type<Lstm>(),
        .infer = infer_lstm,
        .gradient =
            [](GradContext& c) {
                const auto g = c.b.call_all("lstm_grad", {c.dy[0], c.out(0), c.out(1), c.out(2), c.in(1), c.in(2)}, c.node.attrs);
                return Grads{g[0], g[1], kNone};
            },
        .cost = [](const Attrs&, In in,
                   In) { return Cost{.flops = 2 * static_cast<double>(elements(in[0].shape)) * static_cast<double>(in[1].shape[1])}; },
    };
    return op;
}

const OpDef& lstm_grad() {
    static const OpDef op = {
        .name = "lstm_grad",
        .meaning = "gradients of lstm",
        .inputs = {"dy", "y", "cells", "gates", "weight", "segments?"},
        .outputs = {"dx", "dweight"},
        .attrs = attrs_type<Lstm>(),
        .infer = [](const Attrs& attrs, In in) -> Result<Types> {
            const Type forward[] = {{in[1].dtype, in[3].shape}, in[4], in[5]};
            DS_TRY(const Types out, infer_lstm(attrs, forward));
            DS_CHECK(require_float(in[0], "dy"));
            DS_CHECK(require_shape(in[0], "dy", out[0].shape));
            DS_CHECK(require_shape(in[1], "y", out[0].shape));
            DS_CHECK(require_shape(in[2], "cells", out[0].shape));
            return Types{{in[1].dtype, in[3].shape}, {DType::f32, in[4].shape}};
        },
        .cost = [](const Attrs&, In in,
                   In) { return Cost{.flops = 4 * static_cast<double>(elements(in[3].shape)) * static_cast<double>(in[4].shape[1])}; },
    };
    return op;
}

}  // namespace ds::ops
