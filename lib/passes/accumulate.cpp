// y = add(a, f(...)), where f can add to its output, becomes f(..., into = a): one sweep over memory less, and gradients of weights
// accumulate where they lie. In mixed precision a product that is added to the f32 residual stream is not rounded before.
#include "ir/op.h"
#include "ops/attrs_coded.h"
#include "ops/attrs_fp8.h"
#include "passes/pass.h"

namespace ds::passes {
namespace {

class Fuser {
public:
    explicit Fuser(Graph& graph) : graph_(graph), uses_(use_counts(graph)), made_(producers(graph)), gone_(graph.nodes.size(), false) {}

    void run() {
        for (size_t i = 0; i < graph_.nodes.size(); ++i) {
            const Node add = graph_.nodes[i];
            if (add.op->name != "add" || !(graph_.type(add.in[0]).shape == graph_.type(add.in[1]).shape)) continue;
            if (!fuse(i, add.in[0], add.in[1])) fuse(i, add.in[1], add.in[0]);
        }
        std::vector<Node> kept;
        for (size_t i = 0; i < graph_.nodes.size(); ++i)
            if (!gone_[i]) kept.push_back(std::move(graph_.nodes[i]));
        graph_.nodes = std::move(kept);
    }

private:
    bool fuse(size_t add_index, ValueId base, ValueId summand) {
        const int index = made_[static_cast<size_t>(summand)];
        if (index < 0 || gone_[static_cast<size_t>(index)] || uses_[static_cast<size_t>(summand)] != 1 || base == summand) return false;
        if (made_[static_cast<size_t>(base)] >= index) return false;  // the base does not exist yet when the summand is made
        Node& maker = graph_.nodes[static_cast<size_t>(index)];
        const ValueId sum = graph_.nodes[add_index].out[0];
        for (const auto& [out, in] : maker.op->into) {
            if (static_cast<size_t>(out) >= maker.out.size() || maker.out[static_cast<size_t>(out)] != summand) continue;
            if (static_cast<size_t>(in) < maker.in.size() && maker.in[static_cast<size_t>(in)] != kNone) return false;
            const DType type = graph_.type(sum).dtype;
            if (graph_.type(base).dtype != type) return false;
            if (graph_.type(summand).dtype != type && !gives<Matmul>(maker, type) && !gives<CodedMatmul>(maker, type) &&
                !gives<Int8Matmul>(maker, type) && !gives<Fp8Matmul>(maker, type))
                return false;
            maker.in.resize(std::max(maker.in.size(), static_cast<size_t>(in) + 1), kNone);
            maker.in[static_cast<size_t>(in)] = base;
            maker.out[static_cast<size_t>(out)] = sum;
            made_[static_cast<size_t>(sum)] = index;
            gone_[add_index] = true;
            return true;
        }
        return false;
    }

    // Makes a product whose attributes are A's give another type.
    template <class A>
    static bool gives(Node& product, DType type) {
        if (product.attrs.type() != attrs_type<A>()) return false;
        A attrs = product.attrs.as<A>();
        attrs.set_out = true;
        attrs.out = type;
        product.attrs = attrs;
        return true;
    }

    Graph& graph_;
    const std::vector<int> uses_;
    std::vector<int> made_;
    std::vector<bool> gone_;
};

}  // namespace

Status accumulate(Graph& graph, const PassOptions&) {
    Fuser(graph).run();
    return ok();
}

}  // namespace ds::passes
