// Ops that move or rename elements: reshape, copy, transpose, slice, split, concat, fill, broadcast. Any element type.
#include "ops/rules.h"

namespace ds::ops {
namespace {

Result<Types> infer_reshape(const Attrs& attrs, In in) {
    const Shape& from = in[0].shape;
    Shape to = attrs.as<Reshape>().shape;
    int64_t known = 1, inferred = -1;
    for (size_t i = 0; i < to.size(); ++i) {
        DS_REQUIRE(to[i] != 0 || i < from.size(), "dimension {} of the new shape is 0 (keep), but x {} has none there", i,
                   dims_to_string(from));
        if (to[i] == 0) to[i] = from[i];
        DS_REQUIRE(to[i] >= -1, "dimension {} of the new shape is {}", i, to[i]);
        if (to[i] == -1) {
            DS_REQUIRE(inferred < 0, "only one dimension can be -1");
            inferred = static_cast<int64_t>(i);
        } else known *= to[i];
    }
    const int64_t n = elements(from);
    if (inferred >= 0) {
        DS_REQUIRE(known > 0 && n % known == 0, "{} elements of x {} do not divide into the new shape", n, dims_to_string(from));
        to[static_cast<size_t>(inferred)] = n / known;
        known *= n / known;
    }
    DS_REQUIRE(known == n, "x {} and the new shape {} hold different numbers of elements", dims_to_string(from), dims_to_string(to));
    return Types{{in[0].dtype, std::move(to)}};
}

std::vector<int64_t> permutation(const Attrs& attrs, size_t rank) {
    std::vector<int64_t> perm = attrs.as<Permute>().perm;
    if (perm.empty())
        for (size_t i = rank; i-- > 0;) perm.push_back(static_cast<int64_t>(i));
    return perm;
}

Result<Types> infer_transpose(const Attrs& attrs, In in) {
    const auto perm = permutation(attrs, in[0].shape.size());
    DS_REQUIRE(perm.size() == in[0].shape.size(), "perm has {} entries for x {}", perm.size(), dims_to_string(in[0].shape));
    std::vector<bool> seen(perm.size(), false);
    Shape y;
    for (const int64_t p : perm) {
        DS_REQUIRE(p >= 0 && p < static_cast<int64_t>(perm.size()) && !seen[static_cast<size_t>(p)],
                   "perm must name every dimension of x once, found {}", p);
        seen[static_cast<size_t>(p)] = true;
        y.push_back(in[0].shape[static_cast<size_t>(p)]);
    }
    return Types{{in[0].dtype, std::move(y)}};
}

struct Range {
    int64_t axis, begin, end;
};
Result<Range> range_of(const Attrs& attrs, const Shape& x) {
    const auto& s = attrs.as<Slice>();
    DS_TRY(const int64_t axis, axis_of(s.axis, x.size()));
    const int64_t n = x[static_cast<size_t>(axis)];
    const int64_t begin = s.begin < 0 ? s.begin + n : s.begin, end = s.end == INT64_MAX ? n : s.end < 0 ? s.end + n : s.end;
    DS_REQUIRE(begin >= 0 && begin <= end && end <= n, "{}..{} is outside dimension {} of x {}", s.begin, s.end, axis, dims_to_string(x));
    return Range{axis, begin, end};
}

Grads slice_gradient(GradContext& c) {
    const Type x = c.b.type(c.in(0));
    const Range r = *range_of(c.node.attrs, x.shape);
    std::vector<ValueId> parts;
    const auto zeros = [&](int64_t n) {
        if (n == 0) return;
        Fill fill{.shape = x.shape, .dtype = c.b.type(c.dy[0]).dtype};
        fill.shape[static_cast<size_t>(r.axis)] = n;
        parts.push_back(c.b.call("fill", {}, fill));
    };
    zeros(r.begin);
    parts.push_back(c.dy[0]);
    zeros(x.shape[static_cast<size_t>(r.axis)] - r.end);
    return {parts.size() == 1 ? parts[0] : c.b.call("concat", parts, Axis{r.axis})};
}

Result<Types> infer_split(const Attrs& attrs, In in) {
    const auto& s = attrs.as<Split>();
    DS_TRY(const int64_t axis, axis_of(s.axis, in[0].shape.size()));
    int64_t sum = 0;
    Types parts;
    for (const int64_t n : s.sizes) {
        DS_REQUIRE(n > 0, "size {} is not positive", n);
        sum += n;
        parts.push_back(in[0]);
        parts.back().shape[static_cast<size_t>(axis)] = n;
    }
    DS_REQUIRE(sum == in[0].shape[static_cast<size_t>(axis)], "sizes add up to {}, but dimension {} of x {} is {}", sum, axis,
               dims_to_string(in[0].shape), in[0].shape[static_cast<size_t>(axis)]);
    return parts;
}

Result<Types> infer_concat(const Attrs& attrs, In in) {
    DS_REQUIRE(!in.empty(), "needs at least one input");
    DS_TRY(const int64_t axis, axis_of(attrs.as<Axis>().axis, in[0].shape.size()));
    Type y = in[0];
    y.shape[static_cast<size_t>(axis)] = 0;
    for (const Type& x : in) {
        Shape others = x.shape;
        DS_REQUIRE(x.dtype == y.dtype, "inputs are {} and {}", name_of(y.dtype), name_of(x.dtype));
        DS_REQUIRE(others.size() == y.shape.size(), "inputs have ranks {} and {}", y.shape.size(), others.size());
        const int64_t n = std::exchange(others[static_cast<size_t>(axis)], y.shape[static_cast<size_t>(axis)]);
        DS_REQUIRE(others == y.shape, "inputs differ outside dimension {}: {} and {}", axis, dims_to_string(in[0].shape),
                   dims_to_string(x.shape));
        y.shape[static_cast<size_t>(axis)] += n;
    }
    return Types{std::move(y)};
}

Grads concat_gradient(GradContext& c) {
    Split split{.axis = c.node.attrs.as<Axis>().axis};
    const auto axis = static_cast<size_t>(*axis_of(split.axis, c.b.type(c.in(0)).shape.size()));
    for (const ValueId id : c.node.in) split.sizes.push_back(c.b.type(id).shape[axis]);
    return c.b.call_all("split", {c.dy[0]}, split);
}

// The gradients of the parts that nothing used are zero.
Grads split_gradient(GradContext& c) {
    std::vector<ValueId> parts = c.dy;
    for (size_t i = 0; i < parts.size(); ++i)
        if (parts[i] == kNone) parts[i] = c.b.call("fill", {}, Fill{.shape = c.b.type(c.out(i)).shape, .dtype = c.b.type(c.out(i)).dtype});
    return {c.b.call("concat", parts, Axis{c.node.attrs.as<Split>().axis})};
}

}  // namespace

const OpDef& reshape() {
    static const OpDef op = {
        .name = "reshape",
        .meaning = "the same elements in another shape; 0 keeps a dimension, one -1 is inferred",
        .inputs = {"x"},
        .outputs = {"y"},
        .attrs = attrs_type<Reshape>(),
        .infer = infer_reshape,
        .gradient = [](GradContext& c) { return Grads{c.b.reshape(c.dy[0], c.b.type(c.in(0)).shape)}; },
        .cheap = true,
        .view = true,
    };
    return op;
}

const OpDef& copy() {
    static const OpDef op = {
        .name = "copy",
        .meaning = "x in memory of its own",
        .inputs = {"x"},
        .outputs = {"y"},
        .attrs = attrs_type<NoAttrs>(),
        .infer = [](const Attrs&, In in) -> Result<Types> { return Types{in[0]}; },
        .gradient = [](GradContext& c) { return Grads{c.dy[0]}; },
        .shard = split_any,
        .cheap = true,
        .strided = true,
    };
    return op;
}

const OpDef& transpose() {
    static const OpDef op = {.name = "transpose",
                             .meaning = "dimensions in another order (reversed by default)",
                             .inputs = {"x"},
                             .outputs = {"y"},
                             .attrs = attrs_type<Permute>(),
                             .infer = infer_transpose,
                             .gradient =
                                 [](GradContext& c) {
                                     const auto perm = permutation(c.node.attrs, c.b.type(c.in(0)).shape.size());
                                     Permute inverse{std::vector<int64_t>(perm.size())};
                                     for (size_t i = 0; i < perm.size(); ++i)
                                         inverse.perm[static_cast<size_t>(perm[i])] = static_cast<int64_t>(i);
                                     return Grads{c.b.call("transpose", {c.dy[0]}, inverse)};
                                 },
                             .shard =
                                 [](const Graph& g, const Node& n) {
                                     std::vector<ShardWay> ways;
                                     const auto perm = permutation(n.attrs, g.type(n.in[0]).shape.size());
                                     for (size_t i = 0; i < perm.size(); ++i)
                                         ways.push_back({{static_cast<int>(perm[i])}, {static_cast<int>(i)}});
                                     return ways;
                                 }};
    return op;
}

const OpDef& slice() {
    static const OpDef op = {
        .name = "slice",
        .meaning = "begin..end of one dimension",
        .inputs = {"x"},
        .outputs = {"y"},
        .attrs = attrs_type<Slice>(),
        .infer = [](const Attrs& attrs, In in) -> Result<Types> {
            DS_TRY(const Range r, range_of(attrs, in[0].shape));
            Type y = in[0];
            y.shape[static_cast<size_t>(r.axis)] = r.end - r.begin;
            return Types{std::move(y)};
        },
        .gradient = slice_gradient,
        .cheap = true,
        .strided = true,
    };
    return op;
}

const OpDef& split() {
    static const OpDef op = {
        .name = "split",
        .meaning = "consecutive parts of one dimension",
        .inputs = {"x"},
        .outputs = {"y..."},
        .attrs = attrs_type<Split>(),
        .infer = infer_split,
        .gradient = split_gradient,
        .cheap = true,
        .strided = true,
    };
    return op;
}

const OpDef& concat() {
    static const OpDef op = {
        .name = "concat",
        .meaning = "inputs one after another along one dimension",
        .inputs = {"x..."},
        .outputs = {"y"},
        .attrs = attrs_type<Axis>(),
        .infer = infer_concat,
        .gradient = concat_gradient,
        .strided = true,
    };
    return op;
}

const OpDef& fill() {
    static const OpDef op = {
        .name = "fill",
        .meaning = "every element is value",
        .inputs = {},
        .outputs = {"y"},
        .attrs = attrs_type<Fill>(),
        .infer = [](const Attrs& attrs, In) -> Result<Types> {
            const auto& f = attrs.as<Fill>();
            DS_TRY([[maybe_unused]] const int64_t n, checked_elements(f.shape));
            return Types{{f.dtype, f.shape}};
        },
        .gradient = [](GradContext&) { return Grads{}; },
        .shard = split_any,
        .cheap = true,
    };
    return op;
}

const OpDef& iota() {
    static const OpDef op = {
        .name = "iota",
        .meaning = "each element is its index in the last dimension, i32",
        .inputs = {},
        .outputs = {"y"},
        .attrs = attrs_type<Fill>(),
        .infer = [](const Attrs& attrs, In) -> Result<Types> {
            const auto& f = attrs.as<Fill>();
            DS_TRY([[maybe_unused]] const int64_t n, checked_elements(f.shape));
            return Types{{DType::i32, f.shape}};
        },
        .gradient = [](GradContext&) { return Grads{}; },
        .cheap = true,
    };
    return op;
}

const OpDef& broadcast() {
    static const OpDef op = {
        .name = "broadcast",
        .meaning = "x repeated to a shape, by numpy's rule",
        .inputs = {"x"},
        .outputs = {"y"},
        .attrs = attrs_type<Reshape>(),
        .infer = [](const Attrs& attrs, In in) -> Result<Types> {
            const Shape& to = attrs.as<Reshape>().shape;
            DS_TRY(const Shape y, broadcast_shapes(in[0].shape, to));
            DS_REQUIRE(y == to, "x {} does not broadcast to {}", dims_to_string(in[0].shape), dims_to_string(to));
            return Types{{in[0].dtype, y}};
        },
        .gradient =
            [](GradContext& c) {
                const Type x = c.b.type(c.in(0));
                return Grads{c.b.cast(c.b.reduce_to(c.dy[0], x.shape), x.dtype)};
            },
        .shard = split_any,
        .cheap = true,
    };
    return op;
}

}  // namespace ds::ops
