// ZeRO 2 and 3 (Rajbhandari et al. 2020, arXiv 1910.02054) on the plan of one rank. Gradients of a bucket of parameters are summed over
// data ranks as soon as the backward pass has made the last of them, and each rank keeps its part of the sum: between backward and step
// there is no other gradient. Weights that a rank holds its part of are gathered before a node that uses them; their memory is free again
// after the last use that is near enough. On devices, whose exchanges run beside kernels, a weight is gathered while the one before it is
// used.
//
// All ranks make these nodes in the same order whatever the shapes of their batches, as the order of a model's weights does not depend on
// shapes.
#include <algorithm>
#include <map>
#include <set>

#include "ir/builder.h"
#include "ops/attrs_zero.h"
#include "passes/cache.h"
#include "passes/pass.h"

namespace ds::passes {
namespace {

class Zero {
public:
    Zero(Graph& graph, const PassOptions& options)
        : graph_(graph), options_(options), layout_(*options.zero), b_(graph), uses_(graph.values.size()) {}

    Status run() {
        std::vector<Node> nodes = std::move(graph_.nodes);
        graph_.nodes.clear();
        nodes_ = static_cast<int64_t>(nodes.size());
        find_uses(nodes);
        find_buckets(nodes);
        for (const auto& [id, shared] : shared_) graph_.value(id).type.shape = {part_of(shared->ends, shared->expert)};
        for (int64_t i = 0; i < nodes_; ++i) {
            Node& node = nodes[static_cast<size_t>(i)];
            b_.mark_backward(node.backward);
            const std::set<ValueId> needed(node.in.begin(), node.in.end());
            for (ValueId& id : node.in)
                if (shared_.contains(id)) id = whole(id, i, needed);
            graph_.nodes.push_back(std::move(node));
            for (const size_t bucket : complete_[i]) reduce(layout_.buckets[bucket]);
        }
        for (auto& [name, id] : graph_.outputs)
            if (shared_.contains(id)) id = whole(id, nodes_, {});
        if (options_.gather_ahead > 0) gather_ahead();
        if (!layout_.buckets.empty()) graph_.grads = std::move(parts_);
        return b_.status();
    }

private:
    struct Use {
        int64_t node, clock;
    };  // clock: elements of weights used up to here
    struct Live {
        ValueId value;
        size_t next;
    };

    int64_t part_of(const std::vector<int64_t>& ends, bool expert) const {
        const auto r = static_cast<size_t>(expert ? layout_.holder : layout_.rank);
        return ends[r] - (r ? ends[r - 1] : 0);
    }
    Parts parts(const std::vector<int64_t>& ends, Shape shape, bool expert) const {
        return {.group = expert ? kSameExperts : static_cast<int64_t>(MeshAxis::data),
                .rank = expert ? layout_.holder : layout_.rank,
                .ends = ends,
                .shape = std::move(shape)};
    }

    // Which values come in parts, and where they are used.
    void find_uses(const std::vector<Node>& nodes) {
        for (const ValueId id : graph_.inputs) {
            const Value& v = graph_.value(id);
            const Value& weight = weight_of(graph_, id);
            if (weight.kind != Kind::param) continue;
            const auto found = layout_.params.find(weight.name);
            if (found == layout_.params.end() || !(v.kind == Kind::shadow ? found->second.low : found->second.weight)) continue;
            shared_[id] = &found->second;
            shapes_[id] = v.type.shape;
        }
        int64_t clock = 0;
        for (int64_t i = 0; i < nodes_; ++i)
            for (const ValueId id : nodes[static_cast<size_t>(i)].in)
                if (shared_.contains(id)) uses_[static_cast<size_t>(id)].push_back({i, clock += counted(id)});
        for (const auto& [name, id] : graph_.outputs)
            if (shared_.contains(id)) uses_[static_cast<size_t>(id)].push_back({nodes_, clock += counted(id)});
    }

    // Elements, as distances and limits count them. Not experts': ranks may have different numbers of them, but must gather all others in
    // the same order.
    int64_t counted(ValueId id) { return shared_[id]->expert ? 0 : elements(shapes_[id]); }

    // The whole weight at a node that needs it among others.
    ValueId whole(ValueId id, int64_t node, const std::set<ValueId>& needed) {
        const std::vector<Use>& uses = uses_[static_cast<size_t>(id)];
        auto found = live_.find(id);
        const size_t here = found == live_.end() ? next_[id] : found->second.next;
        next_[id] = here + 1;
        if (found == live_.end()) {
            make_room(counted(id), needed);
            const ValueId value = fetched(id);
            live_elements_ += counted(id);
            found = live_.emplace(id, Live{value, here}).first;
        }
        const ValueId value = found->second.value;
        found->second.next = here + 1;
        const bool reuses =
            !shared_[id]->expert && here + 1 < uses.size() && uses[here + 1].clock - uses[here].clock - counted(id) <= layout_.max_reuse;
        const bool again = reuses || (here + 1 < uses.size() && uses[here + 1].node == node);
        if (!again) release(id);
        return value;
    }

