// Access to elements of any type as f64, for the plain kernels.
#pragma once

#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/kernel.h"

namespace ds::ref {

// The elements of tensors count from 0 in row-major order; rows may lie apart.
inline std::byte* element(const Tensor& t, int64_t i) {
    const int64_t columns = t.columns();
    return t.as<std::byte>() + (i / columns * t.row_stride + i % columns) * size_of(t.dtype);
}

// What x becomes in a type of fewer bits; elements of a tensor that is Tensor::rounded stand for that.
inline double rounded(DType to, double x) {
    std::byte low[8];
    convert(&x, DType::f64, low, to, 1);
    convert(low, to, &x, DType::f64, 1);
    return x;
}

inline double get(const Tensor& t, int64_t i) {
    if (t.rounded != DType::f32) return rounded(t.rounded, *reinterpret_cast<const float*>(element(t, i)));
    if (t.dtype == DType::f32) return *reinterpret_cast<const float*>(element(t, i));
    double x;
    convert(element(t, i), t.dtype, &x, DType::f64, 1);
    return x;
}

inline void set(const Tensor& t, int64_t i, double x) {
    if (t.dtype == DType::f32) *reinterpret_cast<float*>(element(t, i)) = static_cast<float>(x);
    else convert(&x, DType::f64, element(t, i), t.dtype, 1);
}

// All elements, for loops that read each of them often.
inline std::vector<double> values_of(const Tensor& t) {
    std::vector<double> values(static_cast<size_t>(t.count()));
    const int64_t columns = t.columns();
    for (int64_t i = 0; i < t.count(); i += columns) convert(element(t, i), t.dtype, values.data() + i, DType::f64, columns);
    if (t.rounded != DType::f32)
        for (double& x : values) x = rounded(t.rounded, x);
    return values;
}

// into's element, or 0 where it is absent.
inline double get_if(const Tensor& t, int64_t i) { return t.present ? get(t, i) : 0; }

// Copies one element; exact where the types are equal.
inline void move(const Tensor& from, int64_t i, const Tensor& to, int64_t j) {
    if (from.dtype == to.dtype) std::memmove(element(to, j), element(from, i), static_cast<size_t>(size_of(to.dtype)));
    else convert(element(from, i), from.dtype, element(to, j), to.dtype, 1);
}

// The row-major strides of a tensor's dimensions, in elements counted as above.
inline void strides_of(const Tensor& t, int64_t* strides) {
    for (int i = t.rank - 1; i >= 0; --i) strides[i] = i == t.rank - 1 ? 1 : strides[i + 1] * t.dims[i + 1];
}

inline int64_t place(int64_t axis, const Tensor& t) { return axis < 0 ? axis + t.rank : axis; }

// One thread does all the work.
template <void (*run)(const Call&)>
void alone(const Call& call, Team team) {
    if (team.rank == 0) run(call);
}
template <void (*run)(const Call&)>
constexpr KernelImpl plain() {
    return {"ref", accepts_all, simple<alone<run>>};
}
// The same for what reads weights by `get` and `values_of`, which round.
template <void (*run)(const Call&)>
constexpr KernelImpl rounding() {
    return {.name = "ref", .declines = accepts_all, .prepare = simple<alone<run>>, .rounds = true};
}

}  // namespace ds::ref
