// The backward pass in two parts (Qi et al. 2023, arXiv 2401.10241): the first makes the gradients of values, for which the stage before
// waits; the second makes the gradients of weights, for which nobody waits before the update, so a timetable can put it where the rank
// would be idle.
//
// To the second part go the nodes that make gradients of weights and nothing else, and cheap ones (casts, transposes, recomputed
// activations) that only those need.
#include <algorithm>

#include "ir/op.h"
#include "passes/pass.h"

namespace ds::passes {

Status split_weights(Graph& graph, const PassOptions& options) {
    if (!options.train || !options.split_weights) return ok();
    std::vector<bool> gradient(graph.values.size(), false), now(graph.values.size(), false);
    for (const auto& [param, grad] : graph.grads) gradient[static_cast<size_t>(grad)] = true;
    for (const ValueId id : roots(graph)) now[static_cast<size_t>(id)] = !gradient[static_cast<size_t>(id)];
    const auto uses = use_counts(graph);
    for (auto node = graph.nodes.rbegin(); node != graph.nodes.rend(); ++node) {
        if (!node->backward) continue;
        bool last = true, makes_gradient = false;
        for (const ValueId id : node->out) {
            const auto i = static_cast<size_t>(id);
            if (uses[i] == 0) continue;
            last &= !now[i];
            makes_gradient |= gradient[i];
        }
        node->weights = last && (makes_gradient || node->op->cheap || node->op->view);
        for (const ValueId id : node->in)
            if (id != kNone && !node->weights) now[static_cast<size_t>(id)] = true;
        if (!node->weights || !makes_gradient) continue;
        // What such a gradient is added to is one too.
        for (const auto& [out, in] : node->op->into)
            if (static_cast<size_t>(in) < node->in.size() && node->in[static_cast<size_t>(in)] != kNone)
                gradient[static_cast<size_t>(node->in[static_cast<size_t>(in)])] = true;
        if (node->op->name == "add")
            for (const ValueId id : node->in) gradient[static_cast<size_t>(id)] = true;
    }
    std::stable_partition(graph.nodes.begin(), graph.nodes.end(), [](const Node& node) { return !node.weights; });
    return ok();
}

}  // namespace ds::passes
