// Attributes of the op of ops/matmul_sums.cpp, apart from attrs.h because few files read them.
#pragma once

#include "ops/attrs.h"

namespace ds {

// A product, and the sums of one of its operands over the dimension that the product contracts.
struct MatmulSums {
    bool transpose_a = false, transpose_b = false;
    DType out = DType::f32;  // as Matmul's
    bool set_out = false;
    bool of_a = false;  // the sums are a's, one for each row of the product; else b's, one for each column
    template <class V>
    void fields(V& v) {
        v("transpose_a", transpose_a);
        v("transpose_b", transpose_b);
        v("out", out);
        v("set_out", set_out);
        v("of_a", of_a);
    }
    Matmul product() const { return {transpose_a, transpose_b, out, set_out}; }
};

}  // namespace ds
