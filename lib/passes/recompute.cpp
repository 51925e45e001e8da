// Recomputation (Chen et al. 2016, arXiv 1604.06174): instead of keeping a forward value until its backward use, the nodes that made it run
// again just before that use. Level 1 does so for cheap ops; level 2 for everything between the boundaries of blocks, which the models
// mark. With recompute_blocks the first blocks have level 2 whatever the others have: it is their values that are kept longest.
#include <map>

#include "ir/op.h"
#include "passes/pass.h"

namespace ds::passes {
namespace {

class Recomputer {
public:
    Recomputer(Graph& graph, int level, int whole_blocks) : graph_(graph), level_(level), made_(producers(graph)) {
        int block = 0;
        for (const Node& node : graph.nodes) {
            whole_.push_back(block < whole_blocks);
            for (const ValueId id : node.out) block += graph.value(id).boundary != 0;
        }
    }

    void run() {
        std::vector<Node> nodes = graph_.nodes;
        for (Node& node : nodes) {
            if (node.backward)
                for (ValueId& id : node.in) id = again(id);
            out_.push_back(std::move(node));
        }
        graph_.nodes = std::move(out_);
    }

private:
    bool keeps(ValueId id) const {
        if (id == kNone || graph_.value(id).boundary) return true;
        const int maker = made_[static_cast<size_t>(id)];
        if (maker < 0) return true;
        const Node& node = graph_.nodes[static_cast<size_t>(maker)];
        if (node.op->name == "moving_range") return true;  // by then the range has moved on
        if (node.backward || id == graph_.loss || node.op->name.find("cross_entropy") != std::string_view::npos) return true;
        return level_ < 2 && !whole_[static_cast<size_t>(maker)] && !(level_ == 1 && (node.op->cheap || node.op->view));
    }

    // The value to use in the backward pass instead of `id`; appends the nodes that make it.
    ValueId again(ValueId id) {
        if (keeps(id)) return id;
        if (const auto known = copies_.find(id); known != copies_.end()) return known->second;
        Node node = graph_.nodes[static_cast<size_t>(made_[static_cast<size_t>(id)])];
        for (ValueId& in : node.in) in = again(in);
        node.backward = node.recomputed = true;
        for (ValueId& out : node.out) {
            Value copy = graph_.value(out);
            copy.name += ".again";
            const ValueId fresh = graph_.add_value(std::move(copy));
            copies_[out] = fresh;
            out = fresh;
        }
        out_.push_back(std::move(node));
        return copies_[id];
    }

    Graph& graph_;
    const int level_;
    const std::vector<int> made_;
    std::vector<bool> whole_;  // by node: recomputed with its block
    std::map<ValueId, ValueId> copies_;
    std::vector<Node> out_;
};

}  // namespace

Status recompute(Graph& graph, const PassOptions& options) {
    if (options.train && (options.recompute > 0 || options.recompute_blocks > 0))
        Recomputer(graph, options.recompute, options.recompute_blocks).run();
    return ok();
}

}  // namespace ds::passes
