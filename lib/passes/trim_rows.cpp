// Liveness of rows: where only some rows of a value are looked up (the [CLS] token of each text, the labelled tokens), the ops before the
// lookup compute those rows alone:  embedding(f(x), ids)  becomes  f(embedding(x, ids)), as far up as rows are independent. Attention needs
// all keys and values, but of its queries only those whose result is looked up: the rows before it are trimmed, then put back among zeros.
//
// Which operands carry rows follows from the ops' sharding rules: an op that can be split along dimension 0 computes each row alone. What
// comes out is equal to the dense graph's bit for bit; gradients differ in the order of their sums at most, as rows of zeros are missing.
#include <map>

#include "ir/builder.h"
#include "passes/pass.h"

namespace ds::passes {
namespace {

class Trimmer {
public:
    explicit Trimmer(Graph& graph)
        : graph_(graph), made_(producers(graph)), uses_(use_counts(graph)), dense_reads_(uses_), rewritten_(graph) {
        rewritten_.nodes.clear();
    }

    // Readers come before what they read, so the demand for a value is known when its producer is reached; nodes are collected in reverse.
    void run() {
        for (size_t i = graph_.nodes.size(); i-- > 0;) visit(graph_.nodes[i]);
        for (const ValueId id : std::vector<ValueId>(graph_.inputs)) look_up(id);
        rewritten_.nodes.assign(reversed_.rbegin(), reversed_.rend());
        graph_ = std::move(rewritten_);
        for (const auto& [from, to] : same_) replace_uses(graph_, from, to);
    }

private:
    struct Lookup {
        ValueId ids, result;
    };

    void visit(const Node& node) {
        if (is_lookup(node)) {
            --dense_reads_[at(node.in[0])];
            const ValueId asked = known(node.in[0], node.in[1]);
            if (asked == kNone) lookups_[node.in[0]].push_back({node.in[1], node.out[0]});
            else same_[node.out[0]] = asked;
            return;
        }
        if (trims(node)) return;
        if (node.op->name == "attention") return attention(node);
        emit(node);
    }

    void emit(const Node& node) {
        for (const ValueId id : node.out) look_up(id);
        reversed_.push_back(node);
    }

    // A lookup that makes a value much smaller, by ids known before anything runs.
    bool is_lookup(const Node& node) const {
        if (node.op->name != "embedding" || !node.attrs.as<Embedding>().inside || made_[at(node.in[0])] < 0 || made_[at(node.in[1])] >= 0)
            return false;
        const int64_t rows = graph_.type(node.in[0]).shape[0], wanted = elements(graph_.type(node.in[1]).shape);
        return graph_.type(node.in[1]).shape.size() == 1 && wanted * 10 <= rows * 9;
    }

    // All that is read of x is one set of rows.
    const Lookup* only_lookup(ValueId x) const {
        const auto found = lookups_.find(x);
        return found != lookups_.end() && found->second.size() == 1 && dense_reads_[at(x)] == 0 ? &found->second[0] : nullptr;
    }
    ValueId known(ValueId x, ValueId ids) const {
        if (const auto found = lookups_.find(x); found != lookups_.end())
            for (const Lookup& l : found->second)
                if (l.ids == ids) return l.result;
        return kNone;
    }

    // Which inputs carry the rows of output 0, where every row is computed alone; empty otherwise.
    std::vector<bool> rows_of(const Node& node) const {
        for (size_t o = 1; o < node.out.size(); ++o)
            if (uses_[at(node.out[o])] > 0) return {};
        if (node.op->name == "combine")
            return {};  // its gradient writes an expert's row once: of a token that is looked up twice one gradient would be lost
        if (!node.op->shard || node.op->name == "attention" || (node.op->name == "rope" && (node.in.size() < 2 || node.in[1] == kNone)))
            return {};
        const Shape& y = graph_.type(node.out[0]).shape;
        for (const ShardWay& way : node.op->shard(graph_, node)) {
            if (way.out[0] != 0) continue;
            std::vector<bool> carries;
            bool fits = true, any = false;
            for (size_t i = 0; i < node.in.size() && fits; ++i) {
                carries.push_back(node.in[i] != kNone && way.in[i] == 0);
                any |= carries.back();
                if (carries.back()) fits = graph_.type(node.in[i]).shape[0] == y[0];
                else fits = way.in[i] == kWhole;
            }
            if (fits && any) return carries;
        }
        return {};
    }

