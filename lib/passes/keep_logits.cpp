// linear_cross_entropy makes its logits twice, as there is no room to keep them between the forward and the backward pass. But there is:
// the weight's gradient [V, D] is memory that nobody uses before the backward pass writes it (in the first micro-batch of a step). For each
// word it has room for the logits of D tokens, and the gradient of a block of words needs no other logits than theirs.
#include "ir/op.h"
#include "passes/pass.h"

namespace ds::passes {
namespace {

class Keeper {
public:
    explicit Keeper(Graph& graph) : graph_(graph), uses_(use_counts(graph)), made_(producers(graph)) {}

    void run() {
        for (size_t i = 0; i < graph_.nodes.size(); ++i) {
            const Node& gradient = graph_.nodes[i];
            if (gradient.op->name != "linear_cross_entropy_grad" || gradient.recomputed || given(gradient, 6) || given(gradient, 8))
                continue;
            int maker = made_[at(gradient.in[5])];
            if (maker >= 0 && graph_.nodes[at(maker)].op->name == "vocabulary_merge")
                maker = made_[at(graph_.nodes[at(maker)].in[1])];  // of its own words' lse
            if (maker >= 0 && !graph_.nodes[at(maker)].recomputed && owns_its_gradient(gradient.out[1])) keep(at(maker), i);
        }
    }

private:
    static size_t at(int32_t index) { return static_cast<size_t>(index); }
    static bool given(const Node& node, size_t input) { return input < node.in.size() && node.in[input] != kNone; }

    // The value lies where a parameter's gradient lies: it is one, or others add to it where it is until it is one.
    bool owns_its_gradient(ValueId id) const {
        for (;;) {
            if (uses_[at(id)] != 1) return false;
            for (const auto& [param, grad] : graph_.grads)
                if (grad == id) return true;
            ValueId next = kNone;
            for (const Node& node : graph_.nodes)
                for (const auto& [out, in] : node.op->into)
                    if (given(node, at(in)) && node.in[at(in)] == id && graph_.type(node.out[at(out)]) == graph_.type(id))
                        next = node.out[at(out)];
            if (next == kNone) return false;
            id = next;
        }
    }

    void keep(size_t forward, size_t backward) {
        Node &loss = graph_.nodes[forward], &gradient = graph_.nodes[backward];
        if (loss.op->name != "linear_cross_entropy" || loss.out.size() != 2) return;
        auto attrs = loss.attrs.as<CrossEntropy>();
        attrs.keep = true;
        loss.attrs = attrs;
        loss.out.push_back(graph_.add_value({.name = "kept", .type = graph_.type(gradient.out[1])}));
        gradient.in.resize(9, kNone);
        gradient.in[8] = loss.out[2];
    }

    Graph& graph_;
    const std::vector<int> uses_;
    const std::vector<int> made_;
};

}  // namespace

Status keep_logits(Graph& graph, const PassOptions& options) {
    if (options.train) Keeper(graph).run();
    return ok();
}

}  // namespace ds::passes
