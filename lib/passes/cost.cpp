#include "passes/cost.h"

#include <algorithm>

#include "ir/op.h"

namespace ds::passes {

double seconds_of(const Graph& graph) {
    double sum = 0;
    for (const Node& node : graph.nodes) {
        if (node.op->view) continue;
        const auto in = graph.types(node.in), out = graph.types(node.out);
        Cost cost;
        if (node.op->cost) {
            std::vector<Type> padded = in;
            padded.resize(std::max(in.size(), node.op->inputs.size()), Type{.present = false});
            cost = node.op->cost(node.attrs, padded, out);
        }
        for (const auto* types : {&in, &out})
            for (const Type& type : *types)
                if (type.present) cost.bytes += static_cast<double>(bytes(type));
        sum += std::max(cost.flops / kFlopsASecond, cost.bytes / kBytesASecond);
    }
    return sum;
}

}  // namespace ds::passes
