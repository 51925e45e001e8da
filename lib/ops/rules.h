// Pieces that several ops' rules share.
#pragma once

#include "ir/builder.h"

namespace ds::ops {

using Types = std::vector<Type>;
using In = std::span<const Type>;

inline Status require_float(const Type& t, std::string_view name) {
    DS_REQUIRE(t.dtype == DType::f32 || t.dtype == DType::bf16 || t.dtype == DType::f16, "{} must be f32, bf16 or f16, not {}", name,
               name_of(t.dtype));
    return ok();
}
inline Status require_ids(const Type& t, std::string_view name) {
    DS_REQUIRE(t.dtype == DType::i32, "{} must be i32, not {}", name, name_of(t.dtype));
    return ok();
}

inline Status require_shape(const Type& t, std::string_view name, const Shape& shape) {
    DS_REQUIRE(!t.present || t.shape == shape, "{} must be {}, not {}", name, dims_to_string(shape), dims_to_string(t.shape));
    return ok();
}

// The wider of two float types: equal ones stay, mixed ones are f32.
inline DType wider(DType a, DType b) { return a == b ? a : DType::f32; }

Result<Shape> broadcast_shapes(const Shape& a, const Shape& b);  // numpy's rule
Result<int64_t> axis_of(int64_t axis, size_t rank);              // counts from the end when negative

inline int64_t last(const Shape& s) { return s.empty() ? 1 : s.back(); }
inline Shape all_but_last(const Shape& s) { return s.empty() ? Shape{} : Shape(s.begin(), s.end() - 1); }
// x with all dimensions but the last folded into one.
inline ValueId as_matrix(Builder& b, ValueId x) {
    const Shape s = b.type(x).shape;
    return s.size() == 2 ? x : b.reshape(x, {elements(all_but_last(s)), s.back()});
}

// y has x's type.
Result<Types> same_as_first(const Attrs&, In in);
// Work a flop count an element; everything is read and written once.
std::function<Cost(const Attrs&, In, In)> per_element(double flops);
// Any dimension may be split, of all operands alike (right-aligned as in broadcasting).
std::vector<ShardWay> split_any(const Graph& g, const Node& n);
// Any dimension of the first input but the last; inputs of lower rank are whole.
std::vector<ShardWay> split_rows(const Graph& g, const Node& n);
// The same where input `by_row` has one entry, or one row, for each row of the first.
std::vector<ShardWay> split_rows_with(size_t by_row, const Graph& g, const Node& n);

}  // namespace ds::ops
