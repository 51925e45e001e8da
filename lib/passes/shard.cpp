// Tensor parallelism: rewrites the forward graph of one rank so that matrix products, attention and the loss are computed for its share only, and puts
// exchanges where shares meet (Shoeybi et al. 2019, arXiv 1909.08053). No model knows of it: what may be cut follows from the ops' shard rules.
//
// Walks the nodes in order and knows of each value whether it is whole, cut or partial (a summand). A product by a weight is cut by columns where
// everything that reads it can work on columns up to the next product, which is then cut by rows; the unit in which columns are dealt out is what
// attention needs, whole heads. Cross-entropy over a vocabulary is cut by rows of its input. What can't be cut is computed by every rank alike.
#include <map>
#include <optional>
#include <set>

#include "ir/builder.h"
#include "passes/pass.h"

namespace ds::passes {
namespace {

struct Place {
    Cut cut;
    bool partial = false;
    bool whole() const { return cut.whole() && !partial; }
};

struct Units { int64_t period, units; };  // of a value's last dimension

class Sharder {
public:
    Sharder(Graph& graph, const TensorLayout& layout) : graph_(graph), layout_(layout), b_(graph) {}

    Status run() {
        full_.reserve(graph_.values.size());
        for (const Value& v : graph_.values) full_.push_back(v.type);
        place_.resize(graph_.values.size());
        original_ = std::move(graph_.nodes);
        graph_.nodes.clear();
        readers_.resize(full_.size());
        for (const Node& node : original_)
            for (size_t i = 0; i < node.in.size(); ++i)
                if (node.in[i] != kNone) readers_[index(node.in[i])].push_back({&node, i});
        for (auto& [name, id] : graph_.outputs) result_.insert(id);
        for (const ValueId id : graph_.inputs) place_param(id);
        for (const Node& node : original_) DS_CHECK(rewrite(node));
        for (auto& [name, id] : graph_.outputs) id = whole(id);
        if (graph_.loss != kNone) graph_.loss = whole(graph_.loss);
        return b_.status();
    }

private:
    static size_t index(ValueId id) { return static_cast<size_t>(id); }
    int n() const { return layout_.ranks; }
    const Shape& full(ValueId id) const { return full_[index(id)].shape; }
    int last_dim(ValueId id) const { return static_cast<int>(full(id).size()) - 1; }
    bool is_param(ValueId id) const { return id != kNone && graph_.value(id).kind == Kind::param; }
    Place& place(ValueId id) {
        if (place_.size() < graph_.values.size()) place_.resize(graph_.values.size()), full_.resize(graph_.values.size());
        return place_[index(id)];
    }
    bool cut(ValueId id) { return id != kNone && !place(id).cut.whole(); }

    // Where this engine already holds parameters, their cuts stand.
    void place_param(ValueId id) {
        if (!is_param(id) || !layout_.known) return;
        const auto found = layout_.known->find(graph_.value(id).name);
        if (found != layout_.known->end()) hold(id, found->second);
    }
    void hold(ValueId id, const Cut& c) {
        decided_.insert(id);
        if (c.whole()) return;
        place(id).cut = c;
        graph_.value(id).cut = c;
        int64_t& size = graph_.value(id).type.shape[static_cast<size_t>(c.dim)];
        size = c.local(size, layout_.rank, n());
    }

    Share share_of(ValueId id, const Cut& c) {
        return {.group = static_cast<int64_t>(MeshAxis::tensor), .rank = layout_.rank, .ranks = n(), .dim = c.dim,
                .full = full(id)[static_cast<size_t>(c.dim)], .period = c.period, .units = c.units};
    }
    ValueId made(ValueId from, ValueId to, const Place& where) {
        place(to) = where;
        full_[index(to)] = full_[index(from)];
        return to;
    }

    // A value for this rank's summand of another.
    ValueId part_of(ValueId id) {
        Value part = graph_.value(id);
        part.name += ".part";
        part.boundary = 0;
        return made(id, graph_.add_value(std::move(part)), {});
    }

