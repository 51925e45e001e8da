// On processors other than x86-64: what stands in for the tiles in x86's own instructions (tile_bf16.cpp, tile_amx.cpp, gemm_amx.cpp).
// level() never asks for them there.
#if !defined(__x86_64__)
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/tile.h"

namespace ds::cpu {
namespace detail {
const Bf16Tiles kBf16Tiles = {};
const TileFn kAmxTiles[2] = {};
void enter_amx() {}
void leave_amx() {}
void store_rows_bf16(const float*, int64_t, int64_t, int64_t, uint16_t*, int64_t) {}
void pack512_f32(DType type, const void* src, int64_t stride, bool k_major, int64_t k, int64_t n, float* dst, int64_t width,
                 int64_t panel_stride) {
    pack_f32(type, src, stride, k_major, k, n, dst, width, panel_stride);
}
void pack512_bf16(DType, const void*, int64_t, bool, int64_t, int64_t, float*, int64_t, int64_t) {}
void pack512_amx_a(DType, const void*, int64_t, bool, int64_t, int64_t, float*, int64_t, int64_t) {}
void pack512_amx_b(DType, const void*, int64_t, bool, int64_t, int64_t, float*, int64_t, int64_t) {}
}  // namespace detail

int64_t Gemm::amx_bytes(const GemmShape&, int64_t, int64_t) { return 0; }
void Gemm::amx_region(const GemmArgs&, Rectangle, std::byte*) const {}

}  // namespace ds::cpu
#endif
