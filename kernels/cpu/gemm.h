// c = op(a) @ op(b) (+ bias) (+ into) for f32, bf16 and f16 in any mixture, any strides, with f32 sums: the one matrix product of the CPU.
//
// Goto and van de Geijn 2008, "Anatomy of high-performance matrix multiplication": blocks of a and b are packed (converted and transposed
// where needed) into the order in which the register tiles of tile.h read them; rows of a in f32 are read as they lie. A team splits c; the
// sum over k is cut by sizes alone, so every element of c is the same whatever the team.
#pragma once

#include <cstddef>

#include "kernels/cpu/tile.h"
#include "kernels/kernel.h"

namespace ds::cpu {

struct GemmShape {
    int64_t m = 0, n = 0, k = 0;
    bool transpose_a = false, transpose_b = false;  // a lies as [k, m], b as [n, k]
    DType a_type = DType::f32, b_type = DType::f32, c_type = DType::f32, bias_type = DType::f32, into_type = DType::f32;
    int64_t lda = 0, ldb = 0, ldc = 0, ld_into = 0;  // elements from row to row
    bool round_b = false;                            // b is f32, and rounded to bf16 where it is packed; a is bf16
};

// Why no product serves b as it is, or null: what is to be rounded goes into tiles of bf16.
inline const char* declines_rounding(const Tensor& a, const Tensor& b) {
    if (a.rounded != DType::f32) return "a is to be rounded";
    const bool serves = b.rounded == DType::f32 || (b.rounded == DType::bf16 && a.dtype == DType::bf16 && has_bf16_tiles());
    return serves ? nullptr : "b is to be rounded, and there are no tiles of bf16 for it";
}

struct GemmArgs {
    const void *a = nullptr, *b = nullptr;
    void* c = nullptr;
    const void *bias = nullptr, *into = nullptr;  // null: none; into may be c
};

class GemmRegion;

class Gemm {
public:
    Gemm() = default;
    explicit Gemm(const GemmShape& shape);

    struct Rectangle {
        int64_t m0, m1, n0, n1;
    };  // of c

    const GemmShape& shape() const { return shape_; }
    // The most that a thread needs for its part, when `threads` share the product.
    int64_t scratch_bytes(int threads) const;
    // Computes this thread's part of c; `scratch` is the thread's own, 64-byte aligned.
    void run(const GemmArgs& args, Team team, std::byte* scratch) const;
    // Computes rows [m0, m1) x columns [n0, n1) of c, with the scratch of a team of one.
    void region(const GemmArgs& args, int64_t m0, int64_t m1, int64_t n0, int64_t n1, std::byte* scratch) const;

private:
    friend class GemmRegion;
    struct Grid {
        int rows, columns;
    };
    Grid grid(int threads) const;
    // gemm_amx.cpp
    static int64_t amx_bytes(const GemmShape& shape, int64_t rows, int64_t columns);
    void amx_region(const GemmArgs& args, Rectangle r, std::byte* scratch) const;

    GemmShape shape_;
    bool amx_ = false;
    bool in_rows_ = false;                      // tiles read a as it lies
    int64_t row_stride_ = 0;                    // of it, in units
    int64_t row_grain_ = 1, column_grain_ = 1;  // of the parts of a team
    const TileSet* tiles_ = nullptr;
    int64_t units_ = 0;                          // of k
    int64_t kc_ = 0, kb_ = 0, mb_ = 0, nc_ = 0;  // units that a packed block of b has, of a has; rows of that of a, columns of that of b
};

}  // namespace ds::cpu
