// Register tiles: the innermost loops of every matrix product on the CPU, and the packing of operands into the layout they read.
//
// A tile computes  c[i][j] (+)= sum over units u of a[u][i] * b[u][j]  for a few rows i and one or two vectors of columns j.
// A unit is 4 bytes: one f32, or (step 2) two bf16 of neighbouring k, whose products are summed by one instruction. Both operands lie
// unit-major, so packing decides everything about layout and type, and one driver serves f32, bf16 and mixed operands.
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace ds::cpu {

using TileFn = void (*)(int64_t units, const float* a, int64_t a_stride, const float* b, int64_t b_stride, float* c, int64_t c_stride,
                        bool accumulate);
// Reads element (k, i) at src[k * stride + i] (k_major) or src[i * stride + k], writes unit (u, i) at
// dst[i / width * panel_stride + u * width + i % width]. The last panel and the last unit are filled up with zeros.
using PackFn = void (*)(DType type, const void* src, int64_t stride, bool k_major, int64_t k, int64_t n, float* dst, int64_t width,
                        int64_t panel_stride);

inline constexpr int kMaxTileRows = 12;
inline constexpr int kMaxTileColumns = 32;

struct TileSet {
    int step;      // elements of k in a unit
    int rows;      // of the largest tile
    int lanes;     // columns of one vector; a tile has one or two
    PackFn pack;   // from f32, bf16 or f16 (step 2: from f32 or bf16)
    TileFn tile[2][kMaxTileRows];  // [vectors - 1][rows - 1]

    int columns() const { return 2 * lanes; }
    int64_t units(int64_t k) const { return (k + step - 1) / step; }
};

// Tiles whose units hold bf16 pairs where `bf16` and the processor can; else f32.
const TileSet& tiles(bool bf16);
bool has_bf16_tiles();

// c[i][j] (+)= ... for any number of rows and columns. b has its columns padded to a multiple of `lanes` and so has c's storage.
inline void tile_block(const TileSet& t, int64_t rows, int64_t columns, int64_t units, const float* a, int64_t a_stride, const float* b,
                       int64_t b_stride, float* c, int64_t c_stride, bool accumulate) {
    for (int64_t j = 0; j < columns; j += t.columns()) {
        const TileFn* fns = t.tile[columns - j > t.lanes ? 1 : 0];
        for (int64_t i = 0; i < rows; i += t.rows)
            fns[(rows - i < t.rows ? rows - i : t.rows) - 1](units, a + i, a_stride, b + j, b_stride, c + i * c_stride + j, c_stride,
                                                             accumulate);
    }
}

// Writes rows of f32 as `type`, rounded to nearest even.
void store_rows(const float* src, int64_t src_stride, int64_t rows, int64_t columns, DType type, void* dst, int64_t dst_stride);

namespace detail {
void store_rows_bf16(const float* src, int64_t src_stride, int64_t rows, int64_t columns, uint16_t* dst, int64_t dst_stride);
extern const TileFn* const kBf16Tiles;  // [2 * kMaxTileRows], for AVX512_BF16
void pack_f32(DType type, const void* src, int64_t stride, bool k_major, int64_t k, int64_t n, float* dst, int64_t width,
              int64_t panel_stride);
void pack_bf16(DType type, const void* src, int64_t stride, bool k_major, int64_t k, int64_t n, float* dst, int64_t width,
               int64_t panel_stride);
}

}  // namespace ds::cpu
