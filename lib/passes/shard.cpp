// Tensor parallelism: rewrites the forward graph of one rank so that matrix products, attention and the loss are computed for its share
// only, and puts exchanges where shares meet (Shoeybi et al. 2019, arXiv 1909.08053). No model knows of it: what may be cut follows from
// the ops' shard rules.
//
// Walks the nodes in order and knows of each value whether it is whole, cut or partial (a summand). A product by a weight is cut by columns
// where everything that reads it can work on columns up to the next product, which is then cut by rows; the unit in which columns are dealt
// out is what attention needs, whole heads. Words of a vocabulary are dealt out where a table is looked up and where it gives logits. What
// can't be cut is computed by every rank alike.
#include <deque>
#include <map>
#include <optional>
#include <set>

#include "ir/builder.h"
#include "ops/attrs_parallel.h"
#include "passes/cost.h"
#include "passes/pass.h"

namespace ds::passes {
namespace {

struct Place {
    Cut cut;
    bool partial = false;
    bool whole() const { return cut.whole() && !partial; }
};

struct Units {
    int64_t period, units;
};  // of a value's last dimension

class Sharder {
public:
    Sharder(Graph& graph, const TensorLayout& layout, std::string* choices)
        : graph_(graph), layout_(layout), choices_(choices), b_(graph) {}

