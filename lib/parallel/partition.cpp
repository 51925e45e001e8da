#include "parallel/partition.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <set>

#include "base/name_pattern.h"
#include "ir/op.h"
#include "passes/stage.h"

namespace ds {
namespace {

size_t at(ValueId id) { return static_cast<size_t>(id); }

// Logits that only a loss reads: fusion takes them away.
bool only_for_loss(const Graph& graph, ValueId id) {
    for (const Node& node : graph.nodes)
        if (std::count(node.in.begin(), node.in.end(), id) && node.op->name.find("cross_entropy") == std::string_view::npos) return false;
    return true;
}

// Values after which a graph can be cut. narrow: only where nothing else crosses.
std::vector<ValueId> places_to_cut(const Graph& graph, bool narrow) {
    const auto sources = sources_of(graph);
    std::vector<int> uses(graph.values.size(), 0);
    for (const Node& node : graph.nodes)
        for (const ValueId id : std::set<ValueId>(node.in.begin(), node.in.end()))
            if (id != kNone && sources[at(id)].both()) ++uses[at(id)];
    std::set<ValueId> open;
    std::vector<ValueId> places;
    for (const Node& node : graph.nodes) {
        for (const ValueId id : std::set<ValueId>(node.in.begin(), node.in.end()))
            if (id != kNone && sources[at(id)].both() && --uses[at(id)] == 0) open.erase(id);
        for (const ValueId id : node.out)
            if (sources[at(id)].both() && uses[at(id)] > 0) open.insert(id);
        const ValueId y = node.out[0];
        if (open.count(y) && (!narrow || open.size() == 1) && is_float(graph.type(y).dtype) && !only_for_loss(graph, y))
            places.push_back(y);
    }
    return places;
}

std::vector<int64_t> counts(const Graph& graph) {
    std::vector<int64_t> list(graph.values.size(), 0);
    for (const ValueId id : graph.inputs)
        if (graph.value(id).kind == Kind::param && graph.value(id).trainable) list[at(id)] = elements(graph.type(id).shape);
    return list;
}

}  // namespace

void number_boundaries(Graph& graph, int stages) {
    const auto marked = [&] {
        return std::count_if(graph.nodes.begin(), graph.nodes.end(),
                             [&](const Node& node) { return graph.value(node.out[0]).boundary != 0; });
    };
    for (const bool narrow : {true, false}) {
        if (marked() + 1 >= stages) break;
        for (const ValueId id : places_to_cut(graph, narrow)) graph.value(id).boundary = 1;
    }
    int32_t number = 0;
    for (const Node& node : graph.nodes)
        if (int32_t& boundary = graph.value(node.out[0]).boundary) boundary = ++number;
}

std::vector<Segment> segments_of(const Graph& graph) {
    std::vector<Segment> segments(1);
    auto unseen = counts(graph);
    const std::vector<int> uses = use_counts(graph);
    for (const Node& node : graph.nodes) {
        Segment& s = segments.back();
        s.names.emplace_back(node.op->name);
        s.flops += cost_of(graph, node, uses).flops;
        for (const ValueId id : node.in) {
            if (id == kNone || graph.value(id).kind != Kind::param) continue;
            s.names.push_back(graph.value(id).name);
            s.parameters += static_cast<double>(std::exchange(unseen[at(id)], 0));
        }
        if (const int32_t boundary = graph.value(node.out[0]).boundary) {
            s.end = boundary;
            segments.emplace_back();
        }
    }
    return segments;
}

std::vector<int> balance(std::span<const double> weights, int parts) {
    const auto n = static_cast<int>(weights.size());
    std::vector<double> sum(weights.size() + 1, 0);
    for (int i = 0; i < n; ++i) sum[static_cast<size_t>(i) + 1] = sum[static_cast<size_t>(i)] + weights[static_cast<size_t>(i)];
    struct Best {
        double most, least;
        int begin;
    };
    const Best none{std::numeric_limits<double>::infinity(), 0, -1};
    // best[k][i]: the first i items in k parts.
    std::vector<std::vector<Best>> best(static_cast<size_t>(parts) + 1, std::vector<Best>(sum.size(), none));
    best[0][0] = {0, std::numeric_limits<double>::infinity(), 0};
    for (int k = 1; k <= parts; ++k)
        for (int i = k; i <= n - (parts - k); ++i)
            for (int begin = k - 1; begin < i; ++begin) {
                const Best& before = best[static_cast<size_t>(k) - 1][static_cast<size_t>(begin)];
                if (before.begin < 0) continue;
                const double mine = sum[static_cast<size_t>(i)] - sum[static_cast<size_t>(begin)];
                const Best made{std::max(before.most, mine), std::min(before.least, mine), begin};
                Best& kept = best[static_cast<size_t>(k)][static_cast<size_t>(i)];
                if (made.most < kept.most || (made.most == kept.most && made.least >= kept.least)) kept = made;
            }
    std::vector<int> ends;
    for (int k = parts, i = n; k > 0; --k) {
        ends.insert(ends.begin(), i);
        i = best[static_cast<size_t>(k)][static_cast<size_t>(i)].begin;
    }
    return ends;
}

Result<std::vector<int>> partition(const std::vector<Segment>& segments, int stages, const std::string& method) {
    const auto n = static_cast<int>(segments.size());
    if (n < stages)
        return fail(Code::E_CONFIG, "parallel: pipeline: {} stages need a graph that can be cut into {} parts, but this one has {}", stages,
                    stages, n);
    std::vector<double> weights;
    std::optional<NamePattern> pattern;
    if (method.starts_with("type:")) {
        auto made = NamePattern::make(std::string_view(method).substr(5), NamePattern::any_case);
        if (!made.ok()) return fail(Code::E_CONFIG, "config: pipeline.partition: {}", made.status().message());
        pattern = std::move(made).value();
    }
    for (const Segment& s : segments) {
        if (pattern)
            weights.push_back(
                std::any_of(s.names.begin(), s.names.end(), [&](const std::string& name) { return pattern->found_in(name); }));
        else weights.push_back(method == "parameters" ? s.parameters : method == "uniform" ? 1 : s.flops);
    }
    if (pattern && std::count(weights.begin(), weights.end(), 0) == n)
        return fail(Code::E_CONFIG, "config: pipeline.partition: {} matches no op and no parameter; the last part of the model has {}",
                    method, fmt::join(segments.back().names, ", "));
    std::vector<int> ends;
    for (const int end : balance(weights, stages))
        if (end < n) ends.push_back(segments[static_cast<size_t>(end) - 1].end);
    return ends;
}

std::map<std::string, std::vector<int>> holders_of(const Graph& graph, const std::vector<int>& ends) {
    const Stages stages(graph, ends);
    std::map<std::string, std::vector<int>> holders;
    for (const ValueId id : graph.inputs)
        if (graph.value(id).kind == Kind::param) holders[graph.value(id).name];
    for (int s = 0; s < stages.count(); ++s) {
        const auto mine = stages.nodes_of(s);
        std::set<std::string> names;
        for (size_t i = 0; i < mine.size(); ++i)
            for (const ValueId id : graph.nodes[i].in)
                if (mine[i] && id != kNone && graph.value(id).kind == Kind::param) names.insert(graph.value(id).name);
        for (const std::string& name : names) holders[name].push_back(s);
    }
    for (auto& [name, list] : holders)
        if (list.empty()) list.push_back(stages.count() - 1);
    return holders;
}

}  // namespace ds
