#include "exec/memory.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "ir/op.h"
#include "ops/attrs_zero.h"

namespace ds {
namespace {

constexpr int64_t kAlign = 64;
int64_t aligned(int64_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }
int64_t columns(const Type& t) { return t.shape.empty() ? 1 : t.shape.back(); }

class Grouper {
public:
    explicit Grouper(const Graph& graph)
        : graph_(graph), uses_(use_counts(graph)), last_use_(graph.values.size(), -1), readers_(graph.values.size()) {
        for (size_t i = 0; i < graph.nodes.size(); ++i)
            for (const ValueId id : graph.nodes[i].in)
                if (id != kNone) {
                    last_use_[static_cast<size_t>(id)] = static_cast<int>(i);
                    readers_[static_cast<size_t>(id)].push_back(static_cast<int>(i));
                }
        for (const ValueId id : roots(graph)) last_use_[static_cast<size_t>(id)] = static_cast<int>(graph.nodes.size());
        plan_.of.resize(graph.values.size());
        plan_.skipped.assign(graph.nodes.size(), false);
        part_of_.assign(graph.values.size(), {});
    }

    MemoryPlan run(Gradients gradients) {
        for (const ValueId id : graph_.inputs) {
            if (uses_[static_cast<size_t>(id)] == 0) continue;
            open(id, -1);
            const Value& v = graph_.value(id);
            group(id).kind = v.kind;
            group(id).of = v.kind == Kind::grad ? v.of : id;
        }
        for (size_t i = 0; i < graph_.nodes.size(); ++i) find_concat(static_cast<int>(i)), find_bucket(static_cast<int>(i));
        for (size_t i = 0; i < graph_.nodes.size(); ++i) visit(static_cast<int>(i));
        if (gradients == Gradients::consumed) end_gradients();
        else
            for (const auto& [param, grad] : graph_.grads) {
                group(grad).kind = Kind::grad;
                group(grad).of = param;
            }
        return std::move(plan_);
    }

private:
    struct Part {
        ValueId whole = kNone;
        int64_t bytes = 0, row_stride = 0;
    };  // this value is written straight into a concat's or bucket's result

    Group& group(ValueId id) { return plan_.groups[static_cast<size_t>(plan_.of[static_cast<size_t>(id)].group)]; }
    int last_use(ValueId id) const { return last_use_[static_cast<size_t>(id)]; }
    bool placed(ValueId id) const { return plan_.of[static_cast<size_t>(id)].group >= 0; }

    // A gradient is complete, and its parameter may change, behind the last node that touches it, the weight or a shadow of the weight;
    // other results stay to the end.
    void end_gradients() {
        std::vector<int> last(plan_.groups.size(), 0);
        const auto touch = [&](ValueId id, int node) {
            if (id == kNone || !placed(id)) return;
            int& known = last[static_cast<size_t>(plan_.of[static_cast<size_t>(id)].group)];
            known = std::max(known, node);
        };
        const auto nodes = static_cast<int>(graph_.nodes.size());
        int first_backward = nodes - 1;
        for (int i = nodes - 1; i >= 0; --i) {
            const Node& node = graph_.nodes[static_cast<size_t>(i)];
            if (node.backward && !plan_.skipped[static_cast<size_t>(i)]) first_backward = i;
            for (const auto* ids : {&node.in, &node.out})
                for (const ValueId id : *ids) touch(id, i);
        }
        for (const ValueId id : roots(graph_))
            if (std::none_of(graph_.grads.begin(), graph_.grads.end(), [&](const auto& grad) { return grad.second == id; }))
                touch(id, nodes - 1);
        std::map<ValueId, int> read;  // by parameter
        for (size_t g = 0; g < plan_.groups.size(); ++g) {
            const Group& held = plan_.groups[g];
            if (held.of == kNone) continue;
            const ValueId param = graph_.value(held.of).of == kNone ? held.of : graph_.value(held.of).of;
            read[param] = std::max(read[param], last[g]);
        }
        for (const auto& [param, grad] : graph_.grads) {
            const int made = last[static_cast<size_t>(plan_.of[static_cast<size_t>(grad)].group)];
            plan_.complete.push_back(std::max({made, read[param], first_backward}));
            group(grad).last = plan_.complete.back();
        }
    }

    void open(ValueId id, int node) {
        const Type& t = graph_.type(id);
        plan_.of[static_cast<size_t>(id)] = {static_cast<int>(plan_.groups.size()), 0, columns(t)};
        plan_.groups.push_back(
            {.bytes = bytes(t), .first = std::max(node, 0), .last = std::max(last_use(id), node), .name = graph_.value(id).name});
    }

    void join(ValueId id, ValueId host, int64_t offset_bytes, int64_t row_stride) {
        const Placement& p = plan_.of[static_cast<size_t>(host)];
        plan_.of[static_cast<size_t>(id)] = {p.group, p.offset + offset_bytes, row_stride};
        group(id).last = std::max(group(id).last, last_use(id));
    }

