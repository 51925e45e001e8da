#include "ops/rules.h"

namespace ds::ops {

Result<Shape> broadcast_shapes(const Shape& a, const Shape& b) {
    Shape out(std::max(a.size(), b.size()), 1);
    for (size_t i = 0; i < out.size(); ++i) {
        const int64_t da = i < a.size() ? a[a.size() - 1 - i] : 1, db = i < b.size() ? b[b.size() - 1 - i] : 1;
        DS_REQUIRE(da == db || da == 1 || db == 1, "shapes {} and {} do not broadcast: dimension {} from the end is {} and {}",
                   dims_to_string(a), dims_to_string(b), i + 1, da, db);
        out[out.size() - 1 - i] = da == 1 ? db : da;
    }
    return out;
}

Result<int64_t> axis_of(int64_t axis, size_t rank) {
    const auto n = static_cast<int64_t>(rank);
    DS_REQUIRE(axis >= -n && axis < n, "axis {} is outside rank {}", axis, n);
    return axis < 0 ? axis + n : axis;
}

Result<Types> same_as_first(const Attrs&, In in) {
    DS_CHECK(require_float(in[0], "x"));
    return Types{in[0]};
}

std::function<Cost(const Attrs&, In, In)> per_element(double flops) {
    return [flops](const Attrs&, In, In out) { return Cost{.flops = flops * static_cast<double>(elements(out[0].shape))}; };
}

std::vector<ShardWay> split_any(const Graph& g, const Node& n) {
    std::vector<ShardWay> ways;
    const Shape& y = g.type(n.out[0]).shape;
    for (int d = 0; d < static_cast<int>(y.size()); ++d) {
        const auto place = [&](ValueId id) {
            if (id == kNone) return kWhole;
            const Shape& s = g.type(id).shape;
            const int own = d - static_cast<int>(y.size() - s.size());
            return own >= 0 && s[static_cast<size_t>(own)] == y[static_cast<size_t>(d)] && y[static_cast<size_t>(d)] > 1 ? own : kWhole;
        };
        ShardWay way;
        for (const ValueId id : n.in) way.in.push_back(place(id));
        for (const ValueId id : n.out) way.out.push_back(place(id));
        ways.push_back(std::move(way));
    }
    return ways;
}

std::vector<ShardWay> split_rows(const Graph& g, const Node& n) {
    std::vector<ShardWay> ways;
    const size_t rank = g.type(n.in[0]).shape.size();
    for (int d = 0; d + 1 < static_cast<int>(rank); ++d) {
        ShardWay way;
        // An output with one dimension less has a value a row.
        const auto place = [&](ValueId id, size_t least) {
            return id != kNone && g.type(id).shape.size() >= least && least > 0 ? d : kWhole;
        };
        for (const ValueId id : n.in) way.in.push_back(place(id, rank));
        for (const ValueId id : n.out) way.out.push_back(place(id, rank - 1));
        ways.push_back(std::move(way));
    }
    return ways;
}

std::vector<ShardWay> split_rows_with(size_t by_row, const Graph& g, const Node& n) {
    auto ways = split_rows(g, n);
    if (by_row >= n.in.size() || n.in[by_row] == kNone) return ways;
    const Shape &x = g.type(n.in[0]).shape, &s = g.type(n.in[by_row]).shape;
    const Shape rows(x.begin(), x.end() - 1);
    const bool alike = s.size() + 1 >= x.size() && std::equal(rows.begin(), rows.end(), s.begin());
    const bool flat = !s.empty() && s[0] == elements(rows);  // rows of all dimensions in one: only whole blocks of the first can be split
    // What has no row of its own for each row of x repeats along them: a part of x would begin anew, but for whole blocks of the first.
    std::erase_if(ways, [&](const ShardWay& way) { return !alike && (way.out[0] != 0 || (!flat && rows.size() == 1)); });
    for (ShardWay& way : ways) way.in[by_row] = alike ? way.out[0] : flat ? 0 : kWhole;
    return ways;
}

}  // namespace ds::ops
