// Sequence parallelism: rewrites the forward graph of one rank so that it computes a piece of the stream of tokens, and puts exchanges
// where pieces meet: attention (which decides how), lookups of rows, sums over positions, the loss. No model knows of it: an op whose shard
// rule lets its rows be cut computes a piece of them.
//
// A value is cut along some dimension, a summand (partial), or whole: alike on every rank. Gradients of whole values are summands, those of
// parameters too; they are summed over the ranks once a step, so that a parameter is used as it is and costs no exchange here. What every
// rank computes alike towards the loss counts for an equal part each (share_gradient).
#include <deque>
#include <map>
#include <optional>
#include <tuple>

#include "base/stripes.h"
#include "ir/builder.h"
#include "ops/attrs_parallel.h"
#include "passes/pass.h"
#include "passes/sequence_cost.h"

namespace ds::passes {
namespace {

struct Place {
    Cut cut;
    int64_t full = 0;  // of the cut dimension
    bool partial = false;
    bool whole() const { return cut.whole() && !partial; }
};

class SequenceSharder {
public:
    SequenceSharder(Graph& graph, const SequenceLayout& layout, std::string* report)
        : graph_(graph), layout_(layout), report_(report), b_(graph) {}

    Status run() {
        for (const Value& v : graph_.values) full_.push_back(v.type);
        place_.resize(full_.size());
        original_ = std::move(graph_.nodes);
        graph_.nodes.clear();
        DS_CHECK(choose());
        for (const Node& node : original_) DS_CHECK(rewrite(node));
        for (auto& [name, id] : graph_.outputs) id = result(id);
        if (graph_.loss != kNone) graph_.loss = result(graph_.loss);
        return b_.status();
    }

private:
    static size_t index(ValueId id) { return static_cast<size_t>(id); }
    int n() const { return layout_.ranks; }
    const Shape& full(ValueId id) const { return full_[index(id)].shape; }
    bool floats(ValueId id) const { return is_float(graph_.type(id).dtype); }
    // What a batch brings, or is computed from that alone: integers, of which each rank has all.
    bool known(ValueId id) const { return id != kNone && !floats(id); }
    bool is_computed(ValueId id) const { return id != kNone && graph_.value(id).kind == Kind::computed; }
    Place& place(ValueId id) {
        if (place_.size() < graph_.values.size()) place_.resize(graph_.values.size()), full_.resize(graph_.values.size());
        return place_[index(id)];
    }
    bool cut(ValueId id) { return id != kNone && !place(id).cut.whole(); }
    bool partial(ValueId id) { return id != kNone && place(id).partial; }
    // A stream of tokens (an encoder's and a decoder's are two), told by its length.
    struct Stream {
        Place place;
        bool ring = true;
    };
    const Stream* stream_of(int64_t size) const {
        const auto found = streams_.find(size);
        return found == streams_.end() ? nullptr : &found->second;
    }
    bool of_tokens(int64_t size) const { return stream_of(size) != nullptr; }
    bool of_stream(ValueId id) {
        const Stream* stream = full(id).empty() ? nullptr : stream_of(full(id)[0]);
        return stream && place(id).cut == stream->place.cut;
    }
    Share share_of(const Place& p) const {
        return {.group = static_cast<int64_t>(MeshAxis::sequence),
                .rank = layout_.rank,
                .ranks = n(),
                .dim = p.cut.dim,
                .full = p.full,
                .period = p.cut.period,
                .units = p.cut.units};
    }
    Place rows(int64_t size) const { return {{0, size, size}, size, false}; }
    ValueId made(ValueId from, ValueId to, const Place& where) {
        place(to) = where;
        full_[index(to)] = full_[index(from)];
        return to;
    }

    // One way of attention for a stream decides how its tokens are dealt out. Fewer tokens than ranks are not.
    Status choose() {
        if (layout_.tokens == 0) return ok();
        std::map<int64_t, const Node*> attentions{{layout_.tokens, nullptr}};
        for (const Node& node : original_)
            if (node.op->name == "attention" && given(node, 3) && !given(node, 6) && full(node.in[0]).size() == 2)
                attentions[full(node.in[0])[0]] = &node;
        for (const auto& [tokens, node] : attentions) {
            Stream stream{rows(tokens), true};
            if (node) {
                DS_TRY(const SequenceWay way,
                       cheapest_sequence_attention(node->attrs.as<Attention>(), full_[index(node->in[0])], full_[index(node->in[1])],
                                                   elements(full(node->in[3])) - 1, layout_, report_));
                stream.ring = way.ring;
                if (way.stripes) stream.place.cut = {0, n(), n()};
            }
            if (tokens >= n()) streams_[tokens] = stream;
        }
        return ok();
    }
    static bool given(const Node& node, size_t operand) { return operand < node.in.size() && node.in[operand] != kNone; }

