#include "passes/cost.h"

#include <algorithm>

#include "ir/op.h"

namespace ds::passes {

double seconds_of(const Graph& graph) {
    double sum = 0;
    const std::vector<int> uses = use_counts(graph);
    for (const Node& node : graph.nodes) {
        if (node.op->view) continue;
        const auto in = graph.types(node.in), out = given_types(graph, node, uses);
        Cost cost = cost_of(graph, node, uses);
        for (const auto* types : {&in, &out})
            for (const Type& type : *types)
                if (type.present) cost.bytes += static_cast<double>(bytes(type));
        sum += std::max(cost.flops / kFlopsASecond, cost.bytes / kBytesASecond);
    }
    return sum;
}

}  // namespace ds::passes
