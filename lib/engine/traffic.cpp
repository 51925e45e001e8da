// What one rank will send in a step, from its plan and from what happens at the boundary, counted as comm/counted.h counts what is sent.
#include <algorithm>

#include "engine/pipeline.h"
#include "ir/op.h"
#include "ops/attrs_zero.h"

namespace ds {
namespace {

struct Tally {
    std::array<int64_t, kTraffics> bytes{}, exchanges{};
    void add(Traffic kind, int64_t n, int64_t times = 1) {
        bytes[static_cast<size_t>(kind)] += n * times;
        exchanges[static_cast<size_t>(kind)] += times;
    }
};

int64_t reduced_everywhere(int64_t elements, int64_t element_bytes, int rank, int ranks) {
    const int64_t mine = near_even(elements, rank, ranks).size();
    return (elements - mine + mine * (ranks - 1)) * element_bytes;
}

// What a plan exchanges each time: between its kernels, and with the stages beside it.
void count_plan(Tally& tally, const Rank& rank, const Mesh& mesh, const Graph& graph, int64_t micro) {
    const auto ranks_of = [&](int64_t axis) { return mesh.size(static_cast<MeshAxis>(axis)); };
    for (const Node& node : graph.nodes) {
        const std::string_view op = node.op->name;
        if (node.in.empty() || node.in[0] == kNone) continue;
        const Type& x = graph.type(node.in[0]);
        if (op == "all_reduce") {
            const int64_t axis = node.attrs.as<Exchange>().group;
            if (ranks_of(axis) > 1)
                tally.add(Traffic::all_reduce,
                          reduced_everywhere(elements(x.shape), size_of(x.dtype), rank.at(static_cast<MeshAxis>(axis)), ranks_of(axis)),
                          micro);
        } else if (op == "all_gather") {
            tally.add(Traffic::all_gather, bytes(x) * (node.attrs.as<Share>().ranks - 1), micro);
        } else if (op == "reduce_scatter") {
            tally.add(Traffic::reduce_scatter, bytes(x) - bytes(graph.type(node.out[0])), micro);
        } else if (op == "reduce_bucket") {
            const Parts& p = node.attrs.as<Parts>();
            if (p.ends.size() > 1) tally.add(Traffic::reduce_scatter, (p.ends.back() - p.size(p.rank)) * size_of(p.wire), micro);
        } else if (op == "gather_parts") {
            const Parts& p = node.attrs.as<Parts>();
            if (p.ends.size() > 1)
                tally.add(Traffic::all_gather, p.size(p.rank) * size_of(x.dtype) * static_cast<int64_t>(p.ends.size() - 1), micro);
        } else if (op == "expert_send" || op == "expert_return") {  // as if tokens chose all experts alike
            const auto& g = node.attrs.as<ExpertGroup>();
            const Type& rows = op == "expert_send" ? x : graph.type(node.out[0]);
            if (g.ranks > 1) tally.add(Traffic::all_to_all, (bytes(rows) / g.ranks + 4 * g.experts) * (g.ranks - 1), micro);
        }
    }
    for (const Crossing& c : graph.sent) tally.add(Traffic::send, bytes(graph.type(c.value)), micro);
    for (const Crossing& c : graph.received)
        if (c.differentiable) tally.add(Traffic::send, bytes(graph.type(c.gradient)), micro);
}

}  // namespace

OrderedJson Engine::planned_traffic(const Rank& rank, const std::vector<std::shared_ptr<Plan>>& plans) const {
    Tally tally;
    for (const auto& plan : plans) count_plan(tally, rank, ranks_->mesh(), plan->graph(), config_.batch.accumulation);
    for (const std::string& name : pipeline_ ? pipeline_->tied : std::vector<std::string>()) {
        const auto holders = pipeline_->ranks_with(name);
        const auto here = std::find(holders.begin(), holders.end(), rank.at(MeshAxis::pipeline));
        if (here != holders.end())
            tally.add(Traffic::all_to_all, reduced_everywhere(rank.params->find(name)->count, 4, static_cast<int>(here - holders.begin()),
                                                              static_cast<int>(holders.size())));
    }
    const int data = ranks_->extent(MeshAxis::data);
    const auto among = [&](const ParamBucket& bucket) {
        return std::pair{rank.params->all()[bucket.first].holder, static_cast<int>(bucket.parts.size())};
    };  // this one, of so many
    if (data > 1 && !gradients_are_dealt_out())
        for (const ParamBucket& bucket : rank.params->buckets()) {
            const auto [here, sharing] = among(bucket);
            if (!bucket.trainable || sharing == 1) continue;
            const int64_t n = bucket.elements.size(), size = size_of(config_.communication);
            if (updates_are_dealt_out()) tally.add(Traffic::reduce_scatter, (n - bucket.parts[static_cast<size_t>(here)].size()) * size);
            else tally.add(Traffic::all_reduce, reduced_everywhere(n, size, here, sharing));
        }
    if (updates_are_dealt_out())
        for (const Gathering& g : gatherings(rank)) {
            const auto [here, sharing] = among(*g.bucket);
            if (sharing == 1) continue;
            const Interval& part = g.bucket->parts[static_cast<size_t>(here)];
            const int64_t mine = std::max<int64_t>(std::min(part.end, g.elements.end) - std::max(part.begin, g.elements.begin), 0);
            tally.add(Traffic::all_gather, mine * (g.low ? 2 : 4) * (sharing - 1));
        }
    OrderedJson json;
    int64_t all = 0;
    for (const int64_t n : tally.bytes) all += n;
    json["bytes"] = all;
    for (int kind = 0; kind < kTraffics; ++kind)
        if (tally.exchanges[static_cast<size_t>(kind)])
            json[name_of(static_cast<Traffic>(kind))] = {
                {"bytes", tally.bytes[static_cast<size_t>(kind)]},
                {"exchanges", tally.exchanges[static_cast<size_t>(kind)]},
            };
    return json;
}

}  // namespace ds
