// Ulysses (Jacobs et al. 2023, arXiv 2309.14509): attention of pieces of a stream becomes an exchange of tokens for heads, attention of
// some heads over all tokens, and the exchange back. Each exchange's gradient is the opposite one. Key-value heads are dealt out with their
// queries; where they are fewer than ranks, every rank gathers them all and takes those that its queries look at.
#include "base/mesh.h"
#include "ir/builder.h"
#include "ops/attrs_parallel.h"
#include "passes/pass.h"

namespace ds::passes {
namespace {

class Spreader {
public:
    Spreader(Builder& b, const Node& node)
        : b_(b),
          node_(node),
          a_(node.attrs.as<SequenceAttention>()),
          s_(a_.share),
          heads_(a_.of.heads),
          keys_(a_.of.kv_heads ? a_.of.kv_heads : heads_) {}

    ValueId run() {
        const bool with_keys = keys_ >= s_.ranks;
        const int64_t units = with_keys ? keys_ : heads_, each = heads_ / units;
        const Interval dealt = near_even(units, s_.rank, s_.ranks), mine{dealt.begin * each, dealt.end * each};
        Attention attrs = a_.of;
        attrs.heads = mine.size();
        attrs.kv_heads = dealt.size();
        attrs.all_heads = a_.of.all_heads ? a_.of.all_heads : heads_;
        attrs.first_head = a_.of.first_head + mine.begin;
        const ValueId q = to_heads(node_.in[0], units);
        ValueId k = kNone, v = kNone;
        if (with_keys) k = to_heads(node_.in[1], units), v = to_heads(node_.in[2], units);
        else k = keys_for(node_.in[1], mine, attrs.kv_heads), v = keys_for(node_.in[2], mine, attrs.kv_heads);
        std::vector<ValueId> in{q, k, v};
        in.insert(in.end(), node_.in.begin() + 3, node_.in.end());
        const ValueId y = b_.call("attention", in, attrs);
        Recut back = recut(width(node_.in[0]), units);
        std::swap(back.dim, back.to_dim), std::swap(back.full, back.to_full), std::swap(back.period, back.to_period),
            std::swap(back.units, back.to_units);
        return b_.call("recut", {y}, back);
    }

private:
    int64_t width(ValueId id) const { return id == kNone ? 0 : b_.type(id).shape[1]; }
    Recut recut(int64_t columns, int64_t units) const {
        return {s_.group, s_.rank, s_.ranks, 0, s_.full, s_.period, s_.units, 1, columns, columns, units};
    }
    ValueId to_heads(ValueId x, int64_t units) { return b_.call("recut", {x}, recut(width(x), units)); }

    ValueId keys_for(ValueId x, Interval queries, int64_t& kv_heads) {
        Share all = s_;
        all.sum_gradient = true;
        const ValueId whole = b_.call("all_gather", {x}, all);
        const int64_t group = heads_ / keys_, size = width(x) / keys_, first = queries.begin / group, last = (queries.end - 1) / group;
        const auto columns = [&](int64_t begin, int64_t end) { return b_.call("slice", {whole}, Slice{-1, begin * size, end * size}); };
        if (first == last || (queries.begin % group == 0 && queries.end % group == 0)) {
            kv_heads = last - first + 1;
            return columns(first, last + 1);
        }
        std::vector<ValueId> each;  // groups are uneven here: a head of keys for each query head
        for (int64_t head = queries.begin; head < queries.end; ++head) each.push_back(columns(head / group, head / group + 1));
        kv_heads = queries.size();
        return b_.call("concat", each, ds::Axis{-1});
    }

    Builder& b_;
    const Node& node_;
    const SequenceAttention& a_;
    const Share& s_;
    const int64_t heads_, keys_;
};

}  // namespace

Status spread_attention(Graph& graph, const PassOptions&) {
    std::vector<Node> nodes = std::move(graph.nodes);
    graph.nodes.clear();
    std::map<ValueId, ValueId> renamed;
    for (Node& node : nodes) {
        for (ValueId& id : node.in)
            if (const auto found = renamed.find(id); found != renamed.end()) id = found->second;
        if (node.op->name != "sequence_attention" || node.attrs.as<SequenceAttention>().ring) {
            graph.nodes.push_back(std::move(node));
            continue;
        }
        Builder b(graph);
        renamed[node.out[0]] = Spreader(b, node).run();
        DS_CHECK(b.status());
    }
    for (const auto& [from, to] : renamed) replace_uses(graph, from, to);
    return ok();
}

}  // namespace ds::passes
