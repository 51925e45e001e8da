// Products with weights that are kept otherwise than as rows of numbers.
//
// y = op(a) W (+ bias) (+ into) with a frozen weight that is kept in few bits (kernels/coded.h): its values are made where the product
// needs them, rounded to a's type. The weight has no gradient; a's is the same product, transposed.
#include "base/weight_code.h"
#include "ops/attrs_coded.h"
#include "ops/rules.h"

namespace ds::ops {
namespace {

// Of a, codes, bias?, into? the result, of n columns.
template <class Attributes>
Result<Types> product(In in, int64_t n, const Attributes& m) {
    DS_CHECK(require_shape(in[2], "bias", {n}));
    Type y{m.set_out ? m.out : in[0].dtype, in[0].shape};
    y.shape.back() = n;
    DS_CHECK(require_shape(in[3], "into", y.shape));
    return Types{std::move(y)};
}

Result<Types> infer_coded(const Attrs& attrs, In in) {
    const auto& m = attrs.as<CodedMatmul>();
    DS_CHECK(require_float(in[0], "a"));
    DS_REQUIRE(m.bits == 4 || m.bits == 8, "bits is {}, not 4 or 8", m.bits);
    DS_REQUIRE(m.rows > 0 && m.columns > 0, "rows and columns of the weight are {} and {}, but must be above 0", m.rows, m.columns);
    DS_REQUIRE(m.group >= 0 && (m.group == 0 || (m.columns % m.group == 0 && !m.two_levels)),
               "group is {}, which must divide the {} columns, without two levels", m.group, m.columns);
    DS_REQUIRE(!m.asymmetric || m.group > 0, "asymmetric needs a group");
    const int64_t bytes = coded_bytes(m.rows, m.columns, m.code());
    DS_REQUIRE(in[1].dtype == DType::u8 && in[1].shape == Shape{bytes}, "a weight of {} x {} in {} bits is u8[{}], but codes are {}",
               m.rows, m.columns, m.bits, bytes, to_string(in[1]));
    const int64_t k = m.transpose ? m.columns : m.rows, n = m.transpose ? m.rows : m.columns;
    DS_REQUIRE(in[0].shape.size() >= 2 && in[0].shape.back() == k, "a must have rank 2 or more and {} columns, but is {}", k,
               dims_to_string(in[0].shape));
    return product(in, n, m);
}

Grads gradient(GradContext& c) {
    Builder& b = c.b;
    Grads g(c.node.in.size(), kNone);
    if (c.in(3) != kNone && c.wants[3]) g[3] = b.cast(c.dy[0], b.grad_dtype(c.in(3)));
    const ValueId dy = b.cast(c.dy[0], b.type(c.in(0)).dtype);  // as the product ran
    if (c.wants[0]) {
        CodedMatmul m = c.node.attrs.as<CodedMatmul>();
        m.transpose = !m.transpose, m.out = b.grad_dtype(c.in(0)), m.set_out = true;
        g[0] = b.call("coded_matmul", {dy, c.in(1)}, m);
    }
    if (c.in(2) != kNone && c.wants[2]) g[2] = b.cast(b.reduce_to(dy, b.type(c.in(2)).shape), DType::f32);
    return g;
}

}  // namespace

const OpDef& coded_matmul() {
    static const OpDef op = {
        .name = "coded_matmul",
        .meaning = "matrix product with a weight that is kept in 4 or 8 bits",
        .inputs = {"a", "codes", "bias?", "into?"},
        .outputs = {"y"},
        .attrs = attrs_type<CodedMatmul>(),
        .infer = infer_coded,
        .gradient = gradient,
        .cost =
            [](const Attrs& attrs, In, In out) {
                const auto& m = attrs.as<CodedMatmul>();
                return Cost{.flops =
                                2.0 * static_cast<double>(elements(out[0].shape)) * static_cast<double>(m.transpose ? m.columns : m.rows)};
            },
        .low_inputs = 1,
        .into = {{0, 3}},
    };
    return op;
}

// y = (round(a) W) (+ bias) (+ into) in integers: each row of a is divided by its largest magnitude / 127 and rounded, sums of products are
// exact, and are multiplied by the row's and the output's scale (LLM.int8, Dettmers et al. 2022, arXiv 2208.07339, without its outliers).
// For evaluation: it has no gradient.
const OpDef& int8_matmul() {
    static const OpDef op = {
        .name = "int8_matmul",
        .meaning = "matrix product in 8-bit integers with a weight that is kept so",
        .inputs = {"a", "codes", "bias?", "into?"},
        .outputs = {"y"},
        .attrs = attrs_type<Int8Matmul>(),
        .infer = [](const Attrs& attrs, In in) -> Result<Types> {
            const auto& m = attrs.as<Int8Matmul>();
            DS_CHECK(require_float(in[0], "a"));
            DS_REQUIRE(m.outs > 0, "outs is {}, but must be above 0", m.outs);
            DS_REQUIRE(in[0].shape.size() >= 2, "a must have rank 2 or more, but is {}", dims_to_string(in[0].shape));
            const int64_t bytes = Int8Parts(m.outs, in[0].shape.back()).bytes;
            DS_REQUIRE(in[1].dtype == DType::u8 && in[1].shape == Shape{bytes},
                       "a weight of {} outputs and {} inputs is u8[{}], but codes are {}", m.outs, in[0].shape.back(), bytes,
                       to_string(in[1]));
            return product(in, m.outs, m);
        },
        .cost =
            [](const Attrs& attrs, In in, In) {
                return Cost{.flops = 2.0 * static_cast<double>(elements(in[0].shape)) * static_cast<double>(attrs.as<Int8Matmul>().outs)};
            },
        .low_inputs = 1,
        .into = {{0, 3}},
    };
    return op;
}

// y = a W^T (+ bias) (+ into) with a weight that is kept as its values that are not zero (kernels/sparse.h). For evaluation: it has no
// gradient.
const OpDef& sparse_matmul() {
    static const OpDef op = {
        .name = "sparse_matmul",
        .meaning = "matrix product with a weight that is kept as its values that are not zero",
        .inputs = {"a", "codes", "bias?", "into?"},
        .outputs = {"y"},
        .attrs = attrs_type<SparseMatmul>(),
        .infer = [](const Attrs& attrs, In in) -> Result<Types> {
            const auto& m = attrs.as<SparseMatmul>();
            DS_CHECK(require_float(in[0], "a"));
            DS_REQUIRE(m.bits == 16 || m.bits == 32, "bits is {}, not 16 or 32", m.bits);
            DS_REQUIRE(in[0].shape.size() >= 2, "a must have rank 2 or more, but is {}", dims_to_string(in[0].shape));
            const int64_t ins = in[0].shape.back();
            DS_REQUIRE(m.outs > 0 && m.nonzeros >= 0 && m.nonzeros <= m.outs * ins, "nonzeros is {}, of {} outputs and {} inputs",
                       m.nonzeros, m.outs, ins);
            const int64_t bytes = SparseParts(m.outs, ins, m.nonzeros, m.bits).bytes;
            DS_REQUIRE(in[1].dtype == DType::u8 && in[1].shape == Shape{bytes},
                       "a weight of {} outputs and {} inputs with {} values in {} bits is u8[{}], but codes are {}", m.outs, ins,
                       m.nonzeros, m.bits, bytes, to_string(in[1]));
            return product(in, m.outs, m);
        },
        .cost =
            [](const Attrs& attrs, In in, In) {
                const int64_t rows = elements(in[0].shape) / std::max<int64_t>(in[0].shape.back(), 1);
                return Cost{.flops = 2.0 * static_cast<double>(rows) * static_cast<double>(attrs.as<SparseMatmul>().nonzeros)};
            },
        .low_inputs = 1,
        .into = {{0, 3}},
    };
    return op;
}

}  // namespace ds::ops