    // The same on every rank, for nodes that every rank runs alike.
    ValueId whole(ValueId id) {
        if (id == kNone || place(id).whole()) return id;
        if (const auto known = whole_.find(id); known != whole_.end()) return known->second;
        const ValueId to = place(id).partial ? b_.call("all_reduce", {id}, kGroup) : b_.call("all_gather", {id}, share_of(id, place(id).cut));
        return whole_[id] = made(id, to, {});
    }
    // The same on every rank, for nodes that each rank runs for its share.
    ValueId whole_for_shares(ValueId id) {
        if (id == kNone) return id;
        if (const auto known = replicated_.find(id); known != replicated_.end()) return known->second;
        ValueId to;
        if (cut(id)) {
            Share share = share_of(id, place(id).cut);
            share.sum_gradient = true;
            to = b_.call("all_gather", {id}, share);
        } else {
            if (is_param(id)) decided_.insert(id);
            to = is_float(graph_.type(id).dtype) ? b_.call("replicate", {whole(id)}, kGroup) : whole(id);
        }
        return replicated_[id] = made(id, to, {});
    }
    ValueId in_cut(ValueId id, const Cut& c) {
        if (id == kNone || place(id).cut == c) return id;
        if (is_param(id) && !decided_.contains(id) && readers_[index(id)].size() == 1) {
            hold(id, c);
            return id;
        }
        if (is_param(id)) decided_.insert(id);
        return made(id, b_.call("take_share", {whole(id)}, share_of(id, c)), {c, false});
    }

    // Appends the node with these operands; its results are where `places` says.
    Status emit(Node node, const std::vector<ValueId>& in, const std::vector<Place>& places) {
        node.in = in;
        DS_TRY(const auto types, infer(*node.op, node.attrs, graph_.types(in)));
        for (size_t i = 0; i < node.out.size(); ++i) {
            graph_.value(node.out[i]).type = types[i];
            place(node.out[i]) = i < places.size() ? places[i] : Place{};
        }
        graph_.nodes.push_back(std::move(node));
        return b_.status();
    }

    Status rewrite(const Node& node) {
        const std::string_view op = node.op->name;
        if (op == "matmul") return matmul(node);
        if (op == "linear_cross_entropy") return loss(node);
        bool any = false;
        for (const ValueId id : node.in) any |= cut(id);
        if (!any) return alike(node);
        if (op == "attention") return attention(node);
        if (op == "split") return split(node);
        if (op == "reshape") return reshape(node);
        return by_rule(node);
    }

    Status alike(const Node& node) {
        std::vector<ValueId> in;
        for (const ValueId id : node.in) {
            if (is_param(id) && !cut(id)) decided_.insert(id);
            in.push_back(whole(id));
        }
        return emit(node, in, {});
    }

    Status by_rule(const Node& node) {
        if (!node.op->shard) return alike(node);
        for (const ShardWay& way : ways_of(node)) {
            std::optional<Cut> first;
            bool fits = true;
            for (size_t i = 0; i < node.in.size() && fits; ++i) {
                if (!cut(node.in[i])) continue;
                const Cut& c = place(node.in[i]).cut;
                fits = c.dim == way.in[i] && (!first || (first->period == c.period && first->units == c.units));
                if (!first) first = c;
            }
            for (const int dim : way.out) fits &= dim != kPartial;
            if (!fits || !first) continue;
            std::vector<ValueId> in;
            for (size_t i = 0; i < node.in.size(); ++i)
                in.push_back(way.in[i] >= 0 ? in_cut(node.in[i], {way.in[i], first->period, first->units}) : whole_for_shares(node.in[i]));
            std::vector<Place> places;
            for (const int dim : way.out) places.push_back({dim >= 0 ? Cut{dim, first->period, first->units} : Cut{}, false});
            return emit(node, in, places);
        }
        return alike(node);
    }

    // The rule looks at types: it is asked about the whole graph's.
    std::vector<ShardWay> ways_of(const Node& node) {
        std::vector<Type> kept;
        const auto with = [&](ValueId id) {
            if (id == kNone) return;
            kept.push_back(graph_.value(id).type);
            graph_.value(id).type = full_[index(id)];
        };
        for (const ValueId id : node.in) with(id);
        auto ways = node.op->shard(graph_, node);
        for (size_t i = node.in.size(), k = kept.size(); i-- > 0;)
            if (node.in[i] != kNone) graph_.value(node.in[i]).type = kept[--k];
        return ways;
    }

