#include "passes/block_route.h"

#include <algorithm>
#include <map>

#include "ir/builder.h"
#include "passes/pass.h"

namespace ds {
namespace {

bool is_norm(const Node& node) { return node.attrs.type() == attrs_type<Norm>() && node.in.size() <= 3; }

class BlockRouter {
public:
    BlockRouter(Graph& graph, const BlockRoute& routing) : graph_(graph), routing_(routing), b_(graph), made_(producers(graph)) {
        for (const Node& node : graph.nodes)
            if (graph.value(node.out[0]).boundary) ends_.push_back(node.out[0]);
    }

    Status run() {
        DS_CHECK(find_branches());
        std::vector<Node> nodes = std::move(graph_.nodes);
        graph_.nodes.clear();
        int64_t block = -1;  // before the first boundary
        for (Node& node : nodes) {
            const ValueId result = node.out[0];
            const bool ends = std::find(ends_.begin(), ends_.end(), result) != ends_.end();
            if (by_tokens(block)) DS_CHECK(emit_for_fewer(node, block));
            emit(std::move(
                node));  // also there: later blocks may read what it makes for all tokens (angles); what nobody reads goes in the end
            if (!ends) continue;
            if (block >= 0) finish(block, result);
            ++block;
            if (by_tokens(block)) begin_fewer(block, now(result));
        }
        for (const auto& [from, to] : now_) replace_uses(graph_, from, to);
        DS_CHECK(b_.status());
        return find_pass("sweep")->run(graph_, {});
    }

private:
    int64_t blocks() const { return static_cast<int64_t>(ends_.size()) - 1; }
    bool skips(int64_t block) const {
        return block >= 0 && static_cast<size_t>(block) < routing_.skipped.size() && routing_.skipped[static_cast<size_t>(block)];
    }
    bool by_tokens(int64_t block) const {
        return !skips(block) && block < blocks() && std::binary_search(routing_.by_tokens.begin(), routing_.by_tokens.end(), block);
    }
    ValueId now(ValueId id) const {
        const auto found = now_.find(id);
        return found == now_.end() ? id : found->second;
    }

    // Of every kept block, the summands beside its input.
    Status find_branches() {
        if (routing_.skipped.empty()) return ok();
        for (int64_t i = 0; i < blocks(); ++i) {
            if (skips(i)) continue;
            const ValueId first = ends_[static_cast<size_t>(i)];
            ValueId v = ends_[static_cast<size_t>(i) + 1];
            while (v != first) {
                if (!leads_to(v, first))
                    return fail(Code::E_UNSUPPORTED, "progressive_layer_drop: block {} of this model does not add to its input", i);
                const int maker = made_[static_cast<size_t>(v)];
                const Node& node = graph_.nodes[static_cast<size_t>(maker)];
                size_t along = 0;
                if (node.op->name == "add") {
                    along = leads_to(node.in[0], first) ? 0 : 1;
                    scaled_.insert({node.out[0], {1 - along, i}});
                }
                v = node.in[along];
            }
        }
        return ok();
    }
    // Only additions and norms lie between.
    bool leads_to(ValueId v, ValueId first) const {
        if (v == first) return true;
        const int maker = made_[static_cast<size_t>(v)];
        if (maker < 0) return false;
        const Node& node = graph_.nodes[static_cast<size_t>(maker)];
        if (node.op->name == "add") return leads_to(node.in[0], first) || leads_to(node.in[1], first);
        return is_norm(node) && leads_to(node.in[0], first);
    }

    void emit(Node node) {
        for (ValueId& id : node.in) id = now(id);
        scale_branch(node.out[0], node.in);
        graph_.nodes.push_back(std::move(node));
    }
    void scale_branch(ValueId sum, std::vector<ValueId>& in) {
        const auto found = scaled_.find(sum);
        if (found == scaled_.end()) return;
        const auto [operand, block] = found->second;
        const std::string name = block_operand(block, "scale");
        const ValueId known = graph_.find(name);
        in[operand] = b_.mul(in[operand], known != kNone ? known : b_.input(name, DType::f32, {1}));
    }

