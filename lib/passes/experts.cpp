// How many tokens an expert takes, and expert parallelism: neighbouring data ranks hold near-even parts of the experts. Between the sorting
// of tokens and the weighted sums back, rows go to the rank of their expert, which multiplies those of the whole group by its experts'
// weights only, and come back. Other ops on such rows follow by shape.
#include <map>

#include "base/mesh.h"
#include "ir/builder.h"
#include "passes/pass.h"

namespace ds::passes {
namespace {

class Dealer {
public:
    Dealer(Graph& graph, const ExpertLayout& layout) : graph_(graph), layout_(layout), b_(graph) {}

    Status run() {
        std::vector<Node> nodes = std::move(graph_.nodes);
        graph_.nodes.clear();
        for (Node& node : nodes) DS_CHECK(visit(std::move(node)));
        return b_.status();
    }

private:
    struct Sorted {
        ExpertGroup group;
        ValueId ends = kNone, home = kNone;
    };  // home: rows before they leave

    Status visit(Node node) {
        const std::string_view op = node.op->name;
        if (op == "expert_rows") {
            const auto& routing = node.attrs.as<Routing>();
            if (routing.experts < layout_.ranks)
                return fail(Code::E_CONFIG, "parallel.expert: {} ranks are more than {} experts", layout_.ranks, routing.experts);
            const int64_t base = layout_.data_rank / layout_.ranks * layout_.ranks;
            sorted_[node.out[0]] = {{.group = static_cast<int64_t>(MeshAxis::data),
                                     .base = base,
                                     .rank = layout_.data_rank - base,
                                     .ranks = layout_.ranks,
                                     .experts = routing.experts,
                                     .rows = layout_.ranks * layout_.most_tokens * graph_.type(node.in[0]).shape[1]},
                                    node.out[1],
                                    kNone};
        }
        if (op == "combine" && away_.contains(node.in[0])) {
            const Sorted& s = away_.at(node.in[0]);
            node.in[0] = b_.call("expert_return", {node.in[0], s.ends, s.home}, s.group);
        }
        Sorted from;
        for (const ValueId id : node.in)
            if (away_.contains(id)) from = away_.at(id);
        if (op == "grouped_matmul" && from.home != kNone) node = of_own_experts(std::move(node), from);
        const bool leaves = op == "embedding" && sorted_.contains(node.in[1]);
        if (from.home != kNone) {
            DS_TRY(const auto types, infer(*node.op, node.attrs, graph_.types(node.in)));
            for (size_t i = 0; i < types.size(); ++i) graph_.value(node.out[i]).type = types[i], away_[node.out[i]] = from;
        }
        if (!leaves) {
            graph_.nodes.push_back(std::move(node));
            return ok();
        }
        return send(std::move(node));
    }

    // The rows of tokens, gathered, then sent; readers see what comes.
    Status send(Node gather) {
        Sorted s = sorted_.at(gather.in[1]);
        const ValueId rows = gather.out[0];
        Value home = graph_.value(rows);
        home.name += ".home";
        s.home = gather.out[0] = graph_.add_value(std::move(home));
        graph_.nodes.push_back(std::move(gather));
        const OpDef* op = find_op("expert_send");
        DS_TRY(const auto types, infer(*op, s.group, graph_.types({s.home, s.ends})));
        graph_.value(rows).type = types[0];
        own_ends_[s.home] = graph_.add_value({.name = graph_.value(s.ends).name + ".own", .type = types[1]});
        graph_.nodes.push_back({.op = op, .attrs = s.group, .in = {s.home, s.ends}, .out = {rows, own_ends_[s.home]}});
        away_[rows] = s;
        return ok();
    }

    Node of_own_experts(Node node, const Sorted& s) {
        const Interval own = near_even(s.group.experts, s.group.rank, s.group.ranks);
        std::vector<ValueId> in{node.in[0], own_ends_.at(s.home)};
        in.insert(in.end(), node.in.begin() + 2 + own.begin, node.in.begin() + 2 + own.end);
        node.in = std::move(in);
        return node;
    }

    Graph& graph_;
    const ExpertLayout& layout_;
    Builder b_;
    std::map<ValueId, Sorted> sorted_;  // by the tokens of rows
    std::map<ValueId, Sorted> away_;    // values whose rows are those of this rank's experts
    std::map<ValueId, ValueId> own_ends_;
};

}  // namespace

Status experts(Graph& graph, const PassOptions& options) {
    if (!options.experts) return ok();
    for (Node& node : graph.nodes) {
        if (node.op->name != "expert_rows" || options.experts->capacity_factor == 0) continue;
        Routing routing = node.attrs.as<Routing>();
        routing.capacity_factor = options.experts->capacity_factor;
        routing.min_capacity = options.experts->min_capacity;
        node.attrs = routing;
    }
    if (options.experts->ranks == 1) return ok();
    const std::vector<int> before = use_counts(graph);
    DS_CHECK(Dealer(graph, *options.experts).run());
    const std::vector<int> uses = use_counts(graph);  // weights of experts that live elsewhere are nothing to this rank
    std::erase_if(graph.inputs, [&](ValueId id) {
        const auto i = static_cast<size_t>(id);
        return graph.value(id).kind == Kind::param && before[i] > 0 && uses[i] == 0;
    });
    return ok();
}

}  // namespace ds::passes
