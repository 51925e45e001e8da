// y = a W^T (+ bias) (+ into) with a weight that is kept as its values that are not zero, for evaluation and generation of pruned models:
// it has no gradient.
#include "base/weight_code.h"
#include "ops/attrs_coded.h"
#include "ops/rules.h"

namespace ds::ops {

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
            DS_CHECK(require_shape(in[2], "bias", {m.outs}));
            Type y{m.set_out ? m.out : in[0].dtype, in[0].shape};
            y.shape.back() = m.outs;
            DS_CHECK(require_shape(in[3], "into", y.shape));
            return Types{std::move(y)};
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
