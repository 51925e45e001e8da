// Sums over ranks, in the order of ranks and in f32 (f64 for f64): every backend adds with this, so all give the same bits.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include "base/dtype.h"

namespace ds {

inline constexpr int64_t kSumTile = 4096;  // elements summed at a time: stays in the first cache

// acc += x, element by element.
inline void add_into(float* acc, const void* x, DType dtype, int64_t n) {
    if (dtype == DType::f32) {
        const auto* from = static_cast<const float*>(x);
        for (int64_t i = 0; i < n; ++i) acc[i] += from[i];
        return;
    }
    float wide[512];
    for (int64_t at = 0; at < n; at += 512) {
        const int64_t count = std::min<int64_t>(512, n - at);
        convert(static_cast<const std::byte*>(x) + at * size_of(dtype), dtype, wide, DType::f32, count);
        for (int64_t i = 0; i < count; ++i) acc[at + i] += wide[i];
    }
}

// Elements [begin, end) of the sum of `parts`, given to each of `outs`, which may be parts themselves.
inline void sum_parts(std::span<const std::byte* const> parts, std::span<std::byte* const> outs, DType dtype, int64_t begin, int64_t end) {
    const int64_t size = size_of(dtype);
    if (dtype == DType::f64) {
        for (int64_t i = begin; i < end; ++i) {
            double total = 0;
            for (const std::byte* part : parts) total += reinterpret_cast<const double*>(part)[i];
            for (std::byte* out : outs) reinterpret_cast<double*>(out)[i] = total;
        }
        return;
    }
    float acc[kSumTile];
    for (int64_t at = begin; at < end; at += kSumTile) {
        const int64_t n = std::min(kSumTile, end - at);
        convert(parts[0] + at * size, dtype, acc, DType::f32, n);
        for (size_t p = 1; p < parts.size(); ++p) add_into(acc, parts[p] + at * size, dtype, n);
        for (std::byte* out : outs) convert(acc, DType::f32, out + at * size, dtype, n);
    }
}

}  // namespace ds
