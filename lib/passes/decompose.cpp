// Ops that are only a name for simpler ones are replaced by them.
#include "ir/builder.h"
#include "passes/pass.h"

namespace ds::passes {

Status decompose(Graph& graph, const PassOptions&) {
    std::vector<Node> nodes = std::move(graph.nodes);
    graph.nodes.clear();
    std::vector<std::pair<ValueId, ValueId>> renamed;
    for (Node& node : nodes) {
        for (ValueId& id : node.in)
            for (const auto& [from, to] : renamed)
                if (id == from) id = to;
        if (!node.op->decompose) {
            graph.nodes.push_back(std::move(node));
            continue;
        }
        Builder b(graph);
        b.mark_backward(node.backward);
        const auto simpler = node.op->decompose(b, node);
        DS_CHECK(b.status());
        for (size_t i = 0; i < node.out.size(); ++i) renamed.emplace_back(node.out[i], simpler[i]);
    }
    for (const auto& [from, to] : renamed) replace_uses(graph, from, to);
    return ok();
}

}  // namespace ds::passes