    bool trims(const Node& node) {
        const Lookup* found = only_lookup(node.out[0]);
        if (!found) return false;
        const std::vector<bool> carries = rows_of(node);
        if (carries.empty()) return false;
        const Lookup lookup = *found;
        const int64_t rows = graph_.type(lookup.ids).shape[0];
        const auto cut = [&](ValueId id) {
            Type type = graph_.type(id);
            type.shape[0] = rows;
            return type;
        };
        std::vector<Type> in = graph_.types(node.in);
        for (size_t i = 0; i < in.size(); ++i)
            if (carries[i]) in[i] = cut(node.in[i]);
        const auto out = infer(*node.op, node.attrs, in);
        if (!out.ok() || (*out)[0] != cut(node.out[0])) return false;  // its attributes hold the number of rows

        lookups_.erase(node.out[0]);
        Node small = node;
        for (size_t i = 0; i < in.size(); ++i)
            if (carries[i]) small.in[i] = want(node.in[i], lookup.ids);
        // A row's place names it in the batch where nothing else does.
        if (node.op->name == "dropout" && (node.in.size() < 2 || node.in[1] == kNone)) small.in.resize(2, kNone), small.in[1] = lookup.ids;
        small.out[0] = lookup.result;
        for (size_t o = 1; o < small.out.size(); ++o) rewritten_.value(small.out[o]).type = (*out)[o];
        if (const int32_t boundary = graph_.value(node.out[0]).boundary) rewritten_.value(lookup.result).boundary = boundary;
        reversed_.push_back(std::move(small));
        return true;
    }

    // Turns a reader's use of x into x[ids], which is made where x is known.
    ValueId want(ValueId x, ValueId ids) {
        --dense_reads_[at(x)];
        if (const ValueId asked = known(x, ids); asked != kNone) return asked;
        Type type = graph_.type(x);
        type.shape[0] = graph_.type(ids).shape[0];
        const ValueId result = rewritten_.add_value({.name = graph_.value(x).name + ".rows", .type = std::move(type)});
        lookups_[x].push_back({ids, result});
        return result;
    }

    void attention(const Node& node) {
        const Lookup* found = only_lookup(node.out[0]);
        const ValueId q = node.in[0];
        if (found && graph_.type(q).shape.size() == 2 && made_[at(q)] >= 0 && uses_[at(q)] == 1 && uses_[at(node.out[1])] == 0 &&
            !rows_of(graph_.nodes[at(made_[at(q)])]).empty()) {
            const Lookup lookup = *found;
            Node changed = node;
            changed.in[0] = rewritten_.add_value({.name = graph_.value(q).name + ".back", .type = graph_.type(q)});
            look_up(node.out[0]);
            reversed_.push_back(changed);
            const ValueId places = rewritten_.add_value({.name = "places_of_rows", .type = {DType::i32, {graph_.type(q).shape[0]}}});
            reversed_.push_back({find_op("embedding"), Embedding{}, {want(q, lookup.ids), places}, {changed.in[0]}});
            reversed_.push_back({find_op("inverse_rows"), Rows{graph_.type(q).shape[0]}, {lookup.ids}, {places}});
            return;
        }
        emit(node);
    }

    // Makes what was asked of x, right after x.
    void look_up(ValueId x) {
        const auto found = lookups_.find(x);
        if (found == lookups_.end()) return;
        for (const Lookup& l : found->second) {
            const Type& type = graph_.type(x);
            const Shape rows{type.shape[0], elements(type.shape) / std::max<int64_t>(type.shape[0], 1)};
            const bool matrix = type.shape.size() == 2;
            const auto fresh = [&](int64_t first) {
                return rewritten_.add_value({.name = "rows", .type = {type.dtype, {first, rows[1]}}});
            };
            const ValueId flat = matrix ? x : fresh(rows[0]), taken = matrix ? l.result : fresh(graph_.type(l.ids).shape[0]);
            if (!matrix) reversed_.push_back({find_op("reshape"), Reshape{rewritten_.type(l.result).shape}, {taken}, {l.result}});
            reversed_.push_back({find_op("embedding"), Embedding{true}, {flat, l.ids}, {taken}});
            if (!matrix) reversed_.push_back({find_op("reshape"), Reshape{rows}, {x}, {flat}});
        }
        lookups_.erase(found);
    }

    static size_t at(ValueId id) { return static_cast<size_t>(id); }

    Graph& graph_;
    const std::vector<int> made_;
    const std::vector<int> uses_;
    std::vector<int> dense_reads_;                    // how many readers want all rows of a value, or were not reached yet
    std::map<ValueId, std::vector<Lookup>> lookups_;  // what readers ask of a value
    std::map<ValueId, ValueId> same_;                 // lookups that were asked before
    Graph rewritten_;
    std::vector<Node> reversed_;
};

}  // namespace

Status trim_rows(Graph& graph, const PassOptions&) {
    Trimmer(graph).run();
    return ok();
}

}  // namespace ds::passes
