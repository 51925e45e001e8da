// The arithmetic of fake_quantize and top_mask (lib/ops/attrs_compress.h), for kernels and for what writes compressed weights to files.
// In f32, in the order of operations of DeepSpeed's compression/utils.py; a group of zeros stays as it is, where DeepSpeed divides by zero.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

namespace ds {

struct Levels {  // of one group
    float scale = 0, zero = 0, least = 0, most = 0;
    float step(float x) const { return std::min(std::max(std::nearbyint((x - zero) / scale), least), most); }
    float of(float x) const { return scale == 0 ? x : step(x) * scale + zero; }
};

// bits above 2.
inline Levels levels(int64_t bits, bool asymmetric, float least, float most) {
    const auto range = static_cast<float>(int64_t{1} << bits);
    if (!asymmetric) return {2 * std::max(std::abs(least), std::abs(most)) / range, 0, -range / 2, range / 2 - 1};
    const float scale = (most - least) / range;
    return {scale, scale == 0 ? 0 : std::nearbyint(least / scale) * scale, 0, range - 1};
}

// One group from beginning to end.
inline void fake_quantize_group(const float* x, float* y, int64_t n, int64_t bits, bool asymmetric) {
    if (bits > 2) {
        const auto [least, most] = std::minmax_element(x, x + n);
        const Levels to = levels(bits, asymmetric, *least, *most);
        for (int64_t i = 0; i < n; ++i) y[i] = to.of(x[i]);
        return;
    }
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += std::abs(x[i]);
    const auto mean = static_cast<float>(sum / static_cast<double>(n));
    if (bits == 1) {
        for (int64_t i = 0; i < n; ++i) y[i] = x[i] > 0 ? mean : x[i] < 0 ? -mean : 0;
        return;
    }
    const float threshold = 0.7f * mean;
    double large = 0;
    int64_t count = 0;
    for (int64_t i = 0; i < n; ++i)
        if (std::abs(x[i]) > threshold) large += std::abs(x[i]), ++count;
    const auto level = count ? static_cast<float>(large / static_cast<double>(count)) : 0.0f;
    for (int64_t i = 0; i < n; ++i) y[i] = x[i] > threshold ? level : x[i] < -threshold ? -level : 0;
}

inline void keep_largest(const float* scores, float* mask, int64_t n, int64_t keep) {
    std::vector<int64_t> order(static_cast<size_t>(n));
    std::iota(order.begin(), order.end(), int64_t{0});
    const auto larger = [&](int64_t a, int64_t b) { return scores[a] != scores[b] ? scores[a] > scores[b] : a < b; };
    if (keep < n) std::nth_element(order.begin(), order.begin() + keep, order.end(), larger);
    for (int64_t i = 0; i < n; ++i) mask[order[static_cast<size_t>(i)]] = i < keep ? 1 : 0;
}

// m: of each so many neighbours, n; else ceil(ratio * count) of all.
inline void top_mask(const float* scores, float* mask, int64_t count, double ratio, int64_t n, int64_t m) {
    if (m == 0) return keep_largest(scores, mask, count, static_cast<int64_t>(std::ceil(ratio * static_cast<double>(count))));
    for (int64_t i = 0; i < count; i += m) keep_largest(scores + i, mask + i, m, n);
}

}  // namespace ds
