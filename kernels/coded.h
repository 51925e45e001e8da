// Weights in few bits, for kernels that compute with them and for what makes them. Elements lie in row-major order and are cut into blocks
// of 64, each with the largest magnitude as its scale. NF4 has one of 16 values that are equally likely in normally distributed numbers
// (Dettmers et al. 2023, QLoRA, arXiv 2305.14314; the values of its appendix E), two codes a byte, the first in the upper half; with 8 bits
// a value is an integer / 127. With two levels (the paper's double quantisation) scales are coded in their turn: less their mean, in blocks
// of 256, each a byte that names one of 256 values which grow tenfold seven times (Dettmers 2015, arXiv 1511.04561, 8-bit dynamic tree).
// Codes are those of bitsandbytes 0.50 bit for bit; of scales' bytes one in a thousand differs, where a scale lies between two values.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/weight_code.h"
#include "kernels/compress.h"

namespace ds {

inline constexpr float kNormalFloat[16] = {-1.0f,
                                           -0.6961928009986877f,
                                           -0.5250730514526367f,
                                           -0.39491748809814453f,
                                           -0.28444138169288635f,
                                           -0.18477343022823334f,
                                           -0.09105003625154495f,
                                           0.0f,
                                           0.07958029955625534f,
                                           0.16093020141124725f,
                                           0.24611230194568634f,
                                           0.33791524171829224f,
                                           0.44070982933044434f,
                                           0.5626170039176941f,
                                           0.7229568362236023f,
                                           1.0f};

namespace coded {

constexpr float between(int i) { return (kNormalFloat[i] + kNormalFloat[i + 1]) / 2; }

// For each 32nd of [-1, 1]: how many borders between neighbouring values lie below it. None has two within it.
constexpr std::array<uint8_t, 65> cells() {
    std::array<uint8_t, 65> below{};
    for (int c = 0; c < 65; ++c)
        for (int i = 0; i < 15; ++i) below[static_cast<size_t>(c)] += between(i) <= static_cast<float>(c - 32) / 32;
    return below;
}
inline constexpr std::array<uint8_t, 65> kCells = cells();

// The values of a scale's byte, in order.
constexpr std::array<float, 256> tree() {
    std::array<float, 256> values{};
    constexpr float powers[7] = {1e-6f, 1e-5f, 1e-4f, 1e-3f, 1e-2f, 1e-1f, 1.0f};
    size_t at = 0;
    for (int e = 0; e < 7; ++e)
        for (int k = 0, n = 1 << e; k < n; ++k, ++at) {
            const double low = 0.1 + 0.9 * k / n, high = 0.1 + 0.9 * (k + 1) / n;
            const float value = powers[e] * static_cast<float>((low + high) / 2);
            values[128 + at] = value;
            values[126 - at] = -value;
        }
    values[255] = 1;
    return values;
}
inline constexpr std::array<float, 256> kTree = tree();

inline uint8_t nearest_in_tree(float x) {
    const auto above = std::lower_bound(kTree.begin(), kTree.end(), x);
    if (above == kTree.begin()) return 0;
    if (above == kTree.end()) return 255;
    const auto i = static_cast<uint8_t>(above - kTree.begin());
    return x - kTree[i - 1u] < kTree[i] - x ? static_cast<uint8_t>(i - 1) : i;
}

}  // namespace coded

// x in [-1, 1].
inline uint8_t normal_float_code(float x) {
    const auto cell = static_cast<size_t>(std::clamp((x + 1) * 32, 0.0f, 64.0f));
    const uint8_t below = coded::kCells[cell];
    return below < 15 && x > coded::between(below) ? static_cast<uint8_t>(below + 1) : below;
}

// A coded weight as it lies, 4-byte aligned.
class CodedWeight {
public:
    CodedWeight(const void* at, int64_t elements, WeightCode code)
        : at_(static_cast<const uint8_t*>(at)), parts_(elements, code), code_(code) {}

