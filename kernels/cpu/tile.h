// Register tiles: the innermost loops of every matrix product on the CPU, and the packing of operands into the layout they read.
//
// A tile computes  c[i][j] (+)= sum over units u of a[u][i] * b[u][j]  for a few rows i and one or two vectors of columns j.
// A unit is 4 bytes: one f32, or (step 2) two bf16 of neighbouring k, whose products are summed by one instruction. Both operands lie
// unit-major, so packing decides everything about layout and type, and one driver serves f32, bf16 and mixed operands. AMX wants rows of a
// whole instead: 16 units of a row, then those of the next row; after all rows of the panel their next 16 units.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/dtype.h"

namespace ds::cpu {

// Lines that a tile fetches into the second cache while it computes, one a unit, for what comes after it: some rows of so many lines,
// `stride` bytes apart.
struct Ahead {
    const std::byte* from = nullptr;
    int64_t stride = 0, lines = 0, rows = 0;
};
// Walks them.
class Fetching {
public:
    explicit Fetching(const Ahead& ahead)
        : at_(ahead.from), step_(ahead.stride - 64 * (ahead.lines - 1)), lines_(ahead.lines), left_(ahead.lines) {}
    void next() {
        __builtin_prefetch(at_, 0, 2);
        const bool last = --left_ == 0;
        at_ += last ? step_ : 64;
        left_ = last ? lines_ : left_;
    }

private:
    const std::byte* at_;
    int64_t step_, lines_, left_;
};
using TileFn = void (*)(int64_t rows, int64_t units, const float* a, int64_t a_stride, const float* b, int64_t b_stride, float* c,
                        int64_t c_stride, bool accumulate, const Ahead& ahead);
// Reads element (k, i) at src[k * stride + i] (k_major) or src[i * stride + k], writes unit (u, i) at
// dst[i / width * panel_stride + u * width + i % width] (AMX: above). The last panel and the last unit are filled up with zeros, and units
// up to the grain.
using PackFn = void (*)(DType type, const void* src, int64_t stride, bool k_major, int64_t k, int64_t n, float* dst, int64_t width,
                        int64_t panel_stride);

inline constexpr int kMaxTileRows = 32;
inline constexpr int kMaxTileColumns = 32;

struct TileSet {
    int step;                                         // elements of k in a unit
    int grain;                                        // units come in multiples of this
    int rows;                                         // of the largest tile
    int lanes;                                        // columns of one vector; a tile has one or two
    int row_step;                                     // floats from a row of a packed a to the next
    PackFn pack_a, pack_b;                            // from f32, bf16 or f16 (step 2: from f32 or bf16)
    TileFn tile[2][kMaxTileRows];                     // [vectors - 1][rows - 1]
    TileFn row_tile[2][kMaxTileRows];                 // for an a as it lies, unit (u, i) at a[i * a_stride + u]; null: none
    void (*enter)() = nullptr, (*leave)() = nullptr;  // around the use of tiles in a thread

    int columns() const { return 2 * lanes; }
    // Whether rows of k elements serve as a's as they lie. They don't where so many of them fall on the same sets of the first cache that
    // it can't hold a line of each.
    bool takes_rows(DType type, int64_t k, int64_t stride) const {
        constexpr int64_t collide = 512;  // units
        return row_tile[0][0] && type == (step == 2 ? DType::bf16 : DType::f32) && k % step == 0 && stride % step == 0 &&
               stride / step % collide != 0;
    }
    int64_t units(int64_t k) const { return ((k + step - 1) / step + grain - 1) / grain * grain; }
};

// While one lives, this thread may call the set's tiles.
class TileUse {
public:
    explicit TileUse(const TileSet& tiles) : tiles_(tiles) {
        if (tiles_.enter) tiles_.enter();
    }
    ~TileUse() {
        if (tiles_.leave) tiles_.leave();
    }
    TileUse(const TileUse&) = delete;
    TileUse& operator=(const TileUse&) = delete;

private:
    const TileSet& tiles_;
};

// Tiles whose units hold bf16 pairs where `bf16` and the processor can; else f32.
const TileSet& tiles(bool bf16);
bool has_bf16_tiles();

// An a that was packed, or its rows as they lie.
struct Left {
    const float* at;
    int64_t stride;  // floats from one unit to the next, or from one row to the next
    bool in_rows = false;

