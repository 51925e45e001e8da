// Tiles over pairs of bf16 with Intel's AMX: 32 rows x 32 columns of sums in four of its eight registers of 16 x 16, which tiles(true)
// hands out where the processor has them.
#include <cstring>

#include "kernels/cpu/tile.h"

#pragma GCC push_options
#pragma GCC target("amx-tile,amx-bf16,avx512f")
#include <immintrin.h>

namespace ds::cpu::detail {
namespace {

constexpr int64_t kEdge = 16;  // rows, columns and units of a register

struct alignas(64) Config {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};
};
constexpr Config whole_registers() {
    Config c;
    for (int i = 0; i < 8; ++i) c.row_bytes[i] = 64, c.rows[i] = kEdge;
    return c;
}
constexpr Config kWhole = whole_registers();

// Registers: sums of rows x columns 0 00, 1 01, 2 10, 3 11; rows 4, 5; columns 6, 7. All rows of the registers are computed.
template <bool two_down, bool two_across>
void multiply(int64_t units, const float* a, int64_t a_stride, const float* b, int64_t b_stride, float* c, int64_t c_stride,
              bool accumulate) {
    const int64_t c_bytes = 4 * c_stride, b_bytes = 4 * b_stride;
    float* below = c + kEdge * c_stride;
    if (accumulate) {
        _tile_loadd(0, c, c_bytes);
        if constexpr (two_across) _tile_loadd(1, c + kEdge, c_bytes);
        if constexpr (two_down) _tile_loadd(2, below, c_bytes);
        if constexpr (two_down && two_across) _tile_loadd(3, below + kEdge, c_bytes);
    } else {
        _tile_zero(0);
        if constexpr (two_across) _tile_zero(1);
        if constexpr (two_down) _tile_zero(2);
        if constexpr (two_down && two_across) _tile_zero(3);
    }
    for (; units > 0; units -= kEdge, a += kEdge * a_stride, b += kEdge * b_stride) {
        _tile_loadd(6, b, b_bytes);
        _tile_loadd(4, a, 64);
        _tile_dpbf16ps(0, 4, 6);
        if constexpr (two_across) _tile_loadd(7, b + kEdge, b_bytes);
        if constexpr (two_across) _tile_dpbf16ps(1, 4, 7);
        if constexpr (two_down) _tile_loadd(5, a + kEdge * kEdge, 64);
        if constexpr (two_down) _tile_dpbf16ps(2, 5, 6);
        if constexpr (two_down && two_across) _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c, c_bytes);
    if constexpr (two_across) _tile_stored(1, c + kEdge, c_bytes);
    if constexpr (two_down) _tile_stored(2, below, c_bytes);
    if constexpr (two_down && two_across) _tile_stored(3, below + kEdge, c_bytes);
}

template <bool two_across>
void tile(int64_t rows, int64_t units, const float* a, int64_t a_stride, const float* b, int64_t b_stride, float* c, int64_t c_stride,
          bool accumulate, const Ahead&) {
    const auto product = rows > kEdge ? multiply<true, two_across> : multiply<false, two_across>;
    if (rows % kEdge == 0) {
        asm volatile("" ::: "memory");  // GCC does not know that tiles read memory
        return product(units, a, a_stride, b, b_stride, c, c_stride, accumulate);
    }
    // c has no room for the rows beyond.
    constexpr int64_t columns = two_across ? 2 * kEdge : kEdge;
    alignas(64) float sums[2 * kEdge * columns];
    if (accumulate)
        for (int64_t i = 0; i < rows; ++i) std::memcpy(sums + i * columns, c + i * c_stride, columns * 4);
    if (accumulate) std::memset(sums + rows * columns, 0, static_cast<size_t>((2 * kEdge - rows) * columns) * 4);
    asm volatile("" : : "r"(sums) : "memory");
    product(units, a, a_stride, b, b_stride, sums, columns, accumulate);
    for (int64_t i = 0; i < rows; ++i) std::memcpy(c + i * c_stride, sums + i * columns, columns * 4);
}

}  // namespace

const TileFn kAmxTiles[2] = {tile<false>, tile<true>};

void enter_amx() { _tile_loadconfig(&kWhole); }
void leave_amx() { _tile_release(); }

}  // namespace ds::cpu::detail
#pragma GCC pop_options