    // Concat along the last dimension of values that strided kernels make for it alone: they write into its result.
    void find_concat(int index) {
        const Node& node = graph_.nodes[static_cast<size_t>(index)];
        if (node.op->name != "concat") return;
        const Type& y = graph_.type(node.out[0]);
        const int64_t axis = node.attrs.as<Axis>().axis;
        if (axis != -1 && axis != static_cast<int64_t>(y.shape.size()) - 1) return;
        const auto made = maker_of(node.in, index);
        if (!made) return;
        int64_t column = 0;
        for (const ValueId id : node.in) {
            part_of_[static_cast<size_t>(id)] = {node.out[0], column * size_of(y.dtype), columns(y)};
            column += columns(graph_.type(id));
        }
        plan_.skipped[static_cast<size_t>(index)] = true;
    }

    bool maker_of(const std::vector<ValueId>& ids, int before) const {
        for (const ValueId id : ids) {
            if (uses_[static_cast<size_t>(id)] != 1 || part_of_[static_cast<size_t>(id)].whole != kNone) return false;
            bool strided = false;
            for (int i = 0; i < before; ++i) {
                const Node& maker = graph_.nodes[static_cast<size_t>(i)];
                for (const ValueId out : maker.out)
                    if (out == id)
                        strided = maker.op->strided && maker.op->name != "split" && maker.op->name != "concat" && maker.op->name != "slice";
            }
            if (!strided) return false;
        }
        return true;
    }

    // What a bucket holds is written there from the start, where nothing else decides where it lies.
    void find_bucket(int index) {
        const Node& node = graph_.nodes[static_cast<size_t>(index)];
        if (node.op->name != "bucket") return;
        const auto& starts = node.attrs.as<Bucket>().starts;
        for (size_t i = 0; i < node.in.size(); ++i) into_bucket(node.in[i], node.out[0], starts[i] * size_of(DType::f32), index);
    }

    void into_bucket(ValueId id, ValueId whole, int64_t bytes, int before) {
        const Value& v = graph_.value(id);
        if (v.kind != Kind::computed || uses_[static_cast<size_t>(id)] != 1 || part_of_[static_cast<size_t>(id)].whole != kNone) return;
        part_of_[static_cast<size_t>(id)] = {whole, bytes, columns(v.type)};
        int maker = before - 1;
        const auto makes = [&](const Node& node) { return std::count(node.out.begin(), node.out.end(), id) > 0; };
        while (maker >= 0 && !makes(graph_.nodes[static_cast<size_t>(maker)])) --maker;
        if (maker < 0) return;
        const Node& node = graph_.nodes[static_cast<size_t>(maker)];
        if (node.op->view) return into_bucket(node.in[0], whole, bytes, maker);
        for (const auto* pairs : {&node.op->into, &node.op->replaces})  // and what it is added to or written over
            for (const auto& [out, in] : *pairs)
                if (static_cast<size_t>(in) < node.in.size() && node.in[static_cast<size_t>(in)] != kNone &&
                    node.out[static_cast<size_t>(out)] == id && graph_.type(node.in[static_cast<size_t>(in)]) == v.type)
                    return into_bucket(node.in[static_cast<size_t>(in)], whole, bytes, maker);
    }

    void visit(int index) {
        const Node& node = graph_.nodes[static_cast<size_t>(index)];
        if (node.op->view && view_of_dense(node)) {
            join(node.out[0], node.in[0], 0, columns(graph_.type(node.out[0])));
            plan_.skipped[static_cast<size_t>(index)] = true;
            return;
        }
        if (node.op->name == "split" && names_columns(node)) {
            int64_t column = 0;
            const Placement whole = plan_.of[static_cast<size_t>(node.in[0])];
            for (const ValueId out : node.out) {
                join(out, node.in[0], column * size_of(graph_.type(out).dtype), whole.row_stride);
                column += columns(graph_.type(out));
            }
            plan_.skipped[static_cast<size_t>(index)] = true;
            return;
        }
        for (size_t o = 0; o < node.out.size(); ++o)
            if (!left_out(node, o, uses_)) output(node, index, o);
    }

    void output(const Node& node, int index, size_t o) {
        const ValueId out = node.out[o];
        if (placed(out)) return;  // a concat whose parts are in place
        if (const Part part = part_of_[static_cast<size_t>(out)]; part.whole != kNone) {
            if (!placed(part.whole)) open(part.whole, index);
            join(out, part.whole, part.bytes, part.row_stride);
            return;
        }
        for (const auto* pairs : {&node.op->into, &node.op->replaces})
            for (const auto& [to, from] : *pairs)
                if (static_cast<size_t>(to) == o && static_cast<size_t>(from) < node.in.size() &&
                    dies(node, static_cast<size_t>(from), index, out))
                    return join(out, node.in[static_cast<size_t>(from)], 0, columns(graph_.type(out)));
        if (o == 0 && node.op->in_place)
            for (size_t i = 0; i < node.in.size() && !node.op->inputs[i].ends_with('?');
                 ++i)  // what is optional is read across elements (rope's angles)
                if (dies(node, i, index, out)) return join(out, node.in[i], 0, columns(graph_.type(out)));
        open(out, index);
    }

