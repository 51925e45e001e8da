// How a weight that is kept in few bits lies in memory; kernels/coded.h has what its codes mean.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "base/round.h"

namespace ds {

struct WeightCode {
    int64_t bits = 4;         // 4: NF4; 8: integers
    bool two_levels = false;  // scales are coded, too
    bool by_output = false;   // 8 bits in the order in which integer products read them, a scale an output: Int8Parts
    bool out_first = true;    // the weight is [out, in]; else [in, out]
};
using CodedWeights = std::map<std::string, WeightCode, std::less<>>;  // by parameter

inline constexpr int64_t kCodeBlock = 64, kScaleBlock = 256;  // elements with one scale, scales with one scale of theirs

// The parts, at these bytes: codes, scales, and with two levels the scales of scales and their mean.
struct CodedParts {
    int64_t elements = 0, blocks = 0, scales = 0, seconds = 0, mean = 0, bytes = 0;

    CodedParts(int64_t n, WeightCode code) : elements(n), blocks((n + kCodeBlock - 1) / kCodeBlock) {
        scales = round_up(code.bits == 4 ? (n + 1) / 2 : n, 4);
        seconds = scales + (code.two_levels ? round_up(blocks, 4) : 4 * blocks);
        mean = seconds + (code.two_levels ? 4 * ((blocks + kScaleBlock - 1) / kScaleBlock) : 0);
        bytes = mean + (code.two_levels ? 4 : 0);
    }
};

// By output: panels of 16 outputs, in each steps of 64 inputs, in each [16 groups of 4 inputs][output][input of the group], filled up with zeros; then a scale and the
// sum of the codes of each output.
struct Int8Parts {
    static constexpr int64_t kPanel = 16, kStep = 64, kBlock = kPanel * kStep;  // kBlock: bytes of a step
    int64_t outs = 0, ins = 0, panels = 0, steps = 0, scales = 0, sums = 0, bytes = 0;

    Int8Parts(int64_t n, int64_t k) : outs(n), ins(k), panels((n + kPanel - 1) / kPanel), steps((k + kStep - 1) / kStep) {
        scales = panels * steps * kBlock;
        sums = scales + 4 * panels * kPanel;
        bytes = sums + 4 * panels * kPanel;
    }
    int64_t place(int64_t out, int64_t in) const { return (out / kPanel * steps + in / kStep) * kBlock + in % kStep / 4 * 4 * kPanel + out % kPanel * 4 + in % 4; }
};

// Of a weight of rows x columns as it lies.
inline int64_t coded_bytes(int64_t rows, int64_t columns, const WeightCode& code) {
    if (code.by_output) return code.out_first ? Int8Parts(rows, columns).bytes : Int8Parts(columns, rows).bytes;
    return CodedParts(rows * columns, code).bytes;
}

}  // namespace ds
