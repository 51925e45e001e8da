// What ranks that hold pieces of one stream of tokens exchange. Here every rank's gradient of a value that all have alike is a summand, as
// that of parameters is: gradients of these ops are their exact transposes, and nothing is summed before the end of the step.
//
// sequence_attention is attention of such pieces. With `ring` it becomes the steps below (Liu et al. 2023, arXiv 2310.01889): each rank
// keeps its queries, keys and values travel once round the ring, and what each part of the keys gives is merged by its log-sum-exp; in the
// backward pass the gradients of keys and values travel with them. Otherwise pass spread_attention has made it an exchange of tokens for
// heads (Jacobs et al. 2023, arXiv 2309.14509).
#include "base/stripes.h"
#include "ops/attrs_parallel.h"
#include "ops/rules.h"

namespace ds::ops {
namespace {

Cut cut_of(const Share& s) { return {static_cast<int>(s.dim), s.period, s.units}; }
int64_t size_at(const Share& s, int64_t rank) { return held(cut_of(s), s.full, static_cast<int>(rank), static_cast<int>(s.ranks)); }

Status check_ranks(int64_t rank, int64_t ranks) {
    DS_REQUIRE(ranks > 0 && rank >= 0 && rank < ranks, "rank {} is not one of {}", rank, ranks);
    return ok();
}

Status check_cut(const Share& s) {
    DS_CHECK(check_ranks(s.rank, s.ranks));
    DS_REQUIRE(s.units > 0 && s.period > 0 && s.period % s.units == 0 && s.full >= s.period && s.full % (s.period / s.units) == 0,
               "{} does not divide into periods of {} and those into {} units", s.full, s.period, s.units);
    return ok();
}

Result<Types> ids_of_a_share(const Attrs& attrs, In in) {
    DS_CHECK(require_ids(in[0], "x"));
    DS_CHECK(check_cut(attrs.as<Share>()));
    return Types{in[0]};
}

// The parts of the keys, one rank's after another's, as rank `rank` sees them.
class RingSteps {
public:
    RingSteps(Builder& b, const SequenceAttention& attrs, ValueId segments, ValueId tokens, ValueId key_mask)
        : b_(b), a_(attrs), s_(attrs.share), segments_(segments), tokens_(tokens), key_mask_(key_mask) {
        own_segments_ = segments_of(s_.rank);
        own_tokens_ = share_of(tokens_, s_.rank);
        first_ = b_.call("first_tokens", {tokens_, segments_});
    }

    int64_t steps() const { return s_.ranks; }
    int64_t owner(int64_t step) const { return (s_.rank + step) % s_.ranks; }
    ValueId shift(ValueId x, int64_t to) { return b_.call("ring_shift", {x}, Ring{s_.group, s_.rank, s_.ranks, size_at(s_, to)}); }
    const Attention& part() const { return a_.of; }
    // What attention takes behind q, k and v.
    std::vector<ValueId> rest(int64_t step) {
        const int64_t of = owner(step);
        return {own_segments_, own_tokens_, share_of(key_mask_, of), segments_of(of), share_of(tokens_, of), first_};
    }

private:
    Share at(int64_t rank) const {
        Share share = s_;
        share.rank = rank;
        return share;
    }
    ValueId segments_of(int64_t rank) { return b_.call("local_segments", {segments_}, at(rank)); }
    ValueId share_of(ValueId x, int64_t rank) { return x == kNone ? kNone : b_.call("take_share", {x}, at(rank)); }

