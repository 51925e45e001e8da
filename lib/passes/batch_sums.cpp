// A sum over a rank's tokens that stands for the whole batch (batch_sum) becomes an exchange where other ranks hold other rows, and nothing
// where none do. Every rank then has a loss of the same sum, of which it stands for its share: the gradient is the sum of theirs.
#include <map>

#include "base/mesh.h"
#include "ir/op.h"
#include "passes/pass.h"

namespace ds::passes {

Status batch_sums(Graph& graph, const PassOptions& options) {
    std::map<ValueId, ValueId> same;
    std::vector<Node> kept;
    for (Node& node : graph.nodes) {
        for (ValueId& id : node.in)
            if (const auto found = same.find(id); found != same.end()) id = found->second;
        if (node.op->name == "batch_sum") {
            if (options.data_ranks == 1) {
                same[node.out[0]] = node.in[0];
                continue;
            }
            node.op = find_op("all_reduce");
            node.attrs = Exchange{static_cast<int64_t>(MeshAxis::data), true};
        }
        kept.push_back(std::move(node));
    }
    graph.nodes = std::move(kept);
    for (const auto& [from, to] : same) replace_uses(graph, from, to);
    return ok();
}

}  // namespace ds::passes