    const uint8_t* codes() const { return at_; }
    const CodedParts& parts() const { return parts_; }
    // What a block's codes are multiplied with.
    float scale(int64_t block) const {
        if (!code_.two_levels) return floats(parts_.scales)[block];
        return coded::kTree[at_[parts_.scales + block]] * floats(parts_.seconds)[block / kScaleBlock] + *floats(parts_.mean);
    }
    float at(int64_t i) const {
        if (code_.bits == 8) return static_cast<float>(static_cast<int8_t>(at_[i])) * (scale(i / kCodeBlock) / 127);
        const uint8_t byte = at_[i / 2];
        return kNormalFloat[i % 2 ? byte & 15 : byte >> 4] * scale(i / kCodeBlock);
    }

private:
    const float* floats(int64_t byte) const { return reinterpret_cast<const float*>(at_ + byte); }
    const uint8_t* at_;
    CodedParts parts_;
    WeightCode code_;
};

// Codes of blocks [first, last) of the weight x, and their scales, each its own place of `scales`.
inline void code_blocks(const float* x, int64_t elements, WeightCode code, int64_t first, int64_t last, uint8_t* codes, float* scales) {
    for (int64_t block = first; block < last; ++block) {
        const int64_t begin = block * kCodeBlock, end = std::min(begin + kCodeBlock, elements);
        float most = 0;
        for (int64_t i = begin; i < end; ++i) most = std::max(most, std::abs(x[i]));
        scales[block] = most;
        const float inverse = most > 0 ? 1 / most : 0;
        if (code.bits == 8) {
            for (int64_t i = begin; i < end; ++i)
                codes[i] = static_cast<uint8_t>(static_cast<int8_t>(std::clamp(std::nearbyint(x[i] * inverse * 127), -127.0f, 127.0f)));
            continue;
        }
        for (int64_t i = begin; i < end; i += 2) {
            const uint8_t low = i + 1 < end ? normal_float_code(x[i + 1] * inverse) : 0;
            codes[i / 2] = static_cast<uint8_t>(normal_float_code(x[i] * inverse) << 4 | low);
        }
    }
}

// Writes the scales of all blocks behind the codes.
inline void code_scales(const std::vector<float>& scales, const CodedParts& parts, WeightCode code, uint8_t* to) {
    if (!code.two_levels) {
        std::copy(scales.begin(), scales.end(), reinterpret_cast<float*>(to + parts.scales));
        return;
    }
    double sum = 0;
    for (const float s : scales) sum += s;
    const auto mean = static_cast<float>(scales.empty() ? 0 : sum / static_cast<double>(scales.size()));
    *reinterpret_cast<float*>(to + parts.mean) = mean;
    for (int64_t first = 0; first < parts.blocks; first += kScaleBlock) {
        const int64_t last = std::min(first + kScaleBlock, parts.blocks);
        float most = 0;
        for (int64_t b = first; b < last; ++b) most = std::max(most, std::abs(scales[static_cast<size_t>(b)] - mean));
        reinterpret_cast<float*>(to + parts.seconds)[first / kScaleBlock] = most;
        const float inverse = most > 0 ? 1 / most : 0;
        for (int64_t b = first; b < last; ++b)
            to[parts.scales + b] = coded::nearest_in_tree((scales[static_cast<size_t>(b)] - mean) * inverse);
    }
}

// A weight in groups as it lies, 4-byte aligned.
class GroupWeight {
public:
    GroupWeight(const void* at, const GroupParts& parts, const WeightCode& code)
        : at_(static_cast<const uint8_t*>(at)), parts_(parts), code_(code) {}

