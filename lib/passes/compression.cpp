#include "passes/compression.h"

#include <algorithm>
#include <cmath>

#include "ir/builder.h"
#include "ops/attrs_compress.h"
#include "passes/adapters.h"

namespace ds {
namespace {

bool on(int64_t offset, int64_t updates) { return updates < 0 || updates >= offset; }
int64_t bits_of(const WeightBits& w, int64_t updates) { return updates < 0 ? w.target : w.at(updates); }

class Compressing {
public:
    Compressing(Graph& graph, const CompressionSpec& spec, int64_t updates, bool train)
        : graph_(graph), spec_(spec), updates_(updates), train_(train), b_(graph) {}

    Status run() {
        std::vector<Node> nodes = std::move(graph_.nodes);
        graph_.nodes.clear();
        for (Node& node : nodes) {
            for (ValueId& operand : node.in)
                if (const auto* how = table_of(operand); how && !how->in_forward) operand = rounded_table(operand, *how);
            if (node.op->name == "matmul") {
                const auto found = spec_.find(module_of(graph_, node.in[1]));
                if (found != spec_.end() && !found->second.table) compress(node, found->first, found->second);
            }
            if (node.op->name == "embedding")
                if (const auto* how = table_of(node.in[0])) round_rows(node, *how);
            graph_.nodes.push_back(std::move(node));
        }
        return b_.status();
    }

private:
    const WeightBits* table_of(ValueId id) const {
        const auto found = id == kNone ? spec_.end() : spec_.find(module_of(graph_, id));
        return found != spec_.end() && found->second.table ? &*found->second.weight : nullptr;
    }

    // Out of forward the weight itself is rounded, wherever it is used.
    ValueId rounded_table(ValueId table, const WeightBits& how) {
        const int64_t bits = bits_of(how, updates_);
        const auto [rounded, is_new] = tables_.try_emplace(table, table);
        if (is_new && bits) rounded->second = b_.call("fake_quantize", {table}, FakeQuantize{bits, how.groups, how.asymmetric && bits > 2});
        return rounded->second;
    }

    // In forward a row's range is its own, so only those that are looked up need rounding.
    void round_rows(Node& lookup, const WeightBits& how) {
        const int64_t bits = bits_of(how, updates_);
        if (!bits) return;
        const ValueId y = lookup.out[0];
        const ValueId rows = graph_.add_value({.name = graph_.value(y).name + ".whole", .type = graph_.type(y)});
        lookup.out[0] = rows;
        graph_.nodes.push_back(std::move(lookup));
        lookup = {find_op("fake_quantize"), FakeQuantize{bits, 0, how.asymmetric && bits > 2}, {rows}, {y}};
    }

    void compress(Node& node, const std::string& module, const ModuleCompression& how) {
        const Shape shape = graph_.type(node.in[1]).shape;
        const int64_t out = shape[how.out_first ? 0 : 1], in = shape[how.out_first ? 1 : 0];
        ValueId w = node.in[1];
        if (how.weight)
            if (const int64_t bits = bits_of(*how.weight, updates_))
                w = out_first(how, how.weight->groups > 1, w, [&](ValueId x) {
                    return b_.call("fake_quantize", {x}, FakeQuantize{bits, how.weight->groups, how.weight->asymmetric && bits > 2});
                });
        if (how.sparse) {
            const ValueId mask = mask_of(*how.sparse, module, kSparseMask, kSparseScores, shape, in, how);
            if (on(how.sparse->offset, updates_)) w = b_.mul(w, mask);
        }
        if (how.rows) {
            const ValueId mask = mask_of(*how.rows, module, kRowMask, kRowScores, {out}, 1, how);
            if (on(how.rows->offset, updates_)) {
                w = b_.mul(w, how.out_first ? b_.reshape(mask, {out, 1}) : mask);
                if (node.in.size() > 2 && node.in[2] != kNone) node.in[2] = b_.mul(node.in[2], mask);
            }
        }
        if (how.heads) {
            const int64_t heads = how.heads->heads;
            const ValueId mask = mask_of(*how.heads, module, "", kHeadScores, {heads}, heads, how);
            if (on(how.heads->offset, updates_)) {
                const Shape by_head = how.out_first ? Shape{out, heads, in / heads} : Shape{heads, in / heads * out};
                w = b_.reshape(b_.mul(b_.reshape(w, by_head), b_.reshape(mask, {heads, 1})), shape);
            }
        }
        node.in[1] = w;
        if (how.activation) node.in[0] = rounded_input(*how.activation, module, node.in[0]);
    }

