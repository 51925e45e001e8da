#include "passes/cache.h"

#include "ir/builder.h"

namespace ds {

Status add_cache(Graph& graph, const CacheShape& shape, DType dtype) {
    Builder b(graph);
    ValueId table = kNone, lengths = kNone;
    int count = 0;
    for (Node& node : graph.nodes) {
        if (node.op->name != "attention") continue;
        const auto in = [&](size_t i) { return i < node.in.size() ? node.in[i] : kNone; };
        Attention attrs = node.attrs.as<Attention>();
        bool plain = attrs.causal && in(3) != kNone;
        for (size_t i = 5; i < node.in.size(); ++i) plain &= in(i) == kNone;
        if (!plain)
            return fail(Code::E_UNSUPPORTED, "a cache of keys and values is built for causal attention over packed rows without a mask, which {} is not", graph.value(node.out[0]).name);
        if (table == kNone) {
            const int64_t sequences = graph.type(in(3)).shape[0] - 1;
            table = b.input("table", DType::i32, {sequences, shape.capacity});
            if (!shape.fresh) lengths = b.input("lengths", DType::i32, {sequences});
        }
        const int64_t heads = attrs.kv_heads ? attrs.kv_heads : attrs.heads;
        const Type held{dtype, {heads, shape.pool, graph.type(in(1)).shape[1] / heads}};
        const auto memory = [&](const char* what) { return graph.add_value({.name = fmt::format("cache.{}.{}", count, what), .type = held, .kind = Kind::shadow}); };
        const ValueId keys = memory("keys"), values = memory("values");
        ++count;
        attrs.dropout = 0;
        node = {find_op("attention_cached"), attrs, {in(0), in(1), in(2), keys, values, table, lengths, in(3)}, {node.out[0]}};
    }
    return b.status();
}

}  // namespace ds
