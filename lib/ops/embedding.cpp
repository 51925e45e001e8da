// Rows of a table by id:  y[i] = table[ids[i]]. A negative id gives a row of zeros and receives no gradient; row `padding` receives none
// either. The inverse of such ids puts rows back where they were taken from: embedding(embedding(x, ids), inverse_rows(ids)) is x with the
// other rows zero.
#include "ops/rules.h"

namespace ds::ops {

const OpDef& embedding() {
    static const OpDef op = {
        .name = "embedding",
        .meaning = "rows of a table by id",
        .inputs = {"table", "ids"},
        .outputs = {"y"},
        .attrs = attrs_type<Embedding>(),
        .infer = [](const Attrs&, In in) -> Result<Types> {
            if (in[0].dtype != DType::i32) DS_CHECK(require_float(in[0], "table"));
            DS_CHECK(require_ids(in[1], "ids"));
            DS_REQUIRE(in[0].shape.size() == 2, "table must have rank 2, but is {}", dims_to_string(in[0].shape));
            Shape y = in[1].shape;
            y.push_back(in[0].shape[1]);
            return Types{{in[0].dtype, std::move(y)}};
        },
        .gradient =
            [](GradContext& c) {
                const Type table = c.b.type(c.in(0));
                const ValueId g =
                    c.b.call("embedding_grad", {c.dy[0], c.in(1)}, Rows{table.shape[0], c.node.attrs.as<Embedding>().padding});
                return Grads{c.b.cast(g, c.b.grad_dtype(c.in(0))), kNone};
            },
        .shard =
            [](const Graph& g, const Node& n) {
                const int columns = static_cast<int>(g.type(n.in[1]).shape.size());
                std::vector<ShardWay> ways = {
                    {{1, kWhole}, {columns}},
                    {{0, kWhole}, {kPartial}},
                };  // features, or the vocabulary with partial rows
                for (int d = 0; d < columns; ++d) ways.push_back({{kWhole, d}, {d}});
                return ways;
            },
        .cheap = true,
    };
    return op;
}

const OpDef& inverse_rows() {
    static const OpDef op = {
        .name = "inverse_rows",
        .meaning = "where among ids each row is: y[j] is the first i with ids[i] = j, or -1",
        .inputs = {"ids"},
        .outputs = {"y"},
        .attrs = attrs_type<Rows>(),
        .infer = [](const Attrs& attrs, In in) -> Result<Types> {
            DS_CHECK(require_ids(in[0], "ids"));
            DS_REQUIRE(attrs.as<Rows>().rows >= 0, "rows is {}", attrs.as<Rows>().rows);
            return Types{{DType::i32, {attrs.as<Rows>().rows}}};
        },
        .cheap = true,
    };
    return op;
}

const OpDef& embedding_grad() {
    static const OpDef op = {
        .name = "embedding_grad",
        .meaning = "sums of the gradient's rows by id",
        .inputs = {"dy", "ids", "into?"},
        .outputs = {"dtable"},
        .attrs = attrs_type<Rows>(),
        .infer = [](const Attrs& attrs, In in) -> Result<Types> {
            const Shape table{attrs.as<Rows>().rows, last(in[0].shape)};
            DS_CHECK(require_float(in[0], "dy"));
            DS_CHECK(require_ids(in[1], "ids"));
            DS_REQUIRE(table[0] >= 0, "rows is {}", table[0]);
            DS_REQUIRE(elements(in[1].shape) == elements(all_but_last(in[0].shape)), "ids must have one entry a row of dy {}, but are {}",
                       dims_to_string(in[0].shape), dims_to_string(in[1].shape));
            DS_CHECK(require_shape(in[2], "into", table));
            return Types{{DType::f32, table}};
        },
        .cost = per_element(1),
        .into = {{0, 2}},
    };
    return op;
}

}  // namespace ds::ops
