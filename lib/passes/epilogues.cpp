// Where the backend has products that take GELU with them: gelu(matmul) becomes matmul_gelu, and the product that only a GELU's gradient
// reads becomes matmul_gelu_grad. The product that makes a weight's gradient takes the sum with it that makes the bias's. One sweep over
// memory less each time.
#include "ir/op.h"
#include "ops/attrs_epilogue.h"
#include "passes/pass.h"

namespace ds::passes {
namespace {

class Joiner {
public:
    explicit Joiner(Graph& graph) : graph_(graph), uses_(use_counts(graph)), made_(producers(graph)), gone_(graph.nodes.size(), false) {}

    void run() {
        for (size_t i = 0; i < graph_.nodes.size(); ++i) {
            Node& node = graph_.nodes[i];
            if (node.op->name == "sum") add_up(i);
            const bool forward = node.op->name == "gelu", backward = node.op->name == "gelu_grad";
            if ((!forward && !backward) || !node.attrs.as<Gelu>().tanh) continue;
            const int maker = made_[static_cast<size_t>(node.in[0])];
            if (maker < 0 || !fits(graph_.nodes[static_cast<size_t>(maker)], node)) continue;
            if (forward) take(graph_.nodes[static_cast<size_t>(maker)], i);
            else if (uses_[static_cast<size_t>(node.in[0])] == 1) follow(static_cast<size_t>(maker), node);
        }
        std::vector<Node> kept;
        for (size_t i = 0; i < graph_.nodes.size(); ++i)
            if (!gone_[i]) kept.push_back(std::move(graph_.nodes[i]));
        graph_.nodes = std::move(kept);
    }

private:
    static ValueId operand(const Node& node, size_t i) { return i < node.in.size() ? node.in[i] : kNone; }

    // A plain product that runs in the same part of the plan; what comes out has the product's type.
    bool fits(const Node& product, const Node& node) const {
        if (product.op->name != "matmul" || operand(product, 3) != kNone || product.backward != node.backward ||
            product.weights != node.weights)
            return false;
        return graph_.type(product.in[1]).shape.size() == 2 && graph_.type(node.out[0]) == graph_.type(product.out[0]);
    }

    // The activation is made with the product, earlier than before.
    void take(Node& product, size_t gelu) {
        Node& node = graph_.nodes[gelu];
        product.op = find_op("matmul_gelu");
        product.in.resize(3, kNone);
        while (product.in.back() == kNone) product.in.pop_back();
        product.out.insert(product.out.begin(), node.out[0]);
        gone_[gelu] = true;
    }

    // The product is made where the gradient was, later than before.
    void follow(size_t maker, Node& node) {
        const Node& product = graph_.nodes[maker];
        if (operand(product, 2) != kNone) return;
        node.in = {product.in[0], product.in[1], node.in[1]};
        node.attrs = product.attrs;
        node.op = find_op("matmul_gelu_grad");
        gone_[maker] = true;
    }

    // The sum is made with the product, earlier than before.
    void add_up(size_t sum) {
        const Node& node = graph_.nodes[sum];
        const ValueId x = node.in[0], into = operand(node, 1);
        const auto& reduce = node.attrs.as<Reduce>();
        if (graph_.type(x).shape.size() != 2 || reduce.keep || reduce.axes != std::vector<int64_t>{0}) return;
        if (into != kNone && graph_.value(into).kind != Kind::grad) return;
        for (size_t i = 0; i < sum; ++i) {
            Node& product = graph_.nodes[i];
            if (gone_[i] || product.op->name != "matmul" || product.backward != node.backward || product.weights != node.weights ||
                operand(product, 2) != kNone)
                continue;
            const auto& m = product.attrs.as<Matmul>();
            const bool of_a = product.in[0] == x && m.transpose_a, of_b = product.in[1] == x && !m.transpose_b;
            if (of_a == of_b || graph_.type(product.in[0]).shape.size() != 2 || graph_.type(product.in[1]).shape.size() != 2) continue;
            product.attrs = MatmulSums{m.transpose_a, m.transpose_b, m.out, m.set_out, of_a};
            product.op = find_op("matmul_sums");
            product.in = {product.in[0], product.in[1], operand(product, 3), into};
            while (product.in.back() == kNone) product.in.pop_back();
            product.out.push_back(node.out[0]);
            gone_[sum] = true;
            return;
        }
    }

    Graph& graph_;
    const std::vector<int> uses_;
    std::vector<int> made_;
    std::vector<bool> gone_;
};

}  // namespace

Status epilogues(Graph& graph, const PassOptions& options) {
    if (options.epilogues) Joiner(graph).run();
    return ok();
}

}  // namespace ds::passes
