// Rotary position embedding (Su et al. 2021, arXiv 2104.09864): each pair (a, b) of a head's columns becomes
// (a cos - b sin, b cos + a sin) with the angle position * inv_freq[pair]. The gradient rotates back.
#include "ops/rules.h"

namespace ds::ops {

const OpDef& rope_angles() {
    static const OpDef op = {
        .name = "rope_angles",
        .meaning = "cos and sin of position * inv_freq",
        .inputs = {"positions"},
        .outputs = {"angles"},
        .attrs = attrs_type<RopeAngles>(),
        .infer = [](const Attrs& attrs, In in) -> Result<Types> {
            DS_CHECK(require_ids(in[0], "positions"));
            DS_REQUIRE(in[0].shape.size() == 1, "positions must have rank 1, but are {}", dims_to_string(in[0].shape));
            return Types{{DType::f32, {in[0].shape[0], 2 * static_cast<int64_t>(attrs.as<RopeAngles>().inv_freq.size())}}};
        },
        .gradient = [](GradContext&) { return Grads{kNone}; },
        .cheap = true,
    };
    return op;
}

const OpDef& rope() {
    static const OpDef op = {
        .name = "rope",
        .meaning = "rotary position embedding",
        .inputs = {"x", "angles?"},
        .outputs = {"y"},
        .attrs = attrs_type<Rope>(),
        .infer = [](const Attrs& attrs, In in) -> Result<Types> {
            const auto& r = attrs.as<Rope>();
            const Shape& x = in[0].shape;
            DS_CHECK(require_float(in[0], "x"));
            DS_REQUIRE(x.size() >= 2, "x must have rank 2 or more, but is {}", dims_to_string(x));
            const int64_t head = r.head_dim ? r.head_dim : x.back();
            DS_REQUIRE(head > 0 && x.back() % head == 0 && head % 2 == 0, "head_dim {} must be even and divide the last dimension of x {}",
                       head, dims_to_string(x));
            if (in[1].present)
                DS_REQUIRE(in[1].shape.size() == 2 && in[1].shape[1] <= head && in[1].shape[1] % 2 == 0 &&
                               elements(all_but_last(x)) % in[1].shape[0] == 0,
                           "angles must be [rows of x, at most head_dim {}], but are {}", head, dims_to_string(in[1].shape));
            return Types{in[0]};
        },
        .gradient =
            [](GradContext& c) {
                Rope back = c.node.attrs.as<Rope>();
                back.inverse = !back.inverse;
                return Grads{c.b.call("rope", {c.dy[0], c.in(1)}, back), kNone};
            },
        .shard =
            [](const Graph& g, const Node& n) {
                auto ways = split_rows_with(1, g, n);
                const int columns = static_cast<int>(g.type(n.in[0]).shape.size()) - 1;
                if (n.in.size() < 2 || n.in[1] == kNone)  // positions are counted along the rows of x, or along its second dimension
                    std::erase_if(ways, [&](const ShardWay& way) { return way.in[0] == (columns > 1 ? 1 : 0); });
                if (n.attrs.as<Rope>().head_dim > 0) ways.push_back({{columns, kWhole}, {columns}});  // whole heads
                return ways;
            },
        .cost = per_element(3),
        .cheap = true,
        .strided = true,
        .in_place = true,
    };
    return op;
}

}  // namespace ds::ops