    Left from_row(const TileSet& t, int64_t i) const { return {at + i * (in_rows ? stride : t.row_step), stride, in_rows}; }
};

// Rows of k elements as a's: as they lie, or packed into `room` in panels of `width`.
inline Left left_rows(const TileSet& t, DType type, const void* from, int64_t stride, int64_t rows, int64_t k, float* room, int64_t width) {
    if (t.takes_rows(type, k, stride)) return {static_cast<const float*>(from), stride / t.step, true};
    t.pack_a(type, from, stride, false, k, rows, room, width, width * t.units(k));
    return {room, width};
}

// c[i][j] (+)= ... for any number of rows and columns. b has its columns padded to a multiple of `lanes` and so has c's storage.
inline void tile_block(const TileSet& t, int64_t rows, int64_t columns, int64_t units, const Left& a, const float* b, int64_t b_stride,
                       float* c, int64_t c_stride, bool accumulate) {
    for (int64_t j = 0; j < columns; j += t.columns()) {
        const TileFn* fns = (a.in_rows ? t.row_tile : t.tile)[columns - j > t.lanes ? 1 : 0];
        for (int64_t i = 0; i < rows; i += t.rows) {
            const int64_t part = rows - i < t.rows ? rows - i : t.rows;
            fns[part - 1](part, units, a.from_row(t, i).at, a.stride, b + j, b_stride, c + i * c_stride + j, c_stride, accumulate, {});
        }
    }
}

// Writes rows of f32 as `type`, rounded to nearest even.
void store_rows(const float* src, int64_t src_stride, int64_t rows, int64_t columns, DType type, void* dst, int64_t dst_stride);

namespace detail {
// The rows of an a that was packed: those of a unit lie side by side.
struct PackedRows {
    const float* at;
    int64_t stride;
    PackedRows(const float* a, int64_t a_stride) : at(a), stride(a_stride) {}
    __attribute__((always_inline)) float operator()(int i) const { return at[i]; }
    __attribute__((always_inline)) void next() { at += stride; }
};
// Those of an a as it lies, from four pointers that a processor's addresses reach all rows from. A unit of two bf16 may lie at any of them.
struct RowsAsTheyLie {
    const float* at[4];
    int64_t stride;
    RowsAsTheyLie(const float* a, int64_t a_stride) : at{a, a + 3 * a_stride, a + 6 * a_stride, a + 9 * a_stride}, stride(a_stride) {}
    __attribute__((always_inline)) float operator()(int i) const {
        float unit;
        std::memcpy(&unit, at[i / 3] + i % 3 * stride, sizeof unit);
        return unit;
    }
    __attribute__((always_inline)) void next() {
        for (auto& p : at) ++p;
    }
};

void store_rows_bf16(const float* src, int64_t src_stride, int64_t rows, int64_t columns, uint16_t* dst, int64_t dst_stride);
struct Bf16Tiles {
    static constexpr int kRows = 12;
    TileFn tile[2][kRows] = {}, row_tile[2][kRows] = {};  // as TileSet has them
};
extern const Bf16Tiles kBf16Tiles;  // for AVX512_BF16
extern const TileFn kAmxTiles[2];
void enter_amx();
void leave_amx();
// With AVX-512 (pack512.cpp); the others do with SSE2.
void pack512_f32(DType type, const void* src, int64_t stride, bool k_major, int64_t k, int64_t n, float* dst, int64_t width,
                 int64_t panel_stride);
void pack512_bf16(DType type, const void* src, int64_t stride, bool k_major, int64_t k, int64_t n, float* dst, int64_t width,
                  int64_t panel_stride);
void pack512_amx_a(DType type, const void* src, int64_t stride, bool k_major, int64_t k, int64_t n, float* dst, int64_t width,
                   int64_t panel_stride);
void pack512_amx_b(DType type, const void* src, int64_t stride, bool k_major, int64_t k, int64_t n, float* dst, int64_t width,
                   int64_t panel_stride);
void pack_f32(DType type, const void* src, int64_t stride, bool k_major, int64_t k, int64_t n, float* dst, int64_t width,
              int64_t panel_stride);
}  // namespace detail

}  // namespace ds::cpu