    // Operand i is dense, as large as `out`, and nobody reads its memory after this node.
    bool dies(const Node& node, size_t i, int index, ValueId out) {
        const ValueId id = node.in[i];
        if (id == kNone || !(graph_.type(id) == graph_.type(out))) return false;
        const Placement& p = plan_.of[static_cast<size_t>(id)];
        const Group& g = plan_.groups[static_cast<size_t>(p.group)];
        if (p.offset != 0 || p.row_stride != columns(graph_.type(id)) || g.bytes != bytes(graph_.type(id)) || g.last > index) return false;
        const auto shares = [&](ValueId other) { return other != kNone && plan_.of[static_cast<size_t>(other)].group == p.group; };
        if (std::count_if(node.in.begin(), node.in.end(), shares) != 1) return false;  // another may be a view of it
        const Value& v = graph_.value(id);
        return in_arena(g) ? v.kind == Kind::computed : g.kind == Kind::grad;
    }

    bool view_of_dense(const Node& node) const {
        const Placement& p = plan_.of[static_cast<size_t>(node.in[0])];
        return p.row_stride == columns(graph_.type(node.in[0])) || graph_.type(node.in[0]).shape.size() <= 1;
    }

    bool names_columns(const Node& node) const {
        const auto rank = static_cast<int64_t>(graph_.type(node.in[0]).shape.size());
        const int64_t axis = node.attrs.as<Split>().axis;
        if (axis != -1 && axis != rank - 1) return false;
        for (const ValueId out : node.out) {
            for (const int reader : readers_[static_cast<size_t>(out)])
                if (!graph_.nodes[static_cast<size_t>(reader)].op->strided) return false;
            if (static_cast<int>(readers_[static_cast<size_t>(out)].size()) != uses_[static_cast<size_t>(out)])
                return false;  // also a result
        }
        return true;
    }

    const Graph& graph_;
    const std::vector<int> uses_;
    std::vector<int> last_use_;
    std::vector<std::vector<int>> readers_;
    std::vector<Part> part_of_;
    MemoryPlan plan_;
};

}  // namespace

MemoryPlan group_values(const Graph& graph, Gradients gradients) { return Grouper(graph).run(gradients); }

void place_groups(const Graph& graph, const std::vector<int64_t>& scratch_bytes, MemoryPlan& plan) {
    struct Block {
        int64_t bytes;
        int first, last;
        int64_t* offset;
    };
    std::vector<Block> blocks;
    const auto nodes = static_cast<int>(graph.nodes.size());
    plan.scratch.assign(graph.nodes.size(), 0);
    for (Group& g : plan.groups)
        if (in_arena(g)) blocks.push_back({aligned(g.bytes), g.first, g.last, &g.arena_offset});
    for (int i = 0; i < nodes; ++i)
        if (scratch_bytes[static_cast<size_t>(i)] > 0)
            blocks.push_back({aligned(scratch_bytes[static_cast<size_t>(i)]), i,
                              plan.scratch_last.empty() ? i : plan.scratch_last[static_cast<size_t>(i)],
                              &plan.scratch[static_cast<size_t>(i)]});

    std::vector<int64_t> live(static_cast<size_t>(nodes) + 2, 0);
    for (const Block& b : blocks)
        for (int i = b.first; i <= b.last; ++i) live[static_cast<size_t>(i)] += b.bytes;
    plan.lower_bound_bytes = *std::max_element(live.begin(), live.end());

    // Largest first, each at the lowest address that is free during its whole life; longer lives first among equals.
    std::stable_sort(blocks.begin(), blocks.end(), [](const Block& a, const Block& b) {
        return a.bytes != b.bytes ? a.bytes > b.bytes : a.last - a.first > b.last - b.first;
    });
    std::vector<const Block*> by_offset;
    for (Block& b : blocks) {
        int64_t at = 0;
        for (const Block* other : by_offset) {
            if (other->last < b.first || other->first > b.last) continue;
            if (*other->offset >= at + b.bytes) break;
            at = std::max(at, *other->offset + other->bytes);
        }
        *b.offset = at;
        plan.arena_bytes = std::max(plan.arena_bytes, at + b.bytes);
        by_offset.insert(std::upper_bound(by_offset.begin(), by_offset.end(), &b,
                                          [](const Block* x, const Block* y) { return *x->offset < *y->offset; }),
                         &b);
    }
}

std::string memory_table(const Graph& graph, const MemoryPlan& plan) {
    std::string text = fmt::format("# {}: arena {} bytes, most alive at one time {} bytes\n# offset bytes first last name\n", graph.name,
                                   plan.arena_bytes, plan.lower_bound_bytes);
    for (const Group& g : plan.groups)
        if (in_arena(g)) text += fmt::format("{} {} {} {} {}\n", g.arena_offset, g.bytes, g.first, g.last, g.name);
    return text;
}

}  // namespace ds