    Builder& b_;
    const SequenceAttention& a_;
    const Share& s_;
    const ValueId segments_, tokens_, key_mask_;
    ValueId own_segments_ = kNone, own_tokens_ = kNone, first_ = kNone;
};

std::vector<ValueId> ring_forward(Builder& b, const Node& n) {
    const auto in = [&](size_t i) { return i < n.in.size() ? n.in[i] : kNone; };
    RingSteps ring(b, n.attrs.as<SequenceAttention>(), in(3), in(4), in(5));
    const DType out = b.type(n.in[0]).dtype;
    ValueId k = n.in[1], v = n.in[2];
    std::vector<ValueId> sum;
    const int64_t last = ring.steps() - 1;
    for (int64_t step = 0; step <= last; ++step) {
        if (step > 0) k = ring.shift(k, ring.owner(step)), v = ring.shift(v, ring.owner(step));
        std::vector<ValueId> operands{n.in[0], k, v};
        for (const ValueId id : ring.rest(step)) operands.push_back(id);
        const auto part = b.call_all("attention", operands, ring.part());
        if (!b.status().ok()) return {kNone, kNone};
        const Merge how{step == last, step == last ? out : DType::f32};
        if (step > 0) sum = b.call_all("attention_merge", {sum[0], sum[1], part[0], part[1]}, how);
        else sum = last == 0 ? b.call_all("attention_merge", {part[0], part[1]}, how) : part;
        if (!b.status().ok()) return {kNone, kNone};
    }
    return sum;
}

std::vector<ValueId> ring_backward(Builder& b, const Node& n) {
    const auto in = [&](size_t i) { return i < n.in.size() ? n.in[i] : kNone; };
    RingSteps ring(b, n.attrs.as<SequenceAttention>(), in(6), in(7), in(8));
    ValueId k = n.in[2], v = n.in[3], dq = kNone, dk = kNone, dv = kNone;
    const auto add = [&](ValueId sum, ValueId x) { return sum == kNone ? x : b.add(sum, x); };
    for (int64_t step = 0; step < ring.steps(); ++step) {
        if (step > 0)
            for (ValueId* x : {&k, &v, &dk, &dv}) *x = ring.shift(*x, ring.owner(step));
        std::vector<ValueId> operands{n.in[0], n.in[1], k, v, n.in[4], n.in[5]};
        for (const ValueId id : ring.rest(step)) operands.push_back(id);
        const auto part = b.call_all("attention_grad", operands, ring.part());
        if (!b.status().ok()) return {kNone, kNone, kNone};
        dq = add(dq, part[0]), dk = add(dk, part[1]), dv = add(dv, part[2]);
    }
    dk = ring.shift(dk, ring.owner(0)), dv = ring.shift(dv, ring.owner(0));
    return {b.cast(dq, b.type(n.in[1]).dtype), b.cast(dk, b.type(n.in[2]).dtype), b.cast(dv, b.type(n.in[3]).dtype)};
}

Result<Types> infer_sequence_attention(const Attrs& attrs, In in) {
    const auto& a = attrs.as<SequenceAttention>();
    DS_CHECK(check_cut(a.share));
    for (size_t i = 0; i < 3; ++i)
        DS_REQUIRE(in[i].shape.size() == 2 && in[i].shape[0] == size_at(a.share, a.share.rank),
                   "q, k and v must be [{}, heads * size], this rank's tokens of {}, but one is {}", size_at(a.share, a.share.rank),
                   a.share.full, dims_to_string(in[i].shape));
    // As attention over all tokens would have it.
    const OpDef& whole = *find_op("attention");
    std::vector<Type> all(in.begin(), in.begin() + 6);
    all.resize(whole.inputs.size(), Type{.present = false});
    for (size_t i = 0; i < 3; ++i) all[i].shape[0] = a.share.full;
    DS_TRY(Types types, whole.infer(Attrs(a.of), all));
    for (Type& t : types) t.shape[0] = in[0].shape[0];
    return types;
}

Recut back(const Recut& r) {
    return {r.group, r.rank, r.ranks, r.to_dim, r.to_full, r.to_period, r.to_units, r.dim, r.full, r.period, r.units};
}

}  // namespace

const OpDef& sequence_attention() {
    static const OpDef op = {
        .name = "sequence_attention",
        .meaning = "attention of a piece of a stream whose other pieces are other ranks'; segments, tokens and key_mask are those of all",
        .inputs = {"q", "k", "v", "segments", "tokens", "key_mask?"},
        .outputs = {"y", "lse"},
        .attrs = attrs_type<SequenceAttention>(),
        .infer = infer_sequence_attention,
        .gradient =
            [](GradContext& c) {
                auto g = c.b.call_all("sequence_attention_grad",
                                      {c.dy[0], c.in(0), c.in(1), c.in(2), c.out(0), c.out(1), c.in(3), c.in(4), c.in(5)}, c.node.attrs);
                g.resize(3);
                return g;
            },
        .cost =
            [](const Attrs& attrs, In in, In) {
                const double sequences = static_cast<double>(std::max<int64_t>(elements(in[3].shape) - 1, 1));
                return Cost{.flops = 4 * static_cast<double>(elements(in[0].shape)) *
                                     static_cast<double>(attrs.as<SequenceAttention>().share.full) / sequences};
            },
        .decompose = ring_forward,
        .low_inputs = 3,
    };
    return op;
}

const OpDef& sequence_attention_grad() {
    static const OpDef op = {
        .name = "sequence_attention_grad",
        .meaning = "gradients of sequence_attention",
        .inputs = {"dy", "q", "k", "v", "y", "lse", "segments", "tokens", "key_mask?"},
        .outputs = {"dq", "dk", "dv"},
        .attrs = attrs_type<SequenceAttention>(),
        .infer = [](const Attrs& attrs, In in) -> Result<Types> {
            const Type forward[] = {in[1], in[2], in[3], in[6], in[7], in[8]};
            DS_TRY(const Types out, infer_sequence_attention(attrs, forward));
            DS_CHECK(require_shape(in[0], "dy", out[0].shape));
            DS_CHECK(require_shape(in[4], "y", out[0].shape));
            DS_CHECK(require_shape(in[5], "lse", out[1].shape));
            return Types{in[1], in[2], in[3]};
        },
        .decompose = ring_backward,
    };
    return op;
}

const OpDef& recut() {
    static const OpDef op = {
        .name = "recut",
        .meaning = "what is cut along dim becomes whole there and cut along to_dim",
        .inputs = {"x"},
        .outputs = {"y"},
        .attrs = attrs_type<Recut>(),
        .infer = [](const Attrs& attrs, In in) -> Result<Types> {
            const auto& r = attrs.as<Recut>();
            const Share from{r.group, r.rank, r.ranks, r.dim, r.full, r.period, r.units},
                to{r.group, r.rank, r.ranks, r.to_dim, r.to_full, r.to_period, r.to_units};
            DS_CHECK(check_cut(from));
            DS_CHECK(check_cut(to));
            Type y = in[0];
            const auto rank = static_cast<int64_t>(y.shape.size());
            DS_REQUIRE(r.dim != r.to_dim && r.dim >= 0 && r.to_dim >= 0 && r.dim < rank && r.to_dim < rank,
                       "dimensions {} and {} must be two of x {}", r.dim, r.to_dim, dims_to_string(y.shape));
            int64_t &held = y.shape[static_cast<size_t>(r.dim)], &given = y.shape[static_cast<size_t>(r.to_dim)];
            DS_REQUIRE(held == size_at(from, r.rank) && given == r.to_full, "x {} must have {} at dimension {} and {} at {}",
                       dims_to_string(in[0].shape), size_at(from, r.rank), r.dim, r.to_full, r.to_dim);
            held = r.full, given = size_at(to, r.rank);
            return Types{std::move(y)};
        },
        .gradient = [](GradContext& c) { return Grads{c.b.call("recut", {c.dy[0]}, back(c.node.attrs.as<Recut>()))}; },
    };
    return op;
}

const OpDef& ring_shift() {
    static const OpDef op = {.name = "ring_shift",
                             .meaning = "the x of the next rank",
                             .inputs = {"x"},
                             .outputs = {"y"},
                             .attrs = attrs_type<Ring>(),
                             .infer = [](const Attrs& attrs, In in) -> Result<Types> {
                                 const auto& r = attrs.as<Ring>();
                                 DS_CHECK(check_ranks(r.rank, r.ranks));
                                 DS_REQUIRE(!in[0].shape.empty() && (r.ranks > 1 || in[0].shape[0] == r.rows), "rows {} do not fit x {}",
                                            r.rows, dims_to_string(in[0].shape));
                                 Type y = in[0];
                                 y.shape[0] = r.rows;
                                 return Types{std::move(y)};
                             }};
    return op;
}

const OpDef& local_rows() {
    static const OpDef op = {
        .name = "local_rows",
        .meaning = "where in this rank's share each row is; -1: in another's",
        .inputs = {"x"},
        .outputs = {"y"},
        .attrs = attrs_type<Share>(),
        .infer = ids_of_a_share,
        .cheap = true,
    };
    return op;
}

const OpDef& local_segments() {
    static const OpDef op = {
        .name = "local_segments",
        .meaning = "ends of sequences among this rank's share of their tokens",
        .inputs = {"x"},
        .outputs = {"y"},
        .attrs = attrs_type<Share>(),
        .infer = ids_of_a_share,
        .cheap = true,
    };
    return op;
}

const OpDef& first_tokens() {
    static const OpDef op = {
        .name = "first_tokens",
        .meaning = "tokens[segments[i]]: the first of each sequence",
        .inputs = {"tokens", "segments"},
        .outputs = {"y"},
        .attrs = attrs_type<NoAttrs>(),
        .infer = [](const Attrs&, In in) -> Result<Types> {
            DS_CHECK(require_ids(in[0], "tokens"));
            DS_CHECK(require_ids(in[1], "segments"));
            DS_REQUIRE(elements(in[0].shape) > 0 && elements(in[1].shape) > 1, "there must be a token and the ends of a sequence");
            return Types{{DType::i32, {elements(in[1].shape) - 1}}};
        },
        .cheap = true,
    };
    return op;
}

const OpDef& attention_merge() {
    static const OpDef op = {
        .name = "attention_merge",
        .meaning = "attention over two parts of the keys, of what each of them gives",
        .inputs = {"y", "lse", "y2?", "lse2?"},
        .outputs = {"merged", "merged_lse"},
        .attrs = attrs_type<Merge>(),
        .infer = [](const Attrs& attrs, In in) -> Result<Types> {
            DS_CHECK(require_float(in[0], "y"));
            DS_REQUIRE(in[0].shape.size() == 2 && in[1].shape.size() == 2 && in[0].shape[0] == in[1].shape[0] && in[1].shape[1] > 0 &&
                           in[0].shape[1] % in[1].shape[1] == 0,
                       "y {} and lse {} must be [tokens, heads * size] and [tokens, heads]", dims_to_string(in[0].shape),
                       dims_to_string(in[1].shape));
            DS_REQUIRE(in[1].dtype == DType::f32, "lse must be f32, not {}", name_of(in[1].dtype));
            DS_REQUIRE(in[2].present == in[3].present && (!in[2].present || (in[2] == in[0] && in[3] == in[1])),
                       "the second part must be as the first");
            return Types{{attrs.as<Merge>().out, in[0].shape}, in[1]};
        },
        .cost = per_element(4),
    };
    return op;
}

}  // namespace ds::ops