    Status run() {
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
        if (!layout_.known) place_vocabularies();
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
    // Words are dealt out where a table is looked up and where it gives logits: what ranks exchange then is as large as the tokens, not as
    // the table.
    void place_vocabularies() {
        for (const ValueId id : graph_.inputs) {
            if (!is_param(id) || full(id).size() != 2 || readers_[index(id)].empty()) continue;
            bool fits = true, head = false;
            for (const auto& [node, operand] : readers_[index(id)]) {
                const bool gives_logits = gives_only_logits(*node, operand);
                head |= gives_logits;
                fits &= gives_logits || (node->op->name == "embedding" && operand == 0);
            }
            const int64_t words = full(id)[0];
            if (fits && words >= (head ? kWords : kLookedUpWords) && words >= n()) hold(id, {0, words, words});
        }
    }
    bool gives_only_logits(const Node& node, size_t operand) const {
        if (operand != 1) return false;
        if (node.op->name == "linear_cross_entropy") return true;
        if (node.op->name != "matmul" || node.in.size() > 3 || !node.attrs.as<Matmul>().transpose_b ||
            node.attrs.as<Matmul>().transpose_a || full(node.in[0]).size() != 2)
            return false;
        bool only = result_.contains(node.out[0]) || !readers_[index(node.out[0])].empty();
        for (const auto& [reader, at] : readers_[index(node.out[0])])
            only &= at == 0 && (reader->op->name == "cross_entropy" || reader->op->name == "embedding");
        return only;
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
        return {
            .group = static_cast<int64_t>(MeshAxis::tensor),
            .rank = layout_.rank,
            .ranks = n(),
            .dim = c.dim,
            .full = full(id)[static_cast<size_t>(c.dim)],
            .period = c.period,
            .units = c.units,
        };
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
        const ValueId to =
            place(id).partial ? b_.call("all_reduce", {id}, kGroup) : b_.call("all_gather", {id}, share_of(id, place(id).cut));
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
        if (op == "grouped_matmul") return grouped(node);
        if (op == "combine" && place(node.in[0]).partial)  // a sum of rows: each rank adds up its summands
            return emit(node, {node.in[0], whole_for_shares(node.in[1]), whole(node.in[2])}, {{Cut{}, true}});
        if (op == "linear_cross_entropy") return loss(node);
        if (op == "embedding" && is_param(node.in[0]) && cut(node.in[0]) && place(node.in[0]).cut.dim == 0) return words_of_ids(node);
        bool any = false;
        for (const ValueId id : node.in) any |= cut(id);
        if (!any) return alike(node);
        if (is_attention(node)) return attention(node);
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
        if (node.op->name == "dropout" && (node.in.size() < 2 || node.in[1] == kNone))
            return alike(node);  // random numbers belong to rows of the whole
        for (const ShardWay& way : ways_of(node)) {
            std::optional<Cut> first;
            int64_t size = 0;
            bool fits = true;
            for (size_t i = 0; i < node.in.size() && fits; ++i) {
                if (!cut(node.in[i])) continue;
                const Cut& c = place(node.in[i]).cut;
                fits = c.dim == way.in[i] && (!first || (first->period == c.period && first->units == c.units));
                if (!first) first = c, size = full(node.in[i])[static_cast<size_t>(c.dim)];
            }
            // The same part of a dimension that is longer would be other rows.
            for (size_t i = 0; i < node.in.size() && fits; ++i)
                if (way.in[i] >= 0 && node.in[i] != kNone) fits = full(node.in[i])[static_cast<size_t>(way.in[i])] == size;
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
        if (weight && (!cut(a) || by_token(a))) {
            through_attention_ = false;
            const auto columns = column_units(node, w);
            switch (cheapest_product(node, columns.has_value())) {
            case ProductWay::alike: return alike(node);
            case ProductWay::tokens: return by_tokens(node, a, w, bias);
            case ProductWay::columns: break;
            }
            const int dim = m.transpose_b ? 0 : 1;
            std::vector<ValueId> in{for_shares(a), in_cut(w, {dim, columns->period, columns->units})};
            if (bias != kNone) in.push_back(in_cut(bias, {0, columns->period, columns->units}));
            return emit(node, in, {{Cut{last_dim(node.out[0]), columns->period, columns->units}, false}});
        }
        return by_rule_or_alike(node);
    }
    // As a product by one weight; each group's is cut alike.
    Status grouped(const Node& node) {
        const ValueId a = node.in[0];
        const int dim = node.attrs.as<Matmul>().transpose_b ? 0 : 1;
        bool weights = true;
        for (size_t i = 2; i < node.in.size(); ++i) weights &= is_param(node.in[i]) && place(node.in[i]).cut == place(node.in[2]).cut;
        const auto in_cuts = [&](ValueId first, const Cut& c) {
            std::vector<ValueId> in{first, whole(node.in[1])};
            for (size_t i = 2; i < node.in.size(); ++i) in.push_back(in_cut(node.in[i], c));
            return in;
        };
        if (weights && cut(a) && place(a).cut.dim == 1) {
            const Cut c = place(a).cut;
            return emit(node, in_cuts(a, {1 - dim, c.period, c.units}), {{Cut{}, true}});
        }
        if (weights && !cut(a)) {
            if (const auto columns = column_units(node, node.in[2]))
                return emit(node, in_cuts(whole_for_shares(whole(a)), {dim, columns->period, columns->units}),
                            {{Cut{1, columns->period, columns->units}, false}});
        }
        return by_rule_or_alike(node);
    }

    // Each rank multiplies its rows of `a` by the whole weight.
    Status by_tokens(const Node& node, ValueId a, ValueId w, ValueId bias) {
        const Cut c = by_token(a) ? place(a).cut : token_cut(full(a));
        std::vector<ValueId> in{in_cut(a, c), whole_for_shares(w)};
        if (bias != kNone) in.push_back(whole_for_shares(bias));
        return emit(node, in, {{c, false}});
    }

    // The first dimension that ranks can share, all but the last: rows of a batch, or tokens.
    Cut token_cut(const Shape& shape) const {
        for (size_t d = 0; d + 1 < shape.size(); ++d)
            if (shape[d] >= n()) return {static_cast<int>(d), shape[d], shape[d]};
        return {};
    }
    bool by_token(ValueId id) { return cut(id) && place(id).cut.dim < last_dim(id); }
    ValueId for_shares(ValueId id) { return whole_for_shares(cut(id) ? id : whole(id)); }

    enum class ProductWay { columns, tokens, alike };
    // Dealt out by columns, inputs are gathered (or their gradients summed) here and results summed after the next product; dealt out by
    // tokens, weights are gathered (or their gradients summed). The next product is taken to be as large as this one.
    ProductWay cheapest_product(const Node& node, bool has_columns) {
        const ValueId a = node.in[0], w = node.in[1];
        const bool dealt = by_token(a), may = layout_.known && layout_.regions != TensorLayout::Regions::off &&
                                              !token_cut(full(a)).whole() && !(has_columns && through_attention_);
        if (!may) return has_columns ? ProductWay::columns : ProductWay::alike;
        const auto rows = static_cast<double>(elements(full(a)) / full(a).back()), x = 4.0 * static_cast<double>(elements(full(a)));
        const double weights = 4.0 * static_cast<double>(elements(full(w))), y = 4.0 * static_cast<double>(elements(full(node.out[0]))),
                     others = (n() - 1.0) / n();
        const double flops = 6.0 / 4.0 * rows * weights;
        const std::string what =
            fmt::format("product of {} rows, {} by {}", static_cast<int64_t>(rows), full(a).back(), full(node.out[0]).back());
        if (has_columns) {
            const double columns = seconds(flops / n(), 4 * x * others, 4),
                         tokens = seconds(flops / n(), 4 * weights * others + (dealt ? 0 : 2 * x * others), dealt ? 4 : 6);
            return tell(what, {{"columns", columns}, {"tokens", tokens}}) == 0 ? ProductWay::columns : ProductWay::tokens;
        }
        const double alike = seconds(flops, (dealt ? x * others : 0) + (cut(w) ? weights * others : 0), dealt + cut(w)),
                     tokens = seconds(flops / n(), 2 * weights * others + (dealt ? 0 : x * others) + 2 * y * others, dealt ? 4 : 5);
        return tell(what, {{"alike", alike}, {"tokens", tokens}}) == 0 ? ProductWay::alike : ProductWay::tokens;
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
        const bool dealt = deals_out(node.out[0]);
        if (bias != kNone || dealt) product.out = {part_of(node.out[0])};
        DS_CHECK(emit(product, {a, in_cut(w, {dim, c.period, c.units})}, {{Cut{}, true}}));
        if (bias == kNone) return dealt ? deal_out(product.out[0], node.out[0]) : ok();
        decided_.insert(bias);
        if (!dealt) return emit(Node{.op = find_op("add"), .out = node.out}, {whole(product.out[0]), whole(bias)}, {});
        const Cut tokens = token_cut(full(node.out[0]));
        const ValueId mine = made(node.out[0], b_.call("reduce_scatter", {product.out[0]}, share_of(node.out[0], tokens)), {tokens, false});
        return emit(Node{.op = find_op("add"), .out = node.out}, {mine, whole_for_shares(bias)}, {{tokens, false}});
    }

    // Each rank gets its tokens of a sum, instead of all of it.
    Status deal_out(ValueId part, ValueId to) {
        const Cut tokens = token_cut(full(to));
        return emit(Node{.op = find_op("reduce_scatter"), .attrs = share_of(to, tokens), .out = {to}}, {part}, {{tokens, false}});
    }

    // Norms, dropout and sums between products are dealt out where that saves more than the exchanges it adds: of the norms' gradients.
    bool deals_out(ValueId sum) {
        if (layout_.regions == TensorLayout::Regions::off || result_.contains(sum) || token_cut(full(sum)).whole()) return false;
        if (layout_.regions == TensorLayout::Regions::on) return true;
        constexpr double kPasses = 10, kMemoryBytesASecond = 10e9;
        const double each = kPasses * 4.0 * static_cast<double>(elements(full(sum))) / kMemoryBytesASecond;
        return tell(fmt::format("norms and sums of {}", dims_to_string(full(sum))),
                    {{"alike", each}, {"tokens", seconds(0, 0, 4) + each / n()}}) == 1;
    }

    // In which units a product's columns can be dealt out, if at all.
    std::optional<Units> column_units(const Node& node, ValueId w) {
        const int dim = node.attrs.as<Matmul>().transpose_b ? 0 : 1;
        const auto units = units_of(node.out[0], last_dim(node.out[0]), full(node.out[0]).back());
        if (cut(w)) {
            const Cut& c = place(w).cut;
            return c.dim == dim ? std::optional(Units{c.period, c.units}) : std::nullopt;
        }
        if (decided_.contains(w) || readers_[index(w)].size() != 1) return {};
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
        if (is_attention(node)) return columns && operand < 3 ? head_units(node, operand, period) : std::nullopt;
        if (op == "grouped_matmul")
            return columns && operand == 0 && is_param(node.in[2])
                       ? std::optional(Units{period, period % kGrain == 0 && period / kGrain >= n() ? period / kGrain : period})
                       : std::nullopt;
        if (op == "matmul") {
            if (!columns || operand != 0 || node.attrs.as<Matmul>().transpose_a || !is_param(node.in[1]) || full(node.in[1]).size() != 2)
                return {};
            return Units{period, period % kGrain == 0 && period / kGrain >= n() ? period / kGrain : period};
        }
        if (op == "split") {
            const auto axis = node.attrs.as<Split>().axis;
            const bool along = dim == (axis < 0 ? axis + static_cast<int64_t>(shape.size()) : axis);  // else each part is cut as the whole
            if (along && (!columns || period != shape.back() || full(node.out[0]).back() * static_cast<int64_t>(node.out.size()) != period))
                return {};
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
            return to.period < period ? (period / back.units % unit_ratio == 0 ? std::optional(back) : std::nullopt)
                                      : std::optional(Units{period, std::min(units->units, period)});
        }
        if (op == "rope" || op == "rmsnorm" || op == "layernorm" || op == "dropout" || op == "cast" || op == "scale" || node.op->in_place) {
            if (node.out.empty() || full(node.out[0]) != shape) return {};
            if ((op == "rmsnorm" || op == "layernorm" || op == "dropout") && columns) return {};
            return units_of(node.out[0], dim, period);
        }
        return {};
    }

    static bool is_attention(const Node& node) { return node.op->name == "attention" || node.op->name == "sequence_attention"; }
    // The attributes of attention, where they may belong to a sequence_attention.
    static void set_attention(Node& node, const Attention& attrs) {
        if (node.op->name == "attention") {
            node.attrs = attrs;
            return;
        }
        auto piece = node.attrs.as<SequenceAttention>();
        piece.of = attrs;
        node.attrs = piece;
    }

    struct Heads {
        int64_t query, key;
    };
    Heads heads_of(const Node& attention) {
        const auto& a = attention.attrs.as<Attention>();
        const bool rank4 = full(attention.in[0]).size() == 4;
        if (rank4) return {full(attention.in[0])[2], full(attention.in[1])[2]};
        return {a.heads, a.kv_heads ? a.kv_heads : a.heads};
    }
    // Key-value heads are dealt out with their queries; where there are fewer than ranks, every rank has them all.
    std::optional<Units> head_units(const Node& node, size_t operand, int64_t period) {
        const Heads heads = heads_of(node);
        through_attention_ = true;
        if (heads.key >= n()) return Units{period, heads.key};
        return operand == 0 && heads.query >= n() ? std::optional(Units{period, heads.query}) : std::nullopt;
    }

    Status attention(const Node& node) {
        // Heads are dealt out where queries are. Where keys or values come in shares and queries whole, all heads are computed by every
        // rank.
        const auto by_columns = [&](size_t i) { return cut(node.in[i]) && place(node.in[i]).cut.dim == last_dim(node.in[i]); };
        if (full(node.in[0]).size() < 4 && !by_columns(0) && (by_columns(1) || by_columns(2))) return alike(node);
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
            for (size_t i = 1; i < 3; ++i) { DS_TRY(in[i], keys_for(node.in[i], mine, heads, attrs.kv_heads)); }
        }
        const bool plain = node.op->name == "attention";  // its inputs 9 and 10 are a bias and a layout
        for (size_t i = 3; i < in.size(); ++i)
            if (!plain || i != 9) in[i] = whole_for_shares(node.in[i]);
        if (plain && in.size() > 9 && in[9] != kNone) in[9] = in_cut(node.in[9], {1, heads.query, q.units});  // a bias a head
        if (plain && in.size() > 10 && in[10] != kNone && full(node.in[10])[0] > 1)
            in[10] = made(node.in[10], b_.call("slice", {in[10]}, Slice{0, mine.begin, mine.end}), {});
        Node local = node;
        set_attention(local, attrs);
        return emit(local, in, {{q, false}, {Cut{1, heads.query, q.units}, false}});
    }

    // The key or value heads that these query heads look at, out of all: repeated where their groups are uneven.
    Result<ValueId> keys_for(ValueId id, Interval queries, const Heads& heads, int64_t& kv_heads) {
        const int64_t group = heads.query / heads.key, size = full(id).back() / heads.key, first = queries.begin / group,
                      last = (queries.end - 1) / group;
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
        if (c.dim != (attrs.axis < 0 ? attrs.axis + rank : attrs.axis))
            return emit(node, node.in, std::vector<Place>(node.out.size(), Place{c, false}));
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
        if (from.size() == 2 && to.size() == 2 && c.dim == 1 && b < a && a % b == 0 && c.period % b == 0 && (c.period / c.units) % b == 0)
            return {0, c.period / b, c.units};
        if (from.size() == 2 && to.size() == 2 && c.dim == 0 && a < b && b % a == 0 && (b / a) % c.period == 0)
            return {1, c.period * a, c.units};
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

    // Each rank looks up its own words; the others are zero.
    Status words_of_ids(const Node& node) {
        const ValueId mine = b_.call("local_rows", {whole(node.in[1])}, share_of(node.in[0], place(node.in[0]).cut));
        made(node.in[1], mine, {});
        Node part = node;
        auto attrs = node.attrs.as<Embedding>();
        attrs.inside = false;
        if (const Interval words = place(node.in[0]).cut.part(layout_.rank, n()); attrs.padding >= 0)
            attrs.padding = attrs.padding >= words.begin && attrs.padding < words.end ? attrs.padding - words.begin : -1;
        part.attrs = attrs;
        if (!deals_out(node.out[0])) return emit(part, {node.in[0], mine}, {{Cut{}, true}});
        part.out = {part_of(node.out[0])};
        DS_CHECK(emit(part, {node.in[0], mine}, {{Cut{}, true}}));
        return deal_out(part.out[0], node.out[0]);
    }

    // Each rank has the logits of its words.
    Status loss_by_words(const Node& node) {
        const ValueId w = node.in[1], bias = node.in[2];
        const Cut& c = place(w).cut;
        const ShardedCrossEntropy attrs{node.attrs.as<CrossEntropy>(), share_of(w, c)};
        Node part = node;
        part.op = find_op("sharded_cross_entropy");
        part.attrs = attrs;
        return emit(part, {for_shares(node.in[0]), w, in_cut(bias, {0, c.period, c.units}), whole(node.in[3])}, {});
    }

    // Each rank takes some rows; the mean over all of them is the sum of theirs, weighted by their labels.
    Status loss(const Node& node) {
        const int64_t rows = full(node.in[0])[0];
        if (cut(node.in[1]) && place(node.in[1]).cut.dim == 0 && cheapest_loss(node) == LossWay::words) return loss_by_words(node);
        if (rows < n() * kGrain) return alike(node);
        const Cut by_row{0, rows, rows};
        const ValueId labels = in_cut(node.in[3], by_row);
        Node part = node;
        part.out[0] = part_of(node.out[0]);
        DS_CHECK(emit(part, {in_cut(node.in[0], by_row), whole_for_shares(node.in[1]), whole_for_shares(node.in[2]), labels},
                      {{}, {by_row, false}}));
        const ValueId weight = b_.call("label_share", {labels, whole(node.in[3])}, node.attrs);
        made(node.out[0], weight, {});
        return emit(Node{.op = find_op("mul"), .out = {node.out[0]}}, {part.out[0], weight}, {{Cut{}, true}});
    }

    enum class LossWay { words, rows };
    // Both halve the work. Dealt out by words, x's gradient is summed; by rows, the table is gathered and its gradient summed.
    LossWay cheapest_loss(const Node& node) {
        const Shape &x = full(node.in[0]), &w = full(node.in[1]);
        const double flops = 6.0 * static_cast<double>(x[0] * x[1]) * static_cast<double>(w[0]) / n(), others = (n() - 1.0) / n();
        const double by_words = seconds(flops, 8.0 * static_cast<double>(x[0] * x[1]) * others + 8.0 * static_cast<double>(x[0] * n()), 4);
        const double by_rows = x[0] < n() * kGrain ? by_words + flops : seconds(flops, 8.0 * static_cast<double>(w[0] * w[1]) * others, 6);
        return tell(fmt::format("loss of {} rows by {} words", x[0], w[0]), {{"words", by_words}, {"rows", by_rows}}) == 0 ? LossWay::words
                                                                                                                           : LossWay::rows;
    }

    // Which of some ways costs least; the choice is told.
    size_t tell(const std::string& what, const std::vector<std::pair<const char*, double>>& ways) {
        size_t best = 0;
        for (size_t i = 1; i < ways.size(); ++i)
            if (ways[i].second < ways[best].second) best = i;
        if (!choices_) return best;
        std::string costs;
        for (const auto& [name, cost] : ways) costs += fmt::format("{}{} {:.1f} us", costs.empty() ? "" : ", ", name, cost * 1e6);
        const std::string line = fmt::format("{} over {} tensor ranks: {}; chosen: {}\n", what, n(), costs, ways[best].first);
        if (choices_->find(line) == std::string::npos) *choices_ += line;  // once for all layers
        return best;
    }

    static constexpr int64_t kWords = 512, kLookedUpWords = 8192;  // of a table: fewer are not worth an exchange
    static constexpr Exchange kGroup{static_cast<int64_t>(MeshAxis::tensor)};
    static constexpr int64_t kGrain = 16;  // columns or rows: fewer are not worth an exchange

    Graph& graph_;
    const TensorLayout& layout_;
    std::string* choices_;
    Builder b_;
    std::vector<Node> original_;
    std::deque<Type> full_;  // deques: references stay while values are added
    std::deque<Place> place_;
    std::vector<std::vector<std::pair<const Node*, size_t>>> readers_;
    std::set<ValueId> result_, decided_;
    bool through_attention_ = false;  // the columns last looked at are heads'
    std::map<ValueId, ValueId> whole_, replicated_;
};

}  // namespace

Status shard(Graph& graph, const PassOptions& options) {
    if (!options.tensor || options.tensor->ranks == 1) return ok();
    return Sharder(graph, *options.tensor, options.choices).run();
}

}  // namespace ds::passes