    ValueId fetched(ValueId id) {
        const Value v = graph_.value(id);
        const ZeroLayout::Shared& shared = *shared_[id];
        ValueId part = id;
        if (shared.slot >= 0) {
            const bool alone = shared.ends.size() == 1;
            part = b_.call(
                "fetch", {},
                Fetch{.slot = shared.slot + (v.kind == Kind::shadow), .shape = alone ? shapes_[id] : v.type.shape, .dtype = v.type.dtype},
                v.name + ".part");
            if (alone) return part;
        }
        return b_.call("gather_parts", {part}, parts(shared.ends, shapes_[id], shared.expert), v.name + ".whole");
    }

    // The weight that is needed again last goes first.
    void make_room(int64_t wanted, const std::set<ValueId>& needed) {
        while (live_elements_ + wanted > layout_.max_live) {
            ValueId last = kNone;
            int64_t when = -1;
            for (const auto& [id, live] : live_)
                if (const int64_t node = uses_[static_cast<size_t>(id)][live.next].node;
                    !needed.contains(id) && !shared_[id]->expert && node > when)
                    last = id, when = node;
            if (last == kNone) return;
            release(last);
        }
    }
    void release(ValueId id) {
        live_.erase(id);
        live_elements_ -= counted(id);
    }

    // A weight is gathered in front of the first node that uses the one gathered before it, so that this can run meanwhile. Gathers keep
    // their order.
    void gather_ahead() {
        std::vector<Node>& nodes = graph_.nodes;
        int64_t before = -1;
        for (int64_t i = 0; i < static_cast<int64_t>(nodes.size()); ++i) {
            const Node& node = nodes[static_cast<size_t>(i)];
            if (node.op->name != "gather_parts" || node.attrs.as<Parts>().group != static_cast<int64_t>(MeshAxis::data))
                continue;  // not experts': see counted()
            int64_t to = i;
            if (before >= 0 && graph_.value(node.in[0]).kind != Kind::computed &&
                elements(graph_.type(node.out[0]).shape) <= options_.gather_ahead) {
                const ValueId last = nodes[static_cast<size_t>(before)].out[0];
                const auto uses = [&](const Node& n) { return std::count(n.in.begin(), n.in.end(), last) > 0; };
                to = std::find_if(nodes.begin() + before, nodes.begin() + i, uses) - nodes.begin();
            }
            const auto same_part = [&](const Node& n) { return n.backward == node.backward && n.weights == node.weights; };
            while (to < i && !same_part(nodes[static_cast<size_t>(to)])) ++to;
            std::rotate(nodes.begin() + to, nodes.begin() + i, nodes.begin() + i + 1);
            before = to;
        }
    }

    // After which node all gradients of a bucket exist.
    void find_buckets(const std::vector<Node>& nodes) {
        for (const auto& [param, grad] : graph_.grads) gradient_[graph_.value(param).name] = {param, grad};
        std::map<ValueId, int64_t> made;
        for (int64_t i = 0; i < nodes_; ++i)
            for (const ValueId id : nodes[static_cast<size_t>(i)].out) made[id] = i;
        for (size_t i = 0; i < layout_.buckets.size() && !gradient_.empty(); ++i) {
            int64_t last = 0;
            for (const std::string& name : layout_.buckets[i].params)
                if (const auto found = gradient_.find(name); found != gradient_.end()) last = std::max(last, made[found->second.second]);
            complete_[last].push_back(i);
        }
    }

    void reduce(const ZeroLayout::Bucket& bucket) {
        Bucket laid{bucket.starts, bucket.ends.back()};
        std::vector<ValueId> in;
        for (const std::string& name : bucket.params) {
            const auto found = gradient_.find(name);
            if (found == gradient_.end()) return b_.fail_with(fail(Code::E_INTERNAL, "zero: the plan makes no gradient of {}", name));
            in.push_back(found->second.second);
        }
        const ValueId first = gradient_[bucket.params.front()].first;
        b_.mark_backward(true);
        const ValueId whole = b_.call("bucket", in, std::move(laid));
        ValueId into = kNone;
        if (options_.accumulate)
            into = graph_.add_value({.name = graph_.value(first).name + ".grad",
                                     .type = {DType::f32, {part_of(bucket.ends, bucket.experts)}},
                                     .kind = Kind::grad,
                                     .of = first});
        Parts attrs = parts(bucket.ends, {}, bucket.experts);
        attrs.wire = layout_.wire;
        parts_.emplace_back(first, b_.call("reduce_bucket", {whole, into}, std::move(attrs)));
    }

    Graph& graph_;
    const PassOptions& options_;
    const ZeroLayout& layout_;
    Builder b_;
    int64_t nodes_ = 0;
    std::map<ValueId, const ZeroLayout::Shared*> shared_;
    std::map<ValueId, Shape> shapes_;
    std::vector<std::vector<Use>> uses_;
    std::map<ValueId, size_t> next_;
    std::map<ValueId, Live> live_;
    int64_t live_elements_ = 0;
    std::map<std::string, std::pair<ValueId, ValueId>, std::less<>> gradient_;  // of a parameter: its value and its gradient
    std::map<int64_t, std::vector<size_t>> complete_;
    std::vector<std::pair<ValueId, ValueId>> parts_;
};

}  // namespace

Status zero(Graph& graph, const PassOptions& options) {
    if (!options.zero) return ok();
    return Zero(graph, options).run();
}

}  // namespace ds::passes
