// Evaluation: dropout is the identity, also inside attention. In training, dropout with p = 0 is too.
#include <map>

#include "ir/op.h"
#include "passes/pass.h"

namespace ds::passes {

Status evaluate(Graph& graph, const PassOptions& options) {
    std::map<ValueId, ValueId> same;
    std::vector<Node> kept;
    for (Node& node : graph.nodes) {
        for (ValueId& id : node.in)
            if (const auto found = same.find(id); found != same.end()) id = found->second;
        if (node.op->name == "attention" && !options.train) {
            Attention attention = node.attrs.as<Attention>();
            attention.dropout = 0;
            node.attrs = attention;
        }
        if (node.op->name == "dropout" && (!options.train || node.attrs.as<Dropout>().p == 0)) {
            same[node.out[0]] = node.in[0];
            if (int32_t& boundary = graph.value(node.in[0]).boundary; !boundary) boundary = graph.value(node.out[0]).boundary;
        } else kept.push_back(std::move(node));
    }
    graph.nodes = std::move(kept);
    for (const auto& [from, to] : same) replace_uses(graph, from, to);
    return ok();
}

}  // namespace ds::passes
