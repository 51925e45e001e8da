// Block-sparse attention: attention within one stream of tokens sees only the blocks of places that a layout names. The layout is an
// operand, "sparse_layout", as large as the longest row has blocks; the engine fills it in (config/sparse_layout.h), and kernels skip what
// it hides.
#include "ir/builder.h"
#include "passes/pass.h"

namespace ds::passes {

Status sparse_attention(Graph& graph, const PassOptions& options) {
    if (!options.sparse || options.sparse->blocks == 0) return ok();
    Builder b(graph);
    const auto operand = [&](const std::string& name, DType dtype, const Shape& shape) {
        const ValueId known = graph.find(name);
        return known != kNone ? known : b.input(name, dtype, shape);
    };
    for (Node& node : graph.nodes) {
        if (node.op->name != "attention") continue;
        node.in.resize(11, kNone);
        if (node.in[6] != kNone || node.in[9] != kNone)
            return fail(Code::E_UNSUPPORTED,
                        "sparse_attention: attention between two streams or with a relative bias has no block-sparse form here");
        Attention attrs = node.attrs.as<Attention>();
        const int64_t heads = graph.type(node.in[0]).shape.size() == 4 ? graph.type(node.in[0]).shape[2] : attrs.heads;
        attrs.block = options.sparse->block;
        node.attrs = attrs;
        if (node.in[3] != kNone && node.in[4] == kNone) node.in[4] = operand("places", DType::i32, {graph.type(node.in[0]).shape[0]});
        node.in[10] =
            operand("sparse_layout", DType::u8, {options.sparse->per_head ? heads : 1, options.sparse->blocks, options.sparse->blocks});
        if (graph.type(node.in[10]).shape[0] != (options.sparse->per_head ? heads : 1))
            return fail(Code::E_UNSUPPORTED, "sparse_attention: layers with different numbers of heads");
    }
    return b.status();
}

}  // namespace ds::passes
