// Equal cheap nodes become one: the same op with the same attributes on the same operands.
#include <map>

#include "ir/op.h"
#include "passes/pass.h"

namespace ds::passes {

Status merge(Graph& graph, const PassOptions&) {
    std::map<std::string, std::vector<ValueId>> seen;
    std::map<ValueId, ValueId> same;
    std::vector<Node> kept;
    for (Node& node : graph.nodes) {
        for (ValueId& id : node.in)
            if (const auto found = same.find(id); found != same.end()) id = found->second;
        if (node.op->cheap) {
            std::string key = std::string(node.op->name) + node.attrs.text() + (node.backward ? "b" : "f");
            for (const ValueId id : node.in) key += fmt::format(" {}", id);
            const auto [found, fresh] = seen.emplace(std::move(key), node.out);
            if (!fresh) {
                for (size_t i = 0; i < node.out.size(); ++i) same[node.out[i]] = found->second[i];
                continue;
            }
        }
        kept.push_back(std::move(node));
    }
    graph.nodes = std::move(kept);
    for (const auto& [from, to] : same) replace_uses(graph, from, to);
    return ok();
}

}  // namespace ds::passes
