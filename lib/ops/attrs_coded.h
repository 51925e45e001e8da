// Attributes of the op of ops/coded.cpp, apart from attrs.h because few files read them.
#pragma once

#include "base/weight_code.h"
#include "ops/attrs.h"

namespace ds {

// A product with a weight of `rows` x `columns` that is kept in few bits (kernels/coded.h).
struct CodedMatmul {
    int64_t bits = 4;         // 4: NF4, in groups integers; 8: integers
    bool two_levels = false;  // the scales are coded, too (QLoRA's double quantisation)
    int64_t rows = 0, columns = 0;
    bool transpose = false;  // y = a W^T
    DType out = DType::f32;
    bool set_out = false;     // false: a's type
    int64_t group = 0;        // integers in groups of so many columns, each with a scale; 0: blocks of the matrix as it lies
    bool asymmetric = false;  // of groups
    WeightCode code() const { return {.bits = bits, .two_levels = two_levels, .group = group, .asymmetric = asymmetric}; }
    template <class V>
    void fields(V& v) {
        v("group", group);
        v("asymmetric", asymmetric);
        v("bits", bits);
        v("two_levels", two_levels);
        v("rows", rows);
        v("columns", columns);
        v("transpose", transpose);
        v("out", out);
        v("set_out", set_out);
    }
};

// An integer product with a weight in 8 bits by output (lib/base/weight_code.h).
struct Int8Matmul {
    int64_t outs = 0;
    bool fixed = false;  // a's range is the codes' own, not each row's
    DType out = DType::f32;
    bool set_out = false;  // false: a's type
    template <class V>
    void fields(V& v) {
        v("outs", outs);
        v("fixed", fixed);
        v("out", out);
        v("set_out", set_out);
    }
};

// A product with a weight of `outs` outputs that is kept as its values that are not zero (lib/base/weight_code.h).
struct SparseMatmul {
    int64_t outs = 0, nonzeros = 0;
    int64_t bits = 32;  // of a value: 32 or 16
    DType out = DType::f32;
    bool set_out = false;  // false: a's type
    template <class V>
    void fields(V& v) {
        v("outs", outs);
        v("nonzeros", nonzeros);
        v("bits", bits);
        v("out", out);
        v("set_out", set_out);
    }
};

}  // namespace ds
