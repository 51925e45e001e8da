// Register tiles in f32, compiled by Highway for AVX2 and AVX-512; below those, on SSE2, which every x86-64 has (Highway 1.0.3 offers
// scalars there).
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/tile.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#if defined(__x86_64__)
#include <emmintrin.h>
#endif

#include <algorithm>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/level.h"
#include "kernels/cpu/tile.h"

HWY_BEFORE_NAMESPACE();
namespace ds::cpu {
namespace HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
using Vec = __m128;
constexpr int kLanes = 4;
HWY_INLINE Vec zero() { return _mm_setzero_ps(); }
HWY_INLINE Vec load(const float* p) { return _mm_loadu_ps(p); }
HWY_INLINE void store(Vec v, float* p) { _mm_storeu_ps(p, v); }
HWY_INLINE Vec broadcast(float x) { return _mm_set1_ps(x); }
HWY_INLINE Vec add(Vec a, Vec b) { return _mm_add_ps(a, b); }
HWY_INLINE Vec multiply_add(Vec a, Vec b, Vec c) { return _mm_add_ps(_mm_mul_ps(a, b), c); }
#else
namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<float>;
using Vec = hn::Vec<D>;
constexpr D d;
constexpr int kLanes = HWY_LANES(float);
HWY_INLINE Vec zero() { return hn::Zero(d); }
HWY_INLINE Vec load(const float* p) { return hn::LoadU(d, p); }
HWY_INLINE void store(Vec v, float* p) { hn::StoreU(v, d, p); }
HWY_INLINE Vec broadcast(float x) { return hn::Set(d, x); }
HWY_INLINE Vec add(Vec a, Vec b) { return hn::Add(a, b); }
HWY_INLINE Vec multiply_add(Vec a, Vec b, Vec c) { return hn::MulAdd(a, b, c); }
#endif
constexpr int kRows = kLanes == 16 ? 12 : kLanes == 8 ? 6 : 4;  // rows x 2 sums, 2 columns and a broadcast fill the register file

// A unit: one column of a times one row of b.
template <int rows, int vectors, class A>
HWY_INLINE void add_unit(const A& a, const float* b, Vec (&sum)[rows][vectors]) {
    Vec columns[vectors];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) columns[v] = load(b + kLanes * v);
#pragma GCC unroll 12
    for (int i = 0; i < rows; ++i) {
        const Vec row = broadcast(a(i));
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) sum[i][v] = multiply_add(row, columns[v], sum[i][v]);
    }
}

template <int rows, int vectors, class A>
void tile(int64_t, int64_t units, const float* from_a, int64_t a_stride, const float* b, int64_t b_stride, float* c, int64_t c_stride,
          bool accumulate, const Ahead& ahead) {
    Vec sum[rows][vectors];
#pragma GCC unroll 12
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) sum[i][v] = zero();
    A a(from_a, a_stride);
    Fetching fetching(ahead);
    int64_t u = 0;
    for (const int64_t lines = std::min(ahead.lines * ahead.rows, units); u < lines; ++u, a.next(), b += b_stride) {
        fetching.next();
        add_unit(a, b, sum);
    }
    for (; u < units; ++u, a.next(), b += b_stride) add_unit(a, b, sum);
#pragma GCC unroll 12
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) {
            float* to = c + i * c_stride + kLanes * v;
            store(accumulate ? add(sum[i][v], load(to)) : sum[i][v], to);
        }
}

template <int rows>
void fill(TileSet& set) {
    if constexpr (rows > 0) {
        set.tile[0][rows - 1] = tile<rows, 1, detail::PackedRows>, set.tile[1][rows - 1] = tile<rows, 2, detail::PackedRows>;
        set.row_tile[0][rows - 1] = tile<rows, 1, detail::RowsAsTheyLie>, set.row_tile[1][rows - 1] = tile<rows, 2, detail::RowsAsTheyLie>;
        fill<rows - 1>(set);
    }
}

TileSet f32_tiles() {
    TileSet set{1, 1, kRows, kLanes, 1, detail::pack_f32, detail::pack_f32, {}, {}};
    if (kLanes == 16) set.pack_a = set.pack_b = detail::pack512_f32;
    fill<kRows>(set);
    return set;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace ds::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <cstring>

namespace ds::cpu {
namespace {
HWY_EXPORT(f32_tiles);

TileSet bf16_tiles() {
    using detail::Bf16Tiles, detail::kBf16Tiles;
    TileSet set{2, 1, Bf16Tiles::kRows, 16, 1, detail::pack512_bf16, detail::pack512_bf16, {}, {}};
    for (int vectors = 0; vectors < 2; ++vectors) {
        std::copy_n(kBf16Tiles.tile[vectors], Bf16Tiles::kRows, set.tile[vectors]);
        std::copy_n(kBf16Tiles.row_tile[vectors], Bf16Tiles::kRows, set.row_tile[vectors]);
    }
    return set;
}

TileSet amx_tiles() {
    TileSet set{2, 16, kMaxTileRows, 16, 16, detail::pack512_amx_a, detail::pack512_amx_b, {}, {}, detail::enter_amx, detail::leave_amx};
    for (int i = 0; i < 2 * kMaxTileRows; ++i) set.tile[i / kMaxTileRows][i % kMaxTileRows] = detail::kAmxTiles[i / kMaxTileRows];
    return set;
}
}  // namespace

bool has_bf16_tiles() { return level() >= Level::avx512_bf16; }

void store_rows(const float* src, int64_t src_stride, int64_t rows, int64_t columns, DType type, void* dst, int64_t dst_stride) {
    if (type == DType::bf16 && has_bf16_tiles())
        return detail::store_rows_bf16(src, src_stride, rows, columns, static_cast<uint16_t*>(dst), dst_stride);
    if (type == DType::f32) {
        for (int64_t i = 0; i < rows; ++i)
            std::memcpy(static_cast<float*>(dst) + i * dst_stride, src + i * src_stride, static_cast<size_t>(columns) * 4);
        return;
    }
    for (int64_t i = 0; i < rows; ++i)
        from_f32(src + i * src_stride, columns, type, static_cast<std::byte*>(dst) + i * dst_stride * float_size(type));
}

const TileSet& tiles(bool bf16) {
    static const TileSet f32_set = (level(), HWY_DYNAMIC_DISPATCH(f32_tiles)());
    static const TileSet bf16_set = level() >= Level::amx_bf16 ? amx_tiles() : bf16_tiles();
    return bf16 && has_bf16_tiles() ? bf16_set : f32_set;
}

}  // namespace ds::cpu
#endif
