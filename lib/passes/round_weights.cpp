// A low copy of a weight that is only read by kernels which round what they read need not be: they read the weight itself, and the same
// numbers. That saves the copy's memory and its part in the optimizer's sweep.
#include "ir/op.h"
#include "passes/cache.h"
#include "passes/pass.h"

namespace ds::passes {

Status round_weights(Graph& graph, const PassOptions& options) {
    if (!options.rounding) return ok();
    std::set<ValueId> copied;
    for (const ValueId id : roots(graph)) copied.insert(id);
    for (const Node& node : graph.nodes)
        if (!options.rounding->contains(node.op->name)) copied.insert(node.in.begin(), node.in.end());
    for (const ValueId id : graph.inputs)
        if (Value& v = graph.value(id); v.kind == Kind::shadow && !is_cache(v) && v.type.dtype == DType::bf16 && !copied.contains(id))
            if (!options.coded || !options.coded->contains(weight_of(graph, id).name)) v.kind = Kind::rounded;
    return ok();
}

}  // namespace ds::passes
