// How a weight that is kept in few bits, or as its values that are not zero, lies in memory; kernels/coded.h and kernels/sparse.h have what
// that means.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "base/round.h"

namespace ds {

struct WeightCode {
    int64_t bits = 4;         // 4: NF4, in groups integers; 8: integers; 16 and 32: values as bf16 and f32 (32: of a sparse weight alone)
    bool two_levels = false;  // scales are coded, too
    bool by_output = false;   // 8 bits in the order in which integer products read them, a scale an output: Int8Parts
    bool out_first = true;    // the weight is [out, in]; else [in, out]
    int64_t group = 0;  // integers, so many neighbouring inputs of an output with one scale: GroupParts; 0: blocks of elements as they lie
    bool asymmetric = false;   // of groups: from the least to the largest value, in place of around zero
    bool fixed_input = false;  // by_output: codes also have the range of what goes into the product, instead of each token's own
    bool sparse = false;       // only the values that are not zero: SparseParts
    int64_t nonzeros = 0;      // of a sparse weight: so many

    bool is_bf16() const { return bits == 16 && !sparse; }  // as it lies, every value
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

// In groups: unsigned codes of one output after the other, in 4 bits two a byte, the first in the lower half, each output filled up to
// whole words; then the scale of each group and, asymmetric, its zero point. A value is (code - zero point) * scale; around zero the zero
// point is half of the codes.
struct GroupParts {  // where code.group is 0: no groups, and nothing to ask of them
    int64_t outs = 0, ins = 0, group = 0, groups = 0, row = 0, scales = 0, zeros = 0, bytes = 0;  // groups, row (bytes): of an output

    GroupParts(int64_t n, int64_t k, const WeightCode& code)
        : outs(n),
          ins(k),
          group(code.group),
          groups(code.group ? k / code.group : 0),
          row(code.bits == 4 ? round_up(k, 8) / 2 : round_up(k, 4)),
          scales(n * row),
          zeros(scales + 4 * n * groups),
          bytes(zeros + (code.asymmetric ? 4 * n * groups : 0)) {}
};

// By output: panels of 16 outputs, in each steps of 64 inputs, in each [16 groups of 4 inputs][output][input of the group], filled up with
// zeros; then a scale and the sum of the codes of each output, and what a code of the product's inputs is worth (f32) and which of them is
// zero (i32).
struct Int8Parts {
    static constexpr int64_t kPanel = 16, kStep = 64, kBlock = kPanel * kStep;  // kBlock: bytes of a step
    int64_t outs = 0, ins = 0, panels = 0, steps = 0, scales = 0, sums = 0, inputs = 0, bytes = 0;

    Int8Parts(int64_t n, int64_t k) : outs(n), ins(k), panels((n + kPanel - 1) / kPanel), steps((k + kStep - 1) / kStep) {
        scales = panels * steps * kBlock;
        sums = scales + 4 * panels * kPanel;
        inputs = sums + 4 * panels * kPanel;
        bytes = inputs + 8;
    }
    int64_t place(int64_t out, int64_t in) const {
        return (out / kPanel * steps + in / kStep) * kBlock + in % kStep / 4 * 4 * kPanel + out % kPanel * 4 + in % 4;
    }
};

// Sparse: a bit for each input of each output, set where the value is not zero, each output filled up to whole words; then the place of
// each output's first value and of the end; then the values, output after output, and room for a vector that is read beyond the last.
struct SparseParts {
    static constexpr int64_t kWord = 64, kBeyond = 16;                                                // inputs of a word, values
    int64_t outs = 0, ins = 0, nonzeros = 0, bits = 0, words = 0, starts = 0, values = 0, bytes = 0;  // words: of an output

    SparseParts() = default;
    SparseParts(int64_t n, int64_t k, int64_t count, int64_t width)
        : outs(n), ins(k), nonzeros(count), bits(width), words((k + kWord - 1) / kWord) {
        starts = 8 * n * words;
        values = starts + 8 * (n + 1);
        bytes = values + (nonzeros + kBeyond) * bits / 8;
    }
};

// Of a weight of rows x columns as it lies.
inline int64_t coded_bytes(int64_t rows, int64_t columns, const WeightCode& code) {
    const int64_t outs = code.out_first ? rows : columns, ins = code.out_first ? columns : rows;
    if (code.by_output) return Int8Parts(outs, ins).bytes;
    if (code.sparse) return SparseParts(outs, ins, code.nonzeros, code.bits).bytes;
    if (code.group) return GroupParts(outs, ins, code).bytes;
    if (code.is_bf16()) return 2 * rows * columns;
    return CodedParts(rows * columns, code).bytes;
}

}  // namespace ds