    ValueId whole(ValueId id) {
        if (id == kNone || place(id).whole()) return id;
        if (const auto found = whole_.find(id); found != whole_.end()) return found->second;
        Share share = share_of(place(id));
        share.sum_gradient = true;
        const ValueId to =
            partial(id) ? b_.call("replicate", {b_.call("all_reduce", {id}, kGroup)}, kGroup) : b_.call("all_gather", {id}, share);
        return whole_[id] = made(id, to, {});
    }
    // As hosts see it; they give every rank its whole gradient.
    ValueId result(ValueId id) {
        if (const auto found = results_.find(id); found != results_.end()) return found->second;
        ValueId to = id;
        if (partial(id)) to = b_.call("all_reduce", {id}, kGroup);
        else if (cut(id)) to = b_.call("all_gather", {id}, share_of(place(id)));
        else if (floats(id)) to = b_.call("share_gradient", {id}, Share{.group = kGroup.group, .rank = layout_.rank, .ranks = n()});
        return results_[id] = made(id, to, {});
    }
    ValueId in_cut(ValueId id, const Place& p) {
        if (id == kNone || place(id).cut == p.cut) return id;
        const auto key = std::tuple(id, p.cut.dim, p.cut.period);
        if (const auto found = taken_.find(key); found != taken_.end()) return found->second;
        Share share = share_of(p);
        share.sum_gradient = floats(id);
        return taken_[key] = made(id, b_.call("take_share", {whole(id)}, share), p);
    }

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

    Status alike(const Node& node) {
        std::vector<ValueId> in;
        for (const ValueId id : node.in) in.push_back(whole(id));
        return emit(node, in, {});
    }

    Status rewrite(const Node& node) {
        const std::string_view op = node.op->name;
        bool any = false, any_partial = false;
        for (const ValueId id : node.in) any |= cut(id), any_partial |= partial(id);
        if (any_partial) return linear(node);
        if (op == "embedding") return embedding(node);
        if (!any && !begins(node)) return alike(node);
        if (op == "attention") return attention(node);
        if (op == "cross_entropy" || op == "linear_cross_entropy") return loss(node);
        if (op == "reshape") return reshape(node);
        if (op == "dropout" && cut(node.in[0]) && (node.in.size() < 2 || node.in[1] == kNone)) return dropout(node);
        if (op == "split" || op == "slice" || op == "concat") return along_another_axis(node);
        return by_rule(node);
    }

    // Reads what a batch brings for each token, and nothing computed.
    bool begins(const Node& node) {
        bool reads = false;
        for (const ValueId id : node.in) {
            if (is_computed(id)) return false;
            reads |= known(id) && !full(id).empty() && of_tokens(full(id)[0]);
        }
        return reads && (node.op->shard || node.op->name == "rope_angles");
    }

    // Sums, and what commutes with them.
    Status linear(const Node& node) {
        const std::string_view op = node.op->name;
        bool all = op == "add" || op == "sub" || op == "scale" || op == "reshape" || op == "cast";
        for (const ValueId id : node.in) all &= partial(id);
        return all ? emit(node, node.in, {{Cut{}, 0, true}}) : alike(node);
    }

    std::vector<ShardWay> ways_of(const Node& node) {
        if (node.op->name == "rope_angles") return {{{0}, {0}}};
        if (!node.op->shard) return {};
        std::vector<Type> kept;
        for (const ValueId id : node.in) {
            if (id == kNone) continue;
            kept.push_back(graph_.type(id));
            graph_.value(id).type = full_[index(id)];
        }
        auto ways = node.op->shard(graph_, node);
        for (size_t i = node.in.size(), k = kept.size(); i-- > 0;)
            if (node.in[i] != kNone) graph_.value(node.in[i]).type = kept[--k];
        return ways;
    }