    const uint8_t* row(int64_t out) const { return at_ + out * parts_.row; }
    float scale(int64_t out, int64_t group) const { return floats(parts_.scales)[out * parts_.groups + group]; }
    float zero(int64_t out, int64_t group) const {
        return code_.asymmetric ? floats(parts_.zeros)[out * parts_.groups + group] : static_cast<float>(int64_t{1} << (code_.bits - 1));
    }
    int code(int64_t out, int64_t in) const {
        if (code_.bits == 8) return row(out)[in];
        const uint8_t two = row(out)[in / 2];
        return in % 2 ? two >> 4 : two & 15;
    }
    float at(int64_t out, int64_t in) const {
        return (static_cast<float>(code(out, in)) - zero(out, in / parts_.group)) * scale(out, in / parts_.group);
    }

private:
    const float* floats(int64_t byte) const { return reinterpret_cast<const float*>(at_ + byte); }
    const uint8_t* at_;
    const GroupParts& parts_;
    WeightCode code_;
};

// Outputs [first, last) of the weight x in groups, by the arithmetic of DeepSpeed's quantizers (compress.h). levels_of(out, group, values)
// are those of a group.
template <class LevelsOf>
void code_groups(const float* x, const GroupParts& parts, const WeightCode& code, int64_t first, int64_t last, uint8_t* to,
                 const LevelsOf& levels_of) {
    std::vector<float> group(static_cast<size_t>(parts.group));
    std::fill(to + first * parts.row, to + last * parts.row, uint8_t{0});
    for (int64_t o = first; o < last; ++o)
        for (int64_t g = 0; g < parts.groups; ++g) {
            for (int64_t k = 0; k < parts.group; ++k) {
                const int64_t i = g * parts.group + k;
                group[static_cast<size_t>(k)] = x[code.out_first ? o * parts.ins + i : i * parts.outs + o];
            }
            const Levels levels = levels_of(o, g, group);
            const bool flat = levels.scale == 0;  // equal values: zeros, or one code above the zero point
            const float middle = code.asymmetric ? 0 : static_cast<float>(int64_t{1} << (code.bits - 1));
            reinterpret_cast<float*>(to + parts.scales)[o * parts.groups + g] = flat ? group[0] : levels.scale;
            if (code.asymmetric)
                reinterpret_cast<float*>(to + parts.zeros)[o * parts.groups + g] = flat ? 0 : -std::nearbyint(levels.zero / levels.scale);
            for (int64_t k = 0; k < parts.group; ++k) {
                const auto c =
                    static_cast<uint8_t>(middle + (flat ? static_cast<float>(group[0] != 0) : levels.step(group[static_cast<size_t>(k)])));
                const int64_t i = g * parts.group + k;
                if (code.bits == 8) to[o * parts.row + i] = c;
                else to[o * parts.row + i / 2] |= static_cast<uint8_t>(i % 2 ? c << 4 : c);
            }
        }
}

// Each group's levels are its own.
inline void code_groups(const float* x, const GroupParts& parts, const WeightCode& code, int64_t first, int64_t last, uint8_t* to) {
    code_groups(x, parts, code, first, last, to, [&](int64_t, int64_t, const std::vector<float>& values) {
        const auto [least, most] = std::minmax_element(values.begin(), values.end());
        return levels(code.bits, code.asymmetric, *least, *most);
    });
}

// 8 bits by output (Int8Parts): panels [first, last) of the weight x.
inline void code_outputs(const float* x, const Int8Parts& parts, bool out_first, int64_t first, int64_t last, uint8_t* to) {
    std::fill(to + first * parts.steps * Int8Parts::kBlock, to + last * parts.steps * Int8Parts::kBlock, uint8_t{0});
    if (first == 0) std::fill(to + parts.inputs, to + parts.bytes, uint8_t{0});
    for (int64_t o = first * Int8Parts::kPanel; o < last * Int8Parts::kPanel; ++o) {
        float* scale = reinterpret_cast<float*>(to + parts.scales) + o;
        int32_t* sum = reinterpret_cast<int32_t*>(to + parts.sums) + o;
        *scale = 0, *sum = 0;
        if (o >= parts.outs) continue;
        const auto value = [&](int64_t i) { return x[out_first ? o * parts.ins + i : i * parts.outs + o]; };
        float most = 0;
        for (int64_t i = 0; i < parts.ins; ++i) most = std::max(most, std::abs(value(i)));
        const float inverse = most > 0 ? 127 / most : 0;
        *scale = most / 127;
        for (int64_t i = 0; i < parts.ins; ++i) {
            const auto code = static_cast<int8_t>(std::clamp(std::nearbyint(value(i) * inverse), -127.0f, 127.0f));
            to[parts.place(o, i)] = static_cast<uint8_t>(code);
            *sum += code;
        }
    }
}

// The same of codes that are known: code_of(out, in), and scales by output.
template <class CodeOf>
void place_outputs(const Int8Parts& parts, const float* scales, const CodeOf& code_of, uint8_t* to) {
    std::fill(to, to + parts.bytes, uint8_t{0});
    for (int64_t o = 0; o < parts.outs; ++o) {
        reinterpret_cast<float*>(to + parts.scales)[o] = scales[o];
        int32_t sum = 0;
        for (int64_t i = 0; i < parts.ins; ++i) {
            const int8_t code = code_of(o, i);
            to[parts.place(o, i)] = static_cast<uint8_t>(code);
            sum += code;
        }
        reinterpret_cast<int32_t*>(to + parts.sums)[o] = sum;
    }
}

// What codes of a product's inputs mean where their range is fixed: (code - zero) * scale.
struct InputCode {
    float scale = 0;
    int32_t zero = 0;
    static InputCode of(const void* codes, const Int8Parts& parts) {
        const auto* at = static_cast<const uint8_t*>(codes) + parts.inputs;
        return {*reinterpret_cast<const float*>(at), *reinterpret_cast<const int32_t*>(at + 4)};
    }
    void put(void* codes, const Int8Parts& parts) const {
        auto* at = static_cast<uint8_t*>(codes) + parts.inputs;
        *reinterpret_cast<float*>(at) = scale, *reinterpret_cast<int32_t*>(at + 4) = zero;
    }
    float code(float x) const {
        return scale == 0 ? static_cast<float>(zero)
                          : std::min(std::max(std::nearbyint(x / scale) + static_cast<float>(zero), -128.0f), 127.0f);
    }
};

inline float coded_output(const void* codes, const Int8Parts& parts, int64_t out, int64_t in) {
    const auto* at = static_cast<const uint8_t*>(codes);
    return static_cast<float>(static_cast<int8_t>(at[parts.place(out, in)])) * reinterpret_cast<const float*>(at + parts.scales)[out];
}

}  // namespace ds
