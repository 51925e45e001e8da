// Mixed precision, as autocast has it: matrix products and what feeds them run in bf16 or fp16, everything else stays as wide as its
// operands. Weights that only feed low products are read from their shadows, which the optimizer refreshes; norms whose result only feeds
// low products write it low at once.
#include <map>

#include "ir/builder.h"
#include "passes/cache.h"
#include "passes/pass.h"

namespace ds::passes {
namespace {

class Lowering {
public:
    Lowering(Graph& graph, const PassOptions& options) : graph_(graph), options_(options) {}

    Status run() {
        std::vector<Node> nodes = std::move(graph_.nodes);
        graph_.nodes.clear();
        for (Node& node : nodes) {
            const DType type = node.op->low_inputs ? type_for(node) : DType::f32;
            for (size_t i = 0; i < node.in.size(); ++i) {
                ValueId& id = node.in[i];
                if (id == kNone || !is_float(graph_.type(id).dtype)) continue;
                if (static_cast<int>(i) < node.op->low_inputs) id = in_type(id, type);
            }
            if (node.op->name == "concat" && !alike(node.in))
                for (ValueId& id : node.in) id = in_type(id, DType::f32);
            DS_TRY(const auto types, infer(*node.op, node.attrs, graph_.types(node.in)));
            for (size_t i = 0; i < types.size(); ++i) graph_.value(node.out[i]).type = types[i];
            graph_.nodes.push_back(std::move(node));
        }
        for (Crossing& c : graph_.sent) c.value = as_it_was(c.value);
        fold_into_norms();
        return ok();
    }

private:
    bool alike(const std::vector<ValueId>& ids) const {
        return std::all_of(ids.begin(), ids.end(), [&](ValueId id) { return graph_.type(id).dtype == graph_.type(ids[0]).dtype; });
    }
    // Stages exchange values in the type that they have without mixed precision.
    ValueId as_it_was(ValueId id) {
        if (!is_float(graph_.type(id).dtype) || graph_.type(id).dtype == DType::f32) return id;
        Builder b(graph_);
        return b.cast(id, DType::f32);
    }

    DType type_for(const Node& node) const {
        for (const PrecisionRule& rule : options_.precision_rules) {
            if (glob_match(rule.pattern, node.op->name == "sequence_attention" ? "attention" : node.op->name)) return rule.dtype;
            for (const ValueId id : node.in) {
                if (id == kNone) continue;
                const Value& weight = weight_of(graph_, id);
                if (weight.kind == Kind::param && glob_match(rule.pattern, weight.name)) return rule.dtype;
            }
        }
        return options_.precision;
    }

    ValueId in_type(ValueId id, DType type) {
        if (graph_.type(id).dtype == type) return id;
        const auto known = casts_.find({id, type});
        if (known != casts_.end()) return known->second;
        ValueId made;
        if (const Value& v = graph_.value(id); v.kind == Kind::param) {
            made = graph_.add_value({.name = v.name + "." + std::string(name_of(type)),
                                     .type = {type, v.type.shape},
                                     .kind = Kind::shadow,
                                     .of = id,
                                     .trainable = v.trainable});
        } else if (const Node* replicate = replicate_of(graph_, id);
                   replicate && graph_.value(replicate->in[0]).kind == Kind::param) {  // the shadow is handed on instead
            const Attrs group = replicate->attrs;
            Builder b(graph_);
            made = b.call("replicate", {in_type(replicate->in[0], type)}, group);
        } else {
            Builder b(graph_);
            made = b.cast(id, type);
        }
        return casts_[{id, type}] = made;
    }

    // A norm whose y is read by casts to one type only: y gets that type.
    void fold_into_norms() {
        std::map<ValueId, std::vector<const Node*>> readers;
        for (const Node& node : graph_.nodes)
            for (const ValueId id : node.in) readers[id].push_back(&node);
        for (const ValueId id : roots(graph_)) readers[id].push_back(nullptr);
        std::map<ValueId, ValueId> folded;
        for (Node& norm : graph_.nodes) {
            if (norm.attrs.type() != attrs_type<Norm>() || readers[norm.out[0]].empty()) continue;
            const Node* first = readers[norm.out[0]].front();
            bool all_casts = true;
            for (const Node* reader : readers[norm.out[0]])
                all_casts &= reader && reader->op->name == "cast" && reader->attrs.as<Cast>().to == first->attrs.as<Cast>().to;
            if (!all_casts) continue;
            Norm attrs = norm.attrs.as<Norm>();
            attrs.out = first->attrs.as<Cast>().to;
            norm.attrs = attrs;
            graph_.value(norm.out[0]).type.dtype = attrs.out;
            for (const Node* reader : readers[norm.out[0]]) folded[reader->out[0]] = norm.out[0];
        }
        std::erase_if(graph_.nodes, [&](const Node& n) { return folded.count(n.out[0]) > 0; });
        for (const auto& [cast, y] : folded) replace_uses(graph_, cast, y);
    }

    Graph& graph_;
    const PassOptions& options_;
    std::map<std::pair<ValueId, DType>, ValueId> casts_;
};

}  // namespace

Status precision(Graph& graph, const PassOptions& options) {
    if (options.precision == DType::f32 && options.precision_rules.empty()) return ok();
    return Lowering(graph, options).run();
}

}  // namespace ds::passes
