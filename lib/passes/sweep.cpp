// Nodes from whose results nothing that counts is computed go.
#include "ir/op.h"
#include "passes/pass.h"

namespace ds::passes {

Status sweep(Graph& graph, const PassOptions&) {
    std::vector<bool> live(graph.values.size(), false);
    for (const ValueId id : roots(graph)) live[static_cast<size_t>(id)] = true;
    std::vector<Node> kept;
    for (auto node = graph.nodes.rbegin(); node != graph.nodes.rend(); ++node) {
        bool needed = false;
        for (const ValueId id : node->out) needed |= live[static_cast<size_t>(id)];
        if (!needed) continue;
        for (const ValueId id : node->in)
            if (id != kNone) live[static_cast<size_t>(id)] = true;
        kept.push_back(std::move(*node));
    }
    graph.nodes.assign(std::make_move_iterator(kept.rbegin()), std::make_move_iterator(kept.rend()));
    return ok();
}

}  // namespace ds::passes
