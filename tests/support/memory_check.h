// Checks a memory plan without believing a word of it: runs the graph on labels instead of numbers. Every element of every value has a
// label; nodes that compute write fresh ones, nodes that the plan skips must find theirs in place. A value that was overwritten while it
// was still needed shows as a label that is not the one expected.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "exec/memory.h"
#include "ir/op.h"
#include "passes/cache.h"
#include "ops/attrs_zero.h"

namespace ds::test {

class MemoryChecker {
public:
    MemoryChecker(const Graph& graph, const MemoryPlan& plan, const std::vector<int64_t>& scratch_bytes)
        : graph_(graph), uses_(use_counts(graph)), plan_(plan), scratch_(scratch_bytes) {
        int64_t at = plan.arena_bytes;
        for (const Group& g : plan.groups) {  // what the engine owns lies behind the arena
            if (in_arena(g)) bases_.push_back(g.arena_offset);
            else {
                auto [known, fresh] = outside_.emplace(std::pair{g.kind, g.of}, at);
                if (fresh) at += (elements(graph.type(g.of).shape) * 4 + 63) / 64 * 64;
                bases_.push_back(known->second);
            }
        }
        memory_.assign(static_cast<size_t>(at), -1);
        labels_.resize(graph.values.size());
    }

    // "" or what is wrong.
    std::string run() {
        for (const ValueId id : graph_.inputs)
            if (placed(id)) fresh_labels(id), write(id);
        for (size_t i = 0; i < graph_.nodes.size() && error_.empty(); ++i) {
            plan_.skipped[i] ? rename(graph_.nodes[i]) : compute(i);
            if (i + 1 == graph_.nodes.size()) read_results();
            consume(i);
        }
        return error_;
    }

private:
    bool placed(ValueId id) const { return plan_.of[static_cast<size_t>(id)].group >= 0; }
    std::vector<int64_t>& labels(ValueId id) { return labels_[static_cast<size_t>(id)]; }
    int64_t columns(ValueId id) const { return graph_.type(id).shape.empty() ? 1 : graph_.type(id).shape.back(); }
    int64_t address(ValueId id, int64_t i) const {
        const Placement& p = plan_.of[static_cast<size_t>(id)];
        return bases_[static_cast<size_t>(p.group)] + p.offset +
               (i / columns(id) * p.row_stride + i % columns(id)) * size_of(graph_.type(id).dtype);
    }
    void fresh_labels(ValueId id) {
        labels(id).resize(static_cast<size_t>(elements(graph_.type(id).shape)));
        for (int64_t& label : labels(id)) label = next_++;
    }
    void write(ValueId id) {
        for (size_t i = 0; i < labels(id).size(); ++i)
            for (int64_t b = 0; b < size_of(graph_.type(id).dtype); ++b) {
                const int64_t at = address(id, static_cast<int64_t>(i)) + b;
                if (at < 0 || at >= static_cast<int64_t>(memory_.size())) return fail(id, "lies outside the memory planned", "");
                memory_[static_cast<size_t>(at)] = labels(id)[i];
            }
    }
    void read(ValueId id, std::string_view by) {
        for (size_t i = 0; i < labels(id).size(); ++i)
            for (int64_t b = 0; b < size_of(graph_.type(id).dtype); ++b)
                if (memory_[static_cast<size_t>(address(id, static_cast<int64_t>(i)) + b)] != labels(id)[i])
                    return fail(id, "was overwritten before", by);
    }
    void compute(size_t index) {
        const Node& node = graph_.nodes[index];
        const std::string by = std::string(node.op->name) + " %" + graph_.value(node.out[0]).name;
        for (const ValueId id : node.in)
            if (id != kNone) read(id, by);
        // Kernels write scratch and results while they still read: an operand may be overwritten only where its own element is computed
        // from it alone.
        for (int64_t at = 0; at < scratch_[index]; ++at) memory_[static_cast<size_t>(plan_.scratch[index] + at)] = -2;
        for (const ValueId id : node.in)
            if (id != kNone && scratch_[index]) read(id, by + "'s scratch");
        for (size_t o = 0; o < node.out.size(); ++o) {
            if (!left_out(node, o, uses_)) fresh_labels(node.out[o]);
            else if (placed(node.out[o])) return fail(node.out[o], "has memory, but is left out by", by);
        }
        std::set<ValueId> replaced;  // rightly, by a result of this node
        for (size_t o = 0; o < node.out.size(); ++o) {
            if (left_out(node, o, uses_)) continue;
            write(node.out[o]);
            for (const ValueId id : node.in) {
                if (id == kNone || replaced.count(id)) continue;
                if (may_share(node, o, id)) replaced.insert(id);
                else read(id, by + " itself");
            }
        }
        for (const ValueId id : node.out) read(id, by + "'s other results");
    }
    void read_results() {
        for (const ValueId id : roots(graph_))
            if (id != kNone && error_.empty() && !consumed_.count(id)) read(id, "the end");
    }
    // The update changes the weight and its shadows; nothing has a use for the gradient then.
    void consume(size_t node) {
        for (size_t g = 0; g < plan_.complete.size(); ++g) {
            if (plan_.complete[g] != static_cast<int>(node)) continue;
            const auto& [param, gradient] = graph_.grads[g];
            read(gradient, "its update");
            consumed_.insert(gradient);
            for (const ValueId id : graph_.inputs)
                if (placed(id) && &weight_of(graph_, id) == &graph_.value(param))
                    for (size_t i = 0; i < labels(id).size(); ++i) memory_[static_cast<size_t>(address(id, static_cast<int64_t>(i)))] = -4;
        }
    }
    bool may_share(const Node& node, size_t o, ValueId in) const {
        const Placement &from = plan_.of[static_cast<size_t>(in)], &to = plan_.of[static_cast<size_t>(node.out[o])];
        if (node.op->name == "bucket") {  // its kernel leaves alone what lies in its place
            const auto& starts = node.attrs.as<Bucket>().starts;
            for (size_t i = 0; i < node.in.size(); ++i)
                if (node.in[i] == in && address(in, 0) == address(node.out[o], 0) + starts[i] * 4 && from.row_stride == columns(in))
                    return true;
            return false;
        }
        if (address(in, 0) != address(node.out[o], 0) || from.row_stride != to.row_stride || !(graph_.type(in) == graph_.type(node.out[o])))
            return false;
        if (o == 0 && node.op->in_place && (node.op->name != "rope" || in == node.in[0])) return true;
        for (const auto* pairs : {&node.op->into, &node.op->replaces})
            for (const auto& [result, operand] : *pairs)
                if (static_cast<size_t>(result) == o && static_cast<size_t>(operand) < node.in.size() &&
                    node.in[static_cast<size_t>(operand)] == in)
                    return true;
        return false;
    }