    Status matmul(const Node& node) {
        const auto& m = node.attrs.as<Matmul>();
        const ValueId a = node.in[0], w = node.in[1], bias = node.in.size() > 2 ? node.in[2] : kNone;
        const bool weight = is_param(w) && full(w).size() == 2 && !m.transpose_a && node.in.size() <= 3;
        if (weight && cut(a) && place(a).cut.dim == last_dim(a)) return by_rows(node, a, w, bias);
        if (weight && !cut(a)) {
            if (const auto columns = column_units(node, w)) {
                const int dim = m.transpose_b ? 0 : 1;
                std::vector<ValueId> in{whole_for_shares(whole(a)), in_cut(w, {dim, columns->period, columns->units})};
                if (bias != kNone) in.push_back(in_cut(bias, {0, columns->period, columns->units}));
                return emit(node, in, {{Cut{last_dim(node.out[0]), columns->period, columns->units}, false}});
            }
        }
        return by_rule_or_alike(node);
    }
    Status by_rule_or_alike(const Node& node) {
        bool any = false;
        for (const ValueId id : node.in) any |= cut(id);
        return any ? by_rule(node) : alike(node);
    }

    // Each rank multiplies its columns of `a` by its rows of the weight: a summand. The bias is added once, to the sum.
    Status by_rows(const Node& node, ValueId a, ValueId w, ValueId bias) {
        const Cut c = place(a).cut;
        const int dim = node.attrs.as<Matmul>().transpose_b ? 1 : 0;
        Node product = node;
        if (bias != kNone) {
            product.out = {part_of(node.out[0])};
        }
        DS_CHECK(emit(product, {a, in_cut(w, {dim, c.period, c.units})}, {{Cut{}, true}}));
        if (bias == kNone) return ok();
        decided_.insert(bias);
        return emit(Node{.op = find_op("add"), .out = node.out}, {whole(product.out[0]), whole(bias)}, {});
    }

    // In which units a product's columns can be dealt out, if at all.
    std::optional<Units> column_units(const Node& node, ValueId w) {
        const int dim = node.attrs.as<Matmul>().transpose_b ? 0 : 1;
        if (cut(w)) {
            const Cut& c = place(w).cut;
            return c.dim == dim ? std::optional(Units{c.period, c.units}) : std::nullopt;
        }
        if (decided_.contains(w) || readers_[index(w)].size() != 1) return {};
        const auto units = units_of(node.out[0], last_dim(node.out[0]), full(node.out[0]).back());
        return units && units->units >= n() ? units : std::nullopt;
    }

    // Follows a value that would be cut along `dim`, with this period, to what reads it.
    std::optional<Units> units_of(ValueId id, int dim, int64_t period) {
        if (result_.contains(id) || id == graph_.loss || readers_[index(id)].empty()) return {};
        std::optional<Units> all;
        for (const auto& [node, operand] : readers_[index(id)]) {
            const auto units = units_of_reader(*node, operand, id, dim, period);
            if (!units || (all && all->period != units->period)) return {};
            if (!all || units->units < all->units) all = units;
        }
        return all;
    }

