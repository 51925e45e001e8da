// Matrix product  y = op(a) @ op(b) (+ bias) (+ into),  op transposing the last two dimensions when asked.
// A linear layer of torch is matmul(x, weight, bias) with transpose_b: its weight is stored [out, in].
// Rank of b is 2, or equal to a's with the same leading (batch) dimensions.
#include "ops/rules.h"

namespace ds::ops {
namespace {

struct Dims {
    int64_t m, k, n;
};

Result<Dims> dims_of(const Matmul& attrs, const Shape& a, const Shape& b) {
    DS_REQUIRE(a.size() >= 2 && (b.size() == 2 || b.size() == a.size()),
               "a must have rank 2 or more and b rank 2 or a's, but they are {} and {}", dims_to_string(a), dims_to_string(b));
    if (b.size() > 2)
        for (size_t i = 0; i + 2 < a.size(); ++i) DS_REQUIRE(a[i] == b[i], "batch dimension {} is {} and {}", i, a[i], b[i]);
    DS_REQUIRE(!attrs.transpose_a || a.size() == b.size(), "transpose_a needs b of a's rank");
    int64_t m = a[a.size() - 2], k = a.back(), kb = b[b.size() - 2], n = b.back();
    if (attrs.transpose_a) std::swap(m, k);
    if (attrs.transpose_b) std::swap(kb, n);
    DS_REQUIRE(k == kb, "the contracted dimension is {} in a {} and {} in b {}", k, dims_to_string(a), kb, dims_to_string(b));
    return Dims{m, k, n};
}

Result<Types> infer_matmul(const Attrs& attrs, In in) {
    const auto& m = attrs.as<Matmul>();
    DS_CHECK(require_float(in[0], "a"));
    DS_CHECK(require_float(in[1], "b"));
    DS_TRY(const Dims d, dims_of(m, in[0].shape, in[1].shape));
    if (in[2].present)
        DS_REQUIRE(in[2].shape == Shape{d.n}, "bias must be [{}], the columns of the product, but is {}", d.n, dims_to_string(in[2].shape));
    Type y{m.set_out ? m.out : wider(in[0].dtype, in[1].dtype), in[0].shape};
    y.shape[y.shape.size() - 2] = d.m;
    y.shape.back() = d.n;
    if (in[3].present)
        DS_REQUIRE(in[3].shape == y.shape, "into must have the product's shape {}, but is {}", dims_to_string(y.shape),
                   dims_to_string(in[3].shape));
    return Types{std::move(y)};
}

Attrs attrs_giving(DType out, bool transpose_a, bool transpose_b) {
    return Matmul{.transpose_a = transpose_a, .transpose_b = transpose_b, .out = out, .set_out = true};
}

Grads gradient(GradContext& c) {
    const auto& m = c.node.attrs.as<Matmul>();
    Builder& b = c.b;
    Grads g(c.node.in.size(), kNone);
    ValueId dy = c.dy[0], a = c.in(0), w = c.in(1);
    if (c.in(3) != kNone && c.wants[3]) g[3] = b.cast(dy, b.grad_dtype(c.in(3)));
    // The product ran in a's type; so do the products of its gradient.
    dy = b.cast(dy, b.type(a).dtype);
    const bool shared_b = b.type(w).shape.size() < b.type(a).shape.size();
    if (c.wants[0]) {
        const DType type = b.grad_dtype(a);
        g[0] = m.transpose_a ? b.call("matmul", {w, dy}, attrs_giving(type, m.transpose_b, true))
                             : b.call("matmul", {dy, w}, attrs_giving(type, false, !m.transpose_b));
    }
    if (c.wants[1]) {
        const DType type = b.grad_dtype(w);
        const ValueId x = shared_b ? as_matrix(b, a) : a, d = shared_b ? as_matrix(b, dy) : dy;
        g[1] = m.transpose_b ? b.call("matmul", {d, x}, attrs_giving(type, true, m.transpose_a))
                             : b.call("matmul", {x, d}, attrs_giving(type, !m.transpose_a, false));
    }
    if (c.in(2) != kNone && c.wants[2]) g[2] = b.cast(b.reduce_to(dy, b.type(c.in(2)).shape), DType::f32);
    return g;
}

std::vector<ShardWay> ways(const Graph& g, const Node& n) {
    const auto& m = n.attrs.as<Matmul>();
    const int ra = static_cast<int>(g.type(n.in[0]).shape.size()), rb = static_cast<int>(g.type(n.in[1]).shape.size());
    const int a_rows = m.transpose_a ? ra - 1 : ra - 2, a_k = m.transpose_a ? ra - 2 : ra - 1;
    const int b_k = m.transpose_b ? rb - 1 : rb - 2, b_columns = m.transpose_b ? rb - 2 : rb - 1;
    std::vector<ShardWay> list = {
        {{kWhole, b_columns, 0, ra - 1}, {ra - 1}},    // columns of the product (column-parallel)
        {{a_k, b_k, kPartial, kPartial}, {kPartial}},  // the contracted dimension (row-parallel): each rank holds a summand
        {{a_rows, kWhole, kWhole, ra - 2}, {ra - 2}},  // rows of the product
    };
    for (int d = 0; d < ra - 2; ++d) list.push_back({{d, rb == ra ? d : kWhole, kWhole, d}, {d}});
    for (ShardWay& way : list) way.in.resize(n.in.size());
    return list;
}

}  // namespace

const OpDef& matmul() {
    static const OpDef op = {
        .name = "matmul",
        .meaning = "matrix product, with bias and accumulation",
        .inputs = {"a", "b", "bias?", "into?"},
        .outputs = {"y"},
        .attrs = attrs_type<Matmul>(),
        .infer = infer_matmul,
        .gradient = gradient,
        .shard = ways,
        .cost =
            [](const Attrs& attrs, In in, In out) {
                const auto d = dims_of(attrs.as<Matmul>(), in[0].shape, in[1].shape);
                return Cost{.flops = 2.0 * static_cast<double>(elements(out[0].shape)) * static_cast<double>(d->k)};
            },
        .low_inputs = 2,
        .into = {{0, 3}},
    };
    return op;
}

}  // namespace ds::ops
