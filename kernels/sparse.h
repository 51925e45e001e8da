// Weights of which many values are zero (pruned ones), for kernels that compute with them and for what makes them: the others, in f32 or
// bf16, and a bit for each place that tells where they belong (lib/base/weight_code.h). In f32 that is smaller than the whole weight as
// soon as one value of 32 is zero; a list of places would cost as much as the values, and a bit needs no pattern, as 2 of 4.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#include "base/weight_code.h"
#include "kernels/kernel.h"

namespace ds {

class SparseWeight {
public:
    SparseWeight(const void* at, const SparseParts& parts) : at_(static_cast<const uint8_t*>(at)), parts_(parts) {}

    const SparseParts& parts() const { return parts_; }
    // Bit i of word w of an output is its input 64 w + i.
    uint64_t word(int64_t out, int64_t w) const { return read<uint64_t>(8 * (out * parts_.words + w)); }
    int64_t start(int64_t out) const { return read<int64_t>(parts_.starts + 8 * out); }  // the place of its first value among all
    template <class T>
    const T* values(int64_t out) const {
        return reinterpret_cast<const T*>(at_ + parts_.values) + start(out);
    }
    float at(int64_t out, int64_t in) const {
        const int64_t last = in / SparseParts::kWord;
        const uint64_t bit = uint64_t{1} << in % SparseParts::kWord;
        if (!(word(out, last) & bit)) return 0;
        int64_t i = std::popcount(word(out, last) & (bit - 1));  // the output's values before this one
        for (int64_t w = 0; w < last; ++w) i += std::popcount(word(out, w));
        return parts_.bits == 32 ? values<float>(out)[i] : to_f32(values<BF16>(out)[i]);
    }

private:
    template <class T>
    T read(int64_t byte) const {
        T x;
        std::memcpy(&x, at_ + byte, sizeof(T));
        return x;
    }
    const uint8_t* at_;
    SparseParts parts_;
};

inline int64_t count_nonzeros(const float* x, int64_t n) {
    int64_t count = 0;
    for (int64_t i = 0; i < n; ++i) count += x[i] != 0;
    return count;
}

// The weight x, of which just parts.nonzeros values are not zero; they are rounded to parts.bits.
inline void code_sparse(const float* x, const SparseParts& parts, bool out_first, uint8_t* to) {
    std::memset(to, 0, static_cast<size_t>(parts.bytes));
    int64_t place = 0;
    for (int64_t o = 0; o < parts.outs; ++o) {
        std::memcpy(to + parts.starts + 8 * o, &place, 8);
        for (int64_t i = 0; i < parts.ins; ++i) {
            const float value = x[out_first ? o * parts.ins + i : i * parts.outs + o];
            if (value == 0) continue;
            to[8 * o * parts.words + i / 8] |= static_cast<uint8_t>(1 << i % 8);
            const BF16 low = to_bf16(value);
            if (parts.bits == 32) std::memcpy(to + parts.values + 4 * place++, &value, 4);
            else std::memcpy(to + parts.values + 2 * place++, &low, 2);
        }
    }
    std::memcpy(to + parts.starts + 8 * parts.outs, &place, 8);
}

}  // namespace ds
