#include "passes/cache.h"

#include "ir/builder.h"

namespace ds {
namespace {

class CacheMaker {
public:
    CacheMaker(Graph& graph, const CacheShape& shape, DType dtype)
        : graph_(graph), shape_(shape), dtype_(dtype), b_(graph), source_(graph.find("source.segments")) {}

    Status run() {
        for (Node& node : graph_.nodes) {
            if (node.op->name != "attention") continue;
            const Operands in{node.in};
            if (source_ != kNone && in[kSegments] == source_) continue;  // the encoder's own, which runs once
            const bool crosses = in[kKeySegments] != kNone,
                       plain = in[kSegments] != kNone && in[kKeyMask] == kNone && in[kFirstTokens] == kNone && in[kLayout] == kNone;
            if (!plain || (crosses ? in[kKeySegments] != source_ : !node.attrs.as<Attention>().causal))
                return fail(Code::E_UNSUPPORTED,
                            "a cache of keys and values is built for causal attention over packed rows without a mask, which {} is not",
                            graph_.value(node.out[0]).name);
            node = crosses ? across(node, in) : within(node, in);
        }
        return b_.status();
    }

private:
    enum { kSegments = 3, kKeyMask = 5, kKeySegments = 6, kFirstTokens = 8, kBias = 9, kLayout = 10 };  // operands of attention
    struct Operands {
        std::vector<ValueId> list;
        ValueId operator[](size_t i) const { return i < list.size() ? list[i] : kNone; }
    };

    Node within(const Node& node, const Operands& in) {
        const int64_t sequences = graph_.type(in[kSegments]).shape[0] - 1;
        if (table_ == kNone) table_ = b_.input("table", DType::i32, {sequences, shape_.capacity});
        const bool counts = !shape_.fresh || in[kBias] != kNone;  // the biased kernel looks into the cache for prompts too
        if (counts && lengths_ == kNone) lengths_ = b_.input("lengths", DType::i32, {sequences});
        const auto [keys, values] = memory(node, in, shape_.pool);
        return cached(node, {in[0], in[1], in[2], keys, values, table_, counts ? lengths_ : kNone, in[kSegments], kNone, in[kBias]});
    }

    Node across(const Node& node, const Operands& in) {
        const int64_t sequences = graph_.type(in[kSegments]).shape[0] - 1;
        if (source_table_ == kNone) source_table_ = b_.input("source_table", DType::i32, {sequences, shape_.source_capacity});
        const auto [keys, values] = memory(node, in, shape_.source_pool);
        if (shape_.fresh) return cached(node, {in[0], in[1], in[2], keys, values, source_table_, kNone, in[kSegments], in[kKeySegments]});
        if (source_lengths_ == kNone) source_lengths_ = b_.input("source_lengths", DType::i32, {sequences});
        return cached(node, {in[0], kNone, kNone, keys, values, source_table_, source_lengths_, in[kSegments]});
    }

    std::pair<ValueId, ValueId> memory(const Node& node, const Operands& in, int64_t pool) {
        const auto& attrs = node.attrs.as<Attention>();
        const int64_t heads = attrs.kv_heads ? attrs.kv_heads : attrs.heads;
        const Type held{dtype_, {heads, pool, graph_.type(in[1]).shape[1] / heads}};
        const auto one = [&](const char* what) {
            return graph_.add_value({.name = fmt::format("cache.{}.{}", count_, what), .type = held, .kind = Kind::shadow});
        };
        const ValueId keys = one("keys"), values = one("values");
        ++count_;
        return {keys, values};
    }

    static Node cached(const Node& node, std::vector<ValueId> operands) {
        while (operands.back() == kNone) operands.pop_back();
        Attention attrs = node.attrs.as<Attention>();
        attrs.dropout = 0;
        return {find_op("attention_cached"), attrs, std::move(operands), {node.out[0]}};
    }

    Graph& graph_;
    const CacheShape& shape_;
    const DType dtype_;
    Builder b_;
    const ValueId source_;
    ValueId table_ = kNone, lengths_ = kNone, source_table_ = kNone, source_lengths_ = kNone;
    int count_ = 0;
};

}  // namespace

Status add_cache(Graph& graph, const CacheShape& shape, DType dtype) { return CacheMaker(graph, shape, dtype).run(); }

}  // namespace ds
