// Pipeline parallelism: keeps the nodes of one stage of the forward graph. Whatever crosses a cut becomes an operand of the stage behind it
// and a result of the one before, and goes on from stage to stage to where it is needed; so a graph may be cut anywhere, and no model knows
// of it. A weight that several stages use (tied embeddings) is a parameter of each. Comes after the passes that split nodes over ranks, so
// what crosses is each rank's own share.
#include "passes/stage.h"

#include <algorithm>

#include "ir/op.h"
#include "passes/pass.h"

namespace ds {
namespace {

size_t at(ValueId id) { return static_cast<size_t>(id); }

}  // namespace

std::vector<Sources> sources_of(const Graph& graph) {
    std::vector<Sources> of(graph.values.size());
    for (const ValueId id : graph.inputs) (graph.value(id).kind == Kind::input ? of[at(id)].batch : of[at(id)].parameters) = true;
    for (const Node& node : graph.nodes) {
        Sources sources;
        for (const ValueId id : node.in)
            if (id != kNone) sources.batch |= of[at(id)].batch, sources.parameters |= of[at(id)].parameters;
        for (const ValueId id : node.out) of[at(id)] = sources;
    }
    return of;
}

Stages::Stages(const Graph& graph, const std::vector<int>& ends)
    : graph_(graph),
      count_(static_cast<int>(ends.size()) + 1),
      node_stage_(graph.nodes.size()),
      live_(graph.nodes.size()),
      place_(graph.values.size(), -1),
      last_use_(graph.values.size(), -1) {
    // A stage goes on to the last boundary made so far whose number is at most its end's: a boundary that a pass took away ends where the
    // one before it did.
    std::vector<size_t> stop(ends.size(), 0);
    for (size_t i = 0; i < graph.nodes.size(); ++i)
        for (const ValueId id : graph.nodes[i].out)
            for (size_t s = 0; s < ends.size(); ++s)
                if (const int32_t boundary = graph.value(id).boundary; boundary && boundary <= ends[s]) stop[s] = std::max(stop[s], i + 1);
    std::vector<bool> needed(graph.values.size(), false);
    for (const ValueId id : roots(graph)) needed[at(id)] = true;
    for (size_t i = graph.nodes.size(); i-- > 0;) {
        const Node& node = graph.nodes[i];
        for (const ValueId id : node.out) live_[i] = live_[i] || needed[at(id)];
        for (const ValueId id : node.in)
            if (live_[i] && id != kNone) needed[at(id)] = true;
    }
    const auto sources = sources_of(graph);
    for (size_t i = 0; i < graph.nodes.size(); ++i) {
        node_stage_[i] = static_cast<int>(std::count_if(stop.begin(), stop.end(), [&](size_t end) { return end <= i; }));
        for (const ValueId id : graph.nodes[i].out)
            if (sources[at(id)].both()) place_[at(id)] = node_stage_[i];
        for (const ValueId id : graph.nodes[i].in)
            if (live_[i] && id != kNone) last_use_[at(id)] = std::max(last_use_[at(id)], node_stage_[i]);
    }
}

std::vector<bool> Stages::nodes_of(int stage) const {
    std::vector<bool> mine(graph_.nodes.size(), false), needed(graph_.values.size(), false);
    for (const ValueId id : roots(graph_)) needed[at(id)] = needed[at(id)] || stage_of(id) == stage;
    for (size_t i = graph_.nodes.size(); i-- > 0;) {
        const Node& node = graph_.nodes[i];
        if (belongs(node.out[0])) mine[i] = live_[i] && node_stage_[i] == stage;
        else
            for (const ValueId id : node.out) mine[i] = mine[i] || needed[at(id)];
        for (const ValueId id : node.in)
            if (mine[i] && id != kNone) needed[at(id)] = true;
    }
    return mine;
}

std::vector<ValueId> Stages::into(int stage) const {
    std::vector<ValueId> list;
    for (size_t v = 0; v < place_.size(); ++v)
        if (place_[v] >= 0 && place_[v] < stage && last_use_[v] >= stage) list.push_back(static_cast<ValueId>(v));
    return list;
}

int Stages::stage_of(ValueId result) const { return belongs(result) ? place_[at(result)] : count_ - 1; }

namespace passes {
namespace {

class Stager {
public:
    Stager(Graph& graph, const PassOptions& options)
        : graph_(graph), options_(options), stages_(graph, options.stage->ends), stage_(options.stage->stage) {}

    Status run() {
        mark_trained();
        const auto mine = stages_.nodes_of(stage_);
        const auto received = stages_.into(stage_), sent = stage_ + 1 < stages_.count() ? stages_.into(stage_ + 1) : std::vector<ValueId>();
        for (const ValueId id : received) graph_.received.push_back({id, trained_[at(id)]});
        for (const ValueId id : sent) graph_.sent.push_back({id, trained_[at(id)]});
        std::erase_if(graph_.outputs, [&](const auto& output) { return stages_.stage_of(output.second) != stage_; });
        if (graph_.loss != kNone && stages_.stage_of(graph_.loss) != stage_) graph_.loss = kNone;
        keep(mine);
        for (const ValueId id : received) {
            graph_.value(id).kind = Kind::input;
            graph_.inputs.push_back(id);
        }
        return ok();
    }

private:
    // What a trained parameter is reached through; nothing, where there is no backward pass.
    void mark_trained() {
        trained_.assign(graph_.values.size(), false);
        if (!options_.train || options_.seeds.empty()) return;
        for (const ValueId id : graph_.inputs) trained_[at(id)] = graph_.value(id).kind == Kind::param && graph_.value(id).trainable;
        for (const Node& node : graph_.nodes) {
            bool any = false;
            for (const ValueId id : node.in) any |= id != kNone && trained_[at(id)];
            for (const ValueId id : node.out) trained_[at(id)] = any && is_float(graph_.type(id).dtype);
        }
    }

    void keep(const std::vector<bool>& mine) {
        std::vector<Node> nodes;
        std::vector<bool> used(graph_.values.size(), false);
        for (const ValueId id : roots(graph_)) used[at(id)] = true;
        for (size_t i = 0; i < mine.size(); ++i) {
            if (!mine[i]) continue;
            for (const ValueId id : graph_.nodes[i].in)
                if (id != kNone) used[at(id)] = true;
            nodes.push_back(std::move(graph_.nodes[i]));
        }
        graph_.nodes = std::move(nodes);
        std::erase_if(graph_.inputs, [&](ValueId id) {
            const Value& v = graph_.value(id);
            if (v.kind != Kind::param || !options_.stage->holders) return !used[at(id)];
            const auto found = options_.stage->holders->find(v.name);
            return found == options_.stage->holders->end() || std::count(found->second.begin(), found->second.end(), stage_) == 0;
        });
    }

    Graph& graph_;
    const PassOptions& options_;
    const Stages stages_;
    const int stage_;
    std::vector<bool> trained_;
};

}  // namespace

Status stage(Graph& graph, const PassOptions& options) {
    if (!options.stage || options.stage->ends.empty()) return ok();
    return Stager(graph, options).run();
}

}  // namespace passes
}  // namespace ds