    Status by_rule(const Node& node) {
        std::optional<Place> first;
        for (const ValueId id : node.in)
            if (cut(id) && !first) first = place(id);
        for (const ValueId id : node.in)
            if (!first && known(id) && !full(id).empty() && of_tokens(full(id)[0])) first = stream_of(full(id)[0])->place;
        if (!first) return alike(node);
        for (const ShardWay& way : ways_of(node)) {
            bool fits = true, any = false;
            for (size_t i = 0; i < node.in.size() && fits; ++i) {
                const ValueId id = node.in[i];
                if (id == kNone) continue;
                if (way.in[i] == kPartial) fits = false;  // would be counted once a rank
                else if (cut(id))
                    fits = way.in[i] == place(id).cut.dim && place(id).cut.period == first->cut.period && place(id).full == first->full;
                else if (way.in[i] >= 0) fits = full(id)[static_cast<size_t>(way.in[i])] == first->full;
                any |= way.in[i] >= 0;
            }
            if (!fits || !any) continue;
            const auto at = [&](int dim) { return Place{{dim, first->cut.period, first->cut.units}, first->full, false}; };
            std::vector<ValueId> in;
            for (size_t i = 0; i < node.in.size(); ++i) in.push_back(way.in[i] >= 0 ? in_cut(node.in[i], at(way.in[i])) : node.in[i]);
            std::vector<Place> places;
            for (const int dim : way.out) places.push_back(dim >= 0 ? at(dim) : Place{Cut{}, 0, dim == kPartial});
            return emit(node, in, places);
        }
        return alike(node);
    }

    // Rows of a table by id: of a table that is cut, each rank has some of what is asked; else each looks up what it asks for itself.
    Status embedding(const Node& node) {
        const ValueId table = node.in[0], ids = node.in[1];
        if (!cut(table)) {
            if (full(ids).empty() || (!cut(ids) && !of_tokens(full(ids)[0]))) return alike(node);
            const Place p = cut(ids) ? place(ids) : stream_of(full(ids)[0])->place;
            return p.cut.dim == 0 ? emit(node, {whole(table), in_cut(ids, p)}, {p}) : alike(node);
        }
        const Place from = place(table);
        if (from.cut.dim != 0 || full(ids).size() != 1) return full(ids).size() == 1 && from.cut.dim == 1 ? by_rule(node) : alike(node);
        // A permutation of many rows, such as putting back what was taken: each rank asks for its own.
        if (const Stream* stream = stream_of(full(ids)[0]); stream && full(ids)[0] > from.full)
            return emit(node, {whole(table), in_cut(ids, stream->place)}, {stream->place});
        const int64_t asked = full(ids)[0];
        const ValueId mine = b_.call("local_rows", {whole(ids)}, share_of(from)), part = b_.call("embedding", {table, mine});
        if (asked < n()) {
            const ValueId sum = b_.call("all_reduce", {part}, kGroup);
            return emit(Node{.op = find_op("replicate"), .attrs = kGroup, .out = node.out}, {sum}, {});
        }
        return emit(Node{.op = find_op("reduce_scatter"), .attrs = share_of(rows(asked)), .out = node.out}, {part}, {rows(asked)});
    }

    Status attention(const Node& node) {
        const ValueId q = node.in[0];
        if (!given(node, 3) || !cut(q) || !of_stream(q) || full(q).size() != 2) return alike(node);
        if (given(node, 6)) return attention_of_others(node);
        for (size_t i = 6; i < node.in.size(); ++i)
            if (given(node, i)) return alike(node);  // what belongs to pairs of places
        const Stream& stream = *stream_of(full(q)[0]);
        const Place& tokens = stream.place;
        const ValueId segments = node.in[3];
        std::vector<ValueId> in;
        for (size_t i = 0; i < 3; ++i) in.push_back(in_cut(node.in[i], tokens));
        const auto& attrs = node.attrs.as<Attention>();
        ValueId names = node.in.size() > 4 ? whole(node.in[4]) : kNone;
        if (names == kNone) names = stream_places(tokens.full);
        in.insert(in.end(), {whole(segments), names});
        if (node.in.size() > 5 && node.in[5] != kNone) in.push_back(whole(node.in[5]));
        return emit(
            Node{.op = find_op("sequence_attention"), .attrs = SequenceAttention{attrs, share_of(tokens), stream.ring}, .out = node.out},
            in, {tokens, tokens});
    }

    // Keys of another stream: every rank has them all, and its own queries.
    Status attention_of_others(const Node& node) {
        const Place tokens = place(node.in[0]);
        std::vector<ValueId> in{node.in[0]};
        for (size_t i = 1; i < node.in.size(); ++i) in.push_back(i == 4 ? in_cut(node.in[4], tokens) : whole(node.in[i]));
        in[3] = made(node.in[3], b_.call("local_segments", {whole(node.in[3])}, share_of(tokens)), {});
        return emit(node, in, {tokens, tokens});
    }