    void finish(int64_t block, ValueId result) {
        const ValueId input = now(ends_[static_cast<size_t>(block)]);
        if (skips(block)) now_[result] = input;
        if (!by_tokens(block)) return;
        const ValueId both = b_.call("concat", {input, fewer_.at(result)}, Axis{0});
        const ValueId merged =
            b_.call("embedding", {both, b_.input(block_operand(block, "merge"), DType::i32, {routing_.tokens})}, {}, "merged");
        if (merged != kNone) graph_.value(merged).boundary = graph_.value(result).boundary;
        now_[result] = merged;
        fewer_.clear();
    }

    void begin_fewer(int64_t block, ValueId input) {
        kept_ = b_.input(block_operand(block, "kept"), DType::i32, {routing_.kept});
        fewer_.clear();
        fewer_[ends_[static_cast<size_t>(block)]] = b_.call("embedding", {input, kept_}, {}, "kept");
    }

    // What the block reads from outside of it, for the tokens that it sees.
    ValueId outside(ValueId id, int64_t block) {
        if (id == kNone) return id;
        const Value& v = graph_.value(id);
        const bool tokens = !v.type.shape.empty() && v.type.shape[0] == routing_.tokens;
        if (v.kind == Kind::input && (v.name == "segments" || tokens)) {
            Shape shape = v.type.shape;
            if (v.name != "segments") shape[0] = routing_.kept;
            const std::string name = block_operand(block, v.name);
            const ValueId known = graph_.find(name);
            return known != kNone ? known : b_.input(name, v.type.dtype, shape);
        }
        if (v.kind != Kind::computed || !tokens) return now(id);
        return b_.call("embedding", {now(id), kept_});
    }

    Status emit_for_fewer(const Node& node, int64_t block) {
        std::vector<ValueId> in;
        for (const ValueId id : node.in) {
            const auto known = fewer_.find(id);
            if (known == fewer_.end() && id != kNone) fewer_[id] = outside(id, block);
            in.push_back(id == kNone ? kNone : fewer_.at(id));
        }
        scale_branch(node.out[0], in);
        Attrs attrs = node.attrs;
        if (attrs.type() == attrs_type<Reshape>()) {
            Reshape reshape = attrs.as<Reshape>();
            if (int64_t& rows = reshape.shape.front(); rows > 0 && rows % routing_.tokens == 0)
                rows = rows / routing_.tokens * routing_.kept;
            attrs = reshape;
        }
        auto made = b_.try_call(*node.op, in, attrs, graph_.value(node.out[0]).name);
        if (!made.ok())
            return fail(Code::E_UNSUPPORTED, "random_ltd: block {} of this model can't do with fewer tokens: {}", block,
                        made.status().message());
        for (size_t i = 0; i < node.out.size(); ++i) fewer_[node.out[i]] = (*made)[i];
        return ok();
    }

    Graph& graph_;
    const BlockRoute& routing_;
    Builder b_;
    const std::vector<int> made_;
    std::vector<ValueId> ends_;                             // the boundaries, in order
    std::map<ValueId, std::pair<size_t, int64_t>> scaled_;  // sums within kept blocks: the operand that is scaled, and whose
    std::map<ValueId, ValueId> now_;                        // what stands for a value outside of blocks that see fewer tokens
    std::map<ValueId, ValueId> fewer_;                      // and inside the current one
    ValueId kept_ = kNone;
};

}  // namespace

int64_t count_blocks(const Graph& graph) {
    return std::max<int64_t>(0, std::count_if(graph.nodes.begin(), graph.nodes.end(), [&](const Node& node) {
                                    return graph.value(node.out[0]).boundary != 0;
                                }) - 1);
}

Status route_blocks(Graph& graph, const BlockRoute& routing) { return routing.any() ? BlockRouter(graph, routing).run() : ok(); }

}  // namespace ds
