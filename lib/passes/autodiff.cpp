// Reverse-mode differentiation: walks the forward nodes backwards and asks each op's gradient rule, for the operands through which a
// trained weight is reached and no others. So nothing is computed or kept below the lowest trained weight.
#include <map>
#include <set>

#include "ir/builder.h"
#include "passes/pass.h"

namespace ds::passes {
namespace {

class Differentiator {
public:
    Differentiator(Graph& graph, const PassOptions& options) : graph_(graph), options_(options), b_(graph) {}

    Status run() {
        mark_needed();
        b_.mark_backward(true);
        if (options_.accumulate && !(options_.zero && !options_.zero->buckets.empty()))  // there the sums over ranks accumulate
            for (const ValueId param : params())
                gradient_[param] = graph_.add_value(
                    {.name = graph_.value(param).name + ".grad", .type = graph_.type(param), .kind = Kind::grad, .of = param});
        DS_CHECK(seed());
        const size_t forward_nodes = graph_.nodes.size();
        for (size_t i = forward_nodes; i-- > 0;) DS_CHECK(visit(Node(graph_.nodes[i])));
        give_back();
        finish();
        return b_.status();
    }

private:
    std::vector<ValueId> params() const {
        std::vector<ValueId> list;
        for (const ValueId id : graph_.inputs)
            if (graph_.value(id).kind == Kind::param && graph_.value(id).trainable) list.push_back(id);
        return list;
    }

    void mark_needed() {
        needed_.assign(graph_.values.size(), false);
        for (const ValueId id : graph_.inputs) {
            const Value& v = graph_.value(id);
            needed_[static_cast<size_t>(id)] = v.trainable && (v.kind == Kind::param || v.kind == Kind::shadow);
        }
        for (const Crossing& c : graph_.received) needed_[static_cast<size_t>(c.value)] = c.differentiable;
        for (const Node& node : graph_.nodes) {
            bool any = false;
            for (const ValueId id : node.in) any |= id != kNone && needed_[static_cast<size_t>(id)];
            for (const ValueId id : node.out) needed_[static_cast<size_t>(id)] = any && is_float(graph_.type(id).dtype);
        }
    }

    Status seed() {
        for (const std::string& name : options_.seeds) {
            ValueId target = name == "loss" ? graph_.loss : kNone;
            for (const auto& [output, id] : graph_.outputs)
                if (output == name && name != "loss") target = id;
            if (target == kNone && options_.stage) continue;  // another stage has it
            if (target == kNone) return fail(Code::E_INVALID_ARGUMENT, "there is no output \"{}\" to start the backward pass from", name);
            const ValueId input = b_.input(name + ".grad", DType::f32, graph_.type(target).shape);
            if (needed_[static_cast<size_t>(target)]) accumulate(target, b_.cast(input, graph_.type(target).dtype));
        }
        for (Crossing& c : graph_.sent) {
            if (!c.differentiable) continue;
            c.gradient = b_.input(graph_.value(c.value).name + ".grad", graph_.type(c.value).dtype, graph_.type(c.value).shape);
            accumulate(c.value, c.gradient);
        }
        return ok();
    }

    // A shadow's gradient is its param's.
    ValueId owner(ValueId id) const { return graph_.value(id).kind == Kind::shadow ? graph_.value(id).of : id; }

    void accumulate(ValueId id, ValueId g) {
        if (g == kNone) return;
        const auto [known, fresh] = gradient_.emplace(owner(id), g);
        if (!fresh) known->second = b_.add(known->second, g);
    }

    Status visit(const Node& node) {
        std::vector<ValueId> dy;
        bool any = false;
        for (const ValueId id : node.out) {
            const auto found = gradient_.find(id);
            dy.push_back(found == gradient_.end() ? kNone : found->second);
            any |= dy.back() != kNone;
        }
        GradContext context{b_, node, std::move(dy), {}};
        bool wanted = false;
        for (const ValueId id : node.in) {
            context.wants.push_back(id != kNone && needed_[static_cast<size_t>(id)]);
            wanted |= context.wants.back();
        }
        if (!any || !wanted) return ok();
        if (!node.op->gradient)
            return fail(Code::E_UNSUPPORTED, "{}: this op has no gradient, but a trained weight is reached only through it", node.op->name);
        context.wants.resize(std::max(context.wants.size(), node.op->inputs.size()), false);
        const Grads grads = node.op->gradient(context);
        DS_CHECK(b_.status());
        for (size_t i = 0; i < node.in.size() && i < grads.size(); ++i)
            if (context.wants[i]) accumulate(node.in[i], grads[i]);
        return ok();
    }

    // What the stage before waits for, if only for zeros.
    void give_back() {
        for (Crossing& c : graph_.received) {
            if (!c.differentiable) continue;
            const auto found = gradient_.find(c.value);
            c.gradient = found != gradient_.end() ? found->second : b_.call("fill", {}, Fill{.shape = graph_.type(c.value).shape});
        }
    }

    // Each gradient gets memory of its own: the buffer where the parameter's gradient lives.
    void finish() {
        std::set<ValueId> taken;
        for (const ValueId param : params()) {
            ValueId g = gradient_.count(param) ? gradient_[param] : kNone;
            if (g == kNone) g = b_.call("fill", {}, Fill{.shape = graph_.type(param).shape});  // the loss does not depend on it
            if (graph_.value(g).kind == Kind::grad) continue;
            if (const ValueId memory = behind_views(g); graph_.value(memory).kind != Kind::computed || !taken.insert(memory).second)
                g = b_.call("copy", {g});
            graph_.grads.emplace_back(param, g);
        }
    }

    ValueId behind_views(ValueId id) const {
        for (auto node = graph_.nodes.rbegin(); node != graph_.nodes.rend(); ++node)
            if (node->out[0] == id && node->op->view) id = node->in[0];
        return id;
    }

    Graph& graph_;
    const PassOptions& options_;
    Builder b_;
    std::vector<bool> needed_;
    std::map<ValueId, ValueId> gradient_;
};

}  // namespace

Status autodiff(Graph& graph, const PassOptions& options) {
    if (!options.train || options.seeds.empty()) return ok();
    return Differentiator(graph, options).run();
}

}  // namespace ds::passes
