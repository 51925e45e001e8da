// Attributes of the ops of ops/compress.cpp, apart from attrs.h because few files read them.
#pragma once

#include "ops/attrs.h"

namespace ds {

// DeepSpeed's quantizers (compression/utils.py). Elements are cut into `groups` of equal size, each with a scale of its own; 0: a group is
// a row.
struct FakeQuantize {
    int64_t bits = 8;  // 2: -a, 0, a; 1: -a, a
    int64_t groups = 1;
    bool asymmetric = false;  // from the least to the largest value, instead of symmetric around 0
    template <class V>
    void fields(V& v) {
        v("bits", bits);
        v("groups", groups);
        v("asymmetric", asymmetric);
    }
};

// One range for all of x, from an operand.
struct QuantizeWithin {
    int64_t bits = 8;
    bool asymmetric = false;  // from the range's least to its largest value, instead of symmetric around 0
    template <class V>
    void fields(V& v) {
        v("bits", bits);
        v("asymmetric", asymmetric);
    }
};

// DeepSpeed's QuantAct: momentum * range + (1 - momentum) * x's own range, which an empty range becomes first.
struct MovingRange {
    double momentum = 0.95;
    template <class V>
    void fields(V& v) {
        v("momentum", momentum);
    }
};

// The ceil(ratio * elements) largest; or, with m, the n largest of each m neighbours in a row.
struct TopMask {
    double ratio = 1;
    int64_t n = 0, m = 0;
    template <class V>
    void fields(V& v) {
        v("ratio", ratio);
        v("n", n);
        v("m", m);
    }
};

// A student's loss against its teacher's logits, both divided by the temperature.
struct Distillation {
    double temperature = 1;
    int64_t ignore = -100;  // a label whose row counts for nothing
    template <class V>
    void fields(V& v) {
        v("temperature", temperature);
        v("ignore", ignore);
    }
};

}  // namespace ds