    // A node that nothing runs for: its results are its inputs' elements under other names.
    void rename(const Node& node) {
        if (node.op->name == "split") {
            int64_t column = 0;
            for (const ValueId out : node.out) {
                labels(out).clear();
                const int64_t width = columns(out), whole = columns(node.in[0]);
                for (int64_t i = 0; i < elements(graph_.type(out).shape); ++i)
                    labels(out).push_back(labels(node.in[0])[static_cast<size_t>(i / width * whole + column + i % width)]);
                column += width;
            }
        } else if (node.op->name == "concat") {
            const int64_t whole = columns(node.out[0]);
            labels(node.out[0]).assign(static_cast<size_t>(elements(graph_.type(node.out[0]).shape)), -3);
            int64_t column = 0;
            for (const ValueId in : node.in) {
                const int64_t width = columns(in);
                for (int64_t i = 0; i < static_cast<int64_t>(labels(in).size()); ++i)
                    labels(node.out[0])[static_cast<size_t>(i / width * whole + column + i % width)] = labels(in)[static_cast<size_t>(i)];
                column += width;
            }
        } else if (node.op->view) labels(node.out[0]) = labels(node.in[0]);
        else return fail(node.out[0], "is skipped, but its op computes", node.op->name);
        for (const ValueId id : node.out) read(id, "it was named");
    }
    void fail(ValueId id, std::string_view what, std::string_view by) {
        if (error_.empty()) error_ = "%" + graph_.value(id).name + " " + std::string(what) + " " + std::string(by);
    }

    const Graph& graph_;
    const std::vector<int> uses_;
    const MemoryPlan& plan_;
    const std::vector<int64_t>& scratch_;
    std::vector<int64_t> bases_, memory_;
    std::map<std::pair<Kind, ValueId>, int64_t> outside_;
    std::vector<std::vector<int64_t>> labels_;
    int64_t next_ = 0;
    std::set<ValueId> consumed_;
    std::string error_;
};

}  // namespace ds::test
