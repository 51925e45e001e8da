// Products of bf16 by AMX (tile_amx.cpp has its tiles) that pack what comes next while tiles multiply: vector units are idle then, and
// loads of weights need not wait. Only where level() is Level::amx_bf16, and within a TileUse.
//
// Operands lie packed as tiles(true) packs them, in panels of 32 rows or columns. A panel goes along k in steps of 32, 2 KiB each:
// [row][k], or [pair of k][column][2]. What lies beyond rows, columns and k is zero.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "base/dtype.h"

namespace ds::cpu::amx {

inline constexpr int64_t kPanel = 32, kStep = 32;
inline constexpr int64_t kStepSize = kPanel * kStep;  // elements

inline int64_t steps(int64_t k) { return (k + kStep - 1) / kStep; }
inline int64_t panels(int64_t n) { return (n + kPanel - 1) / kPanel; }
inline int64_t panel_size(int64_t k) { return steps(k) * kStepSize; }  // elements

// A right operand in bf16, or in f32, which is rounded to nearest even. Element (k, i) is number k * stride + i (k_major) or
// i * stride + k from `at` on.
struct Source {
    const std::byte* at = nullptr;
    int64_t stride = 0;
    bool k_major = false;
    int64_t k = 0, n = 0;
    DType type = DType::bf16;
};

// Packs some panels of a right operand in small pieces between the steps of products.
class Packer {
public:
    Packer() = default;
    // `ahead`: bytes from `from` on to what will be packed next, which is fetched into the second cache meanwhile; 0: nothing.
    // `during`: in how many steps of multiply all should be done.
    Packer(const Source& from, BF16* to, int64_t panel_stride, int64_t ahead, int64_t during)
        : from_(from),
          to_(to),
          panel_stride_(panel_stride),
          ahead_(ahead),
          panels_(panels(from.n)),
          of_panel_(steps(from.k) * kPieces),
          left_(panels_ * of_panel_),
          all_(left_),
          during_(during) {}
    void rest();  // packs what is left
    const Source& source() const { return from_; }

    static constexpr int64_t kPieces = 8;  // of a step

private:
    template <class T, bool k_major>
    friend struct Pieces;
    Source from_;
    BF16* to_ = nullptr;
    int64_t panel_stride_ = 0, ahead_ = 0;
    int64_t panels_ = 0, of_panel_ = 0, left_ = 0, all_ = 0;  // panels, pieces of each, pieces left, pieces in all
    int64_t panel_ = 0, piece_ = 0;                           // the next one: row by row where the source is k_major, else panel by panel
    int64_t during_ = 1, credit_ = 0;
};

// c[i][j] (+)= left panel x right panel over some steps, for all 32 rows of c or (rows <= 16) the first 16, and columns likewise. c has
// room for whole tiles. `next` (may be null) is packed meanwhile.
void multiply(const BF16* left, const BF16* right, int64_t steps, int64_t rows, int64_t columns, float* c, int64_t c_stride,
              bool accumulate, Packer* next);

// What sums of at most 32 x 32 begin with.
struct Into {
    const void* from = nullptr;
    DType type = DType::f32;
    int64_t stride = 0;
};
void begin(float* sums, int64_t sums_stride, int64_t rows, int64_t columns, const Into& into);

// Where sums of at most 32 x 32 go: to = sums + bias, rounded to nearest even.
struct Finish {
    const float* bias = nullptr;  // of the columns; null: none
    DType type = DType::f32;
    int64_t stride = 0;
    void* to = nullptr;
    bool past_caches = false;  // whole lines of f32 from a line's start on; streams_are_done() before others read them
};
void streams_are_done();
void finish(const float* sums, int64_t sums_stride, int64_t rows, int64_t columns, const Finish& f);

}  // namespace ds::cpu::amx