    std::optional<Units> units_of_reader(const Node& node, size_t operand, ValueId id, int dim, int64_t period) {
        const std::string_view op = node.op->name;
        const Shape& shape = full(id);
        const bool columns = dim == static_cast<int>(shape.size()) - 1;
        if (op == "attention") return columns && operand < 3 ? head_units(node, operand, period) : std::nullopt;
        if (op == "matmul") {
            if (!columns || operand != 0 || node.attrs.as<Matmul>().transpose_a || !is_param(node.in[1]) || full(node.in[1]).size() != 2) return {};
            return Units{period, period % kGrain == 0 && period / kGrain >= n() ? period / kGrain : period};
        }
        if (op == "split") {
            const auto axis = node.attrs.as<Split>().axis;
            const bool along = dim == (axis < 0 ? axis + static_cast<int64_t>(shape.size()) : axis);  // else each part is cut as the whole
            if (along && (!columns || period != shape.back() || full(node.out[0]).back() * static_cast<int64_t>(node.out.size()) != period)) return {};
            std::optional<Units> all;
            for (const ValueId part : node.out) {
                const auto units = units_of(part, dim, along ? full(part).back() : period);
                if (!units || (all && all->period != units->period)) return {};
                if (!all || units->units < all->units) all = units;
            }
            return all;
        }
        if (op == "reshape") {
            const Cut to = reshaped({dim, period, 1}, shape, full(node.out[0]));
            if (to.whole()) return {};
            const auto units = units_of(node.out[0], to.dim, to.period);
            const int64_t unit_ratio = std::max(period, to.period) / std::min(period, to.period);
            if (!units) return {};
            const Units back{period, units->units};
            return to.period < period ? (period / back.units % unit_ratio == 0 ? std::optional(back) : std::nullopt) : std::optional(Units{period, std::min(units->units, period)});
        }
        if (op == "rope" || op == "rmsnorm" || op == "layernorm" || op == "dropout" || op == "cast" || op == "scale" || node.op->in_place) {
            if (node.out.empty() || full(node.out[0]) != shape) return {};
            if ((op == "rmsnorm" || op == "layernorm" || op == "dropout") && columns) return {};
            return units_of(node.out[0], dim, period);
        }
        return {};
    }

    struct Heads { int64_t query, key; };
    Heads heads_of(const Node& attention) {
        const auto& a = attention.attrs.as<Attention>();
        const bool rank4 = full(attention.in[0]).size() == 4;
        if (rank4) return {full(attention.in[0])[2], full(attention.in[1])[2]};
        return {a.heads, a.kv_heads ? a.kv_heads : a.heads};
    }
    // Key-value heads are dealt out with their queries; where there are fewer than ranks, every rank has them all.
    std::optional<Units> head_units(const Node& node, size_t operand, int64_t period) {
        const Heads heads = heads_of(node);
        if (heads.key >= n()) return Units{period, heads.key};
        return operand == 0 && heads.query >= n() ? std::optional(Units{period, heads.query}) : std::nullopt;
    }

    Status attention(const Node& node) {
        if (full(node.in[0]).size() == 4 || !cut(node.in[0]) || place(node.in[0]).cut.dim != last_dim(node.in[0])) return by_rule(node);
        const Heads heads = heads_of(node);
        const Cut q = place(node.in[0]).cut;
        const Interval units = near_even(q.units, layout_.rank, n());
        const Interval mine{units.begin * (heads.query / q.units), units.end * (heads.query / q.units)};
        Attention attrs = node.attrs.as<Attention>();
        attrs.heads = mine.size();
        attrs.first_head = mine.begin;
        attrs.all_heads = heads.query;
        std::vector<ValueId> in = node.in;
        const bool with_queries = cut(node.in[1]) && cut(node.in[2]) && q.units == heads.key;
        if (with_queries) {
            attrs.kv_heads = units.size();
        } else {
            for (size_t i = 1; i < 3; ++i) {
                DS_TRY(in[i], keys_for(node.in[i], mine, heads, attrs.kv_heads));
            }
        }
        for (size_t i = 3; i < in.size(); ++i) in[i] = whole_for_shares(node.in[i]);
        Node local = node;
        local.attrs = attrs;
        return emit(local, in, {{q, false}, {Cut{1, heads.query, q.units}, false}});
    }

    // The key or value heads that these query heads look at, out of all: repeated where their groups are uneven.
    Result<ValueId> keys_for(ValueId id, Interval queries, const Heads& heads, int64_t& kv_heads) {
        const int64_t group = heads.query / heads.key, size = full(id).back() / heads.key, first = queries.begin / group, last = (queries.end - 1) / group;
        const ValueId all = whole_for_shares(id);
        const auto columns = [&](int64_t begin, int64_t end) { return b_.call("slice", {all}, Slice{-1, begin * size, end * size}); };
        const bool even = first == last || (queries.begin % group == 0 && queries.end % group == 0);
        if (even) {
            kv_heads = last - first + 1;
            return made(id, columns(first, last + 1), {});
        }
        std::vector<ValueId> each;
        for (int64_t head = queries.begin; head < queries.end; ++head) each.push_back(columns(head / group, head / group + 1));
        kv_heads = queries.size();
        return made(id, b_.call("concat", each, ds::Axis{-1}), {});
    }

