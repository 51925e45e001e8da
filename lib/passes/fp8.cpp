// Products of linear layers in 8-bit floats: y = x W + b, where the engine chose W (lib/engine/fp8.cpp) and a rank's share of it has sizes
// that GPUs take. Behind `precision`, and before the backward pass is made, whose products are of the same kind.
#include <algorithm>

#include "ir/op.h"
#include "ops/attrs_fp8.h"
#include "passes/cache.h"
#include "passes/pass.h"

namespace ds::passes {

bool fits_fp8(const Shape& shape) {
    constexpr int64_t kMultiple = 16;
    return shape.size() == 2 && std::all_of(shape.begin(), shape.end(), [](int64_t n) { return n % kMultiple == 0; });
}

Status fp8(Graph& graph, const PassOptions& options) {
    if (!options.fp8 || options.fp8->empty()) return ok();
    for (Node& node : graph.nodes) {
        if (node.op->name != "matmul") continue;
        const Type& type = graph.type(node.in[1]);
        const Value& weight = weight_of(graph, node.in[1]);
        const auto& m = node.attrs.as<Matmul>();
        if (weight.kind != Kind::param || !options.fp8->contains(weight.name) || !fits_fp8(type.shape)) continue;
        if (m.transpose_a || type.dtype == DType::f32 || graph.type(node.in[0]).dtype == DType::f32)
            continue;  // `precision` has this layer in f32
        node.op = find_op("fp8_matmul");
        node.attrs = Fp8Matmul{.transpose_b = m.transpose_b, .out = m.out, .set_out = m.set_out};
    }
    return ok();
}

}  // namespace ds::passes
