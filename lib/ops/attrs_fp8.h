// Attributes of the op of ops/fp8_matmul.cpp, apart from attrs.h because few files read them.
#pragma once

#include "ops/attrs.h"

namespace ds {

// A product whose operands are rounded to 8-bit floats.
struct Fp8Matmul {
    bool transpose_a = false, transpose_b = false;
    DType out = DType::f32;  // as Matmul's
    bool set_out = false;
    bool wide_a = false, wide_b = false;  // E5M2, which reaches further, instead of E4M3
    template <class V>
    void fields(V& v) {
        v("transpose_a", transpose_a);
        v("transpose_b", transpose_b);
        v("out", out);
        v("set_out", set_out);
        v("wide_a", wide_a);
        v("wide_b", wide_b);
    }
    Matmul product() const { return {transpose_a, transpose_b, out, set_out}; }
};

}  // namespace ds