    // Parts of one size that lie side by side, each cut alike.
    Status split(const Node& node) {
        const Cut c = place(node.in[0]).cut;
        const auto& attrs = node.attrs.as<Split>();
        const auto rank = static_cast<int64_t>(full(node.in[0]).size());
        if (c.dim != (attrs.axis < 0 ? attrs.axis + rank : attrs.axis)) return emit(node, node.in, std::vector<Place>(node.out.size(), Place{c, false}));
        Split local = attrs;
        std::vector<Place> places;
        for (size_t i = 0; i < attrs.sizes.size(); ++i) {
            if (attrs.sizes[i] % c.period) return alike(node);
            local.sizes[i] = c.local(attrs.sizes[i], layout_.rank, n());
            places.push_back({c, false});
        }
        Node part = node;
        part.attrs = local;
        return emit(part, node.in, places);
    }

    // Where a cut is after a reshape that folds or unfolds the last dimension; whole where it can't be told.
    static Cut reshaped(const Cut& c, const Shape& from, const Shape& to) {
        if (from.empty() || to.empty()) return {};
        if (c.dim == 0 && from[0] == to[0] && (from.size() == 1 || c.period == from[0])) return c;
        const int64_t a = from.back(), b = to.back();
        if (from.size() == 2 && to.size() == 2 && c.dim == 1 && b < a && a % b == 0 && c.period % b == 0 && (c.period / c.units) % b == 0) return {0, c.period / b, c.units};
        if (from.size() == 2 && to.size() == 2 && c.dim == 0 && a < b && b % a == 0 && (b / a) % c.period == 0) return {1, c.period * a, c.units};
        return {};
    }

    Status reshape(const Node& node) {
        const Cut to = reshaped(place(node.in[0]).cut, full(node.in[0]), full(node.out[0]));
        if (to.whole()) return alike(node);
        Shape shape = full(node.out[0]);
        shape[static_cast<size_t>(to.dim)] = to.local(shape[static_cast<size_t>(to.dim)], layout_.rank, n());
        Node part = node;
        part.attrs = Reshape{shape};
        return emit(part, node.in, {{to, false}});
    }

    // Each rank takes some rows; the mean over all of them is the sum of theirs, weighted by their labels.
    Status loss(const Node& node) {
        const int64_t rows = full(node.in[0])[0];
        if (rows < n() * kGrain) return alike(node);
        const Cut by_row{0, rows, rows};
        const ValueId labels = in_cut(node.in[3], by_row);
        Node part = node;
        part.out[0] = part_of(node.out[0]);
        DS_CHECK(emit(part, {in_cut(whole(node.in[0]), by_row), whole_for_shares(node.in[1]), whole_for_shares(node.in[2]), labels}, {{}, {by_row, false}}));
        const ValueId weight = b_.call("label_share", {labels, whole(node.in[3])}, node.attrs);
        made(node.out[0], weight, {});
        return emit(Node{.op = find_op("mul"), .out = {node.out[0]}}, {part.out[0], weight}, {{Cut{}, true}});
    }

    static constexpr Exchange kGroup{static_cast<int64_t>(MeshAxis::tensor)};
    static constexpr int64_t kGrain = 16;  // columns or rows: fewer are not worth an exchange

    Graph& graph_;
    const TensorLayout& layout_;
    Builder b_;
    std::vector<Node> original_;
    std::vector<Type> full_;
    std::vector<Place> place_;
    std::vector<std::vector<std::pair<const Node*, size_t>>> readers_;
    std::set<ValueId> result_, decided_;
    std::map<ValueId, ValueId> whole_, replicated_;
};

}  // namespace

Status shard(Graph& graph, const PassOptions& options) {
    if (!options.tensor || options.tensor->ranks == 1) return ok();
    return Sharder(graph, *options.tensor).run();
}

}  // namespace ds::passes
