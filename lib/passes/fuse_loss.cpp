// cross_entropy(matmul(x, weight^T) + bias, labels)  becomes  linear_cross_entropy(x, weight, bias, labels)  when nothing else needs the
// logits, so that they never exist as a whole.
#include "ir/builder.h"
#include "passes/pass.h"

namespace ds::passes {

Status fuse_loss(Graph& graph, const PassOptions& options) {
    const auto uses = use_counts(graph);
    const auto made = producers(graph);
    for (Node& loss : graph.nodes) {
        if (loss.op->name != "cross_entropy") continue;
        const ValueId logits = loss.in[0];
        const int index = made[static_cast<size_t>(logits)];
        if (index < 0 || uses[static_cast<size_t>(logits)] != 1) continue;
        const Node& linear = graph.nodes[static_cast<size_t>(index)];
        if (linear.op->name != "matmul" || linear.in.size() > 3) continue;
        const auto& attrs = linear.attrs.as<Matmul>();
        if (attrs.transpose_a || !attrs.transpose_b || graph.type(linear.in[0]).shape.size() != 2 ||
            graph.type(linear.in[1]).shape.size() != 2)
            continue;
        // Small heads are cheaper with their logits: the gradient computes them a second time.
        if (graph.type(linear.in[1]).shape[0] < 512) continue;
        if (!options.train && graph.loss == kNone) continue;
        loss.op = find_op("linear_cross_entropy");
        loss.in = {linear.in[0], linear.in[1], linear.in.size() > 2 ? linear.in[2] : kNone, loss.in[1]};
    }
    std::vector<Node> kept;
    const auto still_used = use_counts(graph);
    for (Node& node : graph.nodes)
        if (still_used[static_cast<size_t>(node.out[0])] > 0 || node.op->name != "matmul") kept.push_back(std::move(node));
    graph.nodes = std::move(kept);
    return ok();
}

}  // namespace ds::passes