    // Names tokens by their places in the stream, where nothing else does.
    ValueId stream_places(int64_t tokens) {
        const auto [found, fresh] = places_.emplace(tokens, kNone);
        if (fresh) {
            found->second = b_.call("iota", {}, Fill{.shape = {tokens}});
            place(found->second) = {};
            full_[index(found->second)] = graph_.type(found->second);
        }
        return found->second;
    }

    // Random numbers belong to rows of the whole.
    Status dropout(const Node& node) {
        const Place p = place(node.in[0]);
        const Shape& shape = full(node.in[0]);
        const ValueId all = b_.call("iota", {}, Fill{.shape = {elements(shape) / shape.back()}});
        place(all) = {};
        full_[index(all)] = graph_.type(all);
        if (p.cut.dim != 0 || elements(full(all)) != p.full) return alike(node);
        return emit(node, {node.in[0], in_cut(all, p)}, {p});
    }

    Status along_another_axis(const Node& node) {
        const Place p = place(node.in[0]);
        const auto rank = static_cast<int64_t>(full(node.in[0]).size());
        int64_t axis = node.op->name == "split"   ? node.attrs.as<Split>().axis
                       : node.op->name == "slice" ? node.attrs.as<Slice>().axis
                                                  : node.attrs.as<ds::Axis>().axis;
        if (axis < 0) axis += rank;
        if (!cut(node.in[0]) || axis == p.cut.dim) return alike(node);
        std::vector<ValueId> in;
        for (const ValueId id : node.in) in.push_back(in_cut(id, p));
        return emit(node, in, std::vector<Place>(node.out.size(), p));
    }

    // Rows stay rows, or each becomes several (heads), or several one.
    Status reshape(const Node& node) {
        Place p = place(node.in[0]);
        Shape shape = full(node.out[0]);
        if (p.cut.dim != 0 || shape.empty() || shape[0] == 0) return alike(node);
        const int64_t before = full(node.in[0])[0], after = shape[0], unit = p.cut.period / p.cut.units;
        if (after % before == 0) p.cut.period *= after / before;
        else if (before % after == 0 && unit % (before / after) == 0) p.cut.period /= before / after;
        else return alike(node);
        p.full = after;
        shape[0] = held(p.cut, after, layout_.rank, n());
        Node part = node;
        part.attrs = Reshape{shape};
        return emit(part, node.in, {p});
    }

    // The mean over all labels is the sum of the pieces' means, weighted by their labels.
    Status loss(const Node& node) {
        const bool fused = node.op->name == "linear_cross_entropy";
        const Place p = place(node.in[0]);
        if (p.cut.dim != 0 || (fused && (cut(node.in[1]) || cut(node.in[2]))) || full(node.in[0]).size() != 2) return alike(node);
        const size_t at = fused ? 3 : 1;
        std::vector<ValueId> in = node.in;
        in[at] = in_cut(node.in[at], p);
        Node part = node;
        Value mean = graph_.value(node.out[0]);
        mean.name += ".part";
        mean.boundary = false;
        part.out[0] = made(node.out[0], graph_.add_value(std::move(mean)), {});
        DS_CHECK(emit(part, in, {Place{Cut{}, 0, false}, p}));
        const ValueId weight = b_.call("label_share", {in[at], whole(node.in[at])}, node.attrs);
        made(node.out[0], weight, {});
        return emit(Node{.op = find_op("mul"), .out = {node.out[0]}}, {part.out[0], weight}, {Place{Cut{}, 0, true}});
    }

    static constexpr Exchange kGroup{static_cast<int64_t>(MeshAxis::sequence)};

    Graph& graph_;
    const SequenceLayout& layout_;
    std::string* report_;
    Builder b_;
    std::map<int64_t, Stream> streams_;  // by length
    std::map<int64_t, ValueId> places_;
    std::vector<Node> original_;
    std::deque<Type> full_;  // deques: references stay while values are added
    std::deque<Place> place_;
    std::map<ValueId, ValueId> whole_, results_;
    std::map<std::tuple<ValueId, int, int64_t>, ValueId> taken_;
};

}  // namespace

Status shard_sequence(Graph& graph, const PassOptions& options) {
    if (!options.sequence || options.sequence->ranks == 1) return ok();
    return SequenceSharder(graph, *options.sequence, options.choices).run();
}

}  // namespace ds::passes