    ValueId rounded_input(const ActivationBits& bits, const std::string& module, ValueId x) {
        if (!bits.fixed) return on(bits.offset, updates_) ? b_.call("fake_quantize", {x}, FakeQuantize{bits.bits, 0, bits.asymmetric}) : x;
        const std::string name = module + kInputRange;
        ValueId range = b_.param(name, {2}, {Init::Type::zeros}, false);
        if (!on(bits.offset, updates_)) return x;
        if (train_) {
            range = b_.call("moving_range", {x, range, ends_of(x)}, MovingRange{});
            graph_.outputs.emplace_back(name, range);
        }
        return b_.call("quantize_within", {x, range}, QuantizeWithin{bits.bits, bits.asymmetric});
    }

    // A stream of tokens is filled up; where rows are its tokens, the real ones end where the last text does.
    ValueId ends_of(ValueId x) const {
        const ValueId ids = graph_.find("ids"), segments = graph_.find("segments");
        if (ids == kNone || segments == kNone || graph_.find("source.segments") != kNone) return kNone;
        return graph_.type(x).shape[0] == graph_.type(ids).shape[0] ? segments : kNone;
    }

    // fan_in: of the scores' first values, as torch's kaiming_uniform with a = sqrt(5).
    ValueId mask_of(const PruneRule& rule, const std::string& module, const char* mask, const char* scores, const Shape& shape,
                    int64_t fan_in, const ModuleCompression& how) {
        if (!rule.learned) return b_.param(module + mask, shape, {Init::Type::ones}, false);
        const ValueId trained = b_.param(module + scores, shape, {Init::Type::uniform, 1 / std::sqrt(static_cast<double>(fan_in))});
        if (!on(rule.offset, updates_)) return trained;
        return out_first(how, rule.m > 0, trained, [&](ValueId x) { return b_.call("top_mask", {x}, TopMask{rule.keep, rule.n, rule.m}); });
    }

    // Neighbours in a group are inputs of one output, also where the weight lies [in, out].
    template <class F>
    ValueId out_first(const ModuleCompression& how, bool has_neighbours, ValueId x, const F& f) {
        if (how.out_first || !has_neighbours) return f(x);
        return b_.call("transpose", {f(b_.call("transpose", {x}, Permute{}))}, Permute{});
    }

    Graph& graph_;
    const CompressionSpec& spec_;
    const int64_t updates_;
    const bool train_;
    std::map<ValueId, ValueId> tables_;  // rounded
    Builder b_;
};

}  // namespace

int64_t WeightBits::at(int64_t updates) const {
    if (updates < offset) return 0;
    if (in_forward) return target;
    const int64_t rounded = updates - offset;  // how often weights were rounded: at the end of each update
    if (rounded == 0) return 0;
    int64_t bits = start, wait = std::max<int64_t>(period, 1);
    for (int64_t step = 1; step <= rounded && bits > target; ++step)
        if (step >= wait) wait *= 2, --bits;
    return bits;
}

bool is_compression_tensor(std::string_view name) {
    for (const std::string_view suffix : {kSparseMask, kSparseScores, kRowMask, kRowScores, kHeadScores, kInputRange})
        if (name.ends_with(suffix)) return true;
    return false;
}

std::vector<int64_t> active_compression(const CompressionSpec& spec, int64_t updates) {
    std::vector<int64_t> active;
    for (const auto& [module, how] : spec) {
        active.push_back(how.weight ? bits_of(*how.weight, updates) : 0);
        for (const auto* rule : {&how.sparse, &how.rows, &how.heads}) active.push_back(*rule && on((*rule)->offset, updates));
        active.push_back(how.activation && on(how.activation->offset, updates));
    }
    return active;
}

Status add_compression(Graph& graph, const CompressionSpec& spec, int64_t updates, bool train) {
    return spec.empty() ? ok() : Compressing(graph, spec, updates, train).run();
}

}  // namespace ds
