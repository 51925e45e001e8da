// Packing for tile.h into units of f32, in 128-bit vectors for every level and type: packing is bound by stores and cache misses, and
// widths are even. With AVX-512 pack512.cpp does most of it.
#include <algorithm>
#include <cstring>

#include "kernels/cpu/tile.h"
#include "kernels/cpu/words4.h"

namespace ds::cpu {
namespace {

// 4 elements as f32.
Words4 four(const float* p) { return load4(p); }
Words4 four(const BF16* p) { return widen4(p); }
Words4 four(const F16* p) { return words_of(to_f32(p[0]), to_f32(p[1]), to_f32(p[2]), to_f32(p[3])); }

// 2 elements, or one, and zeros.
Words4 two(const float* p) { return load2(p); }
Words4 one(const float* p) { return words_of(p[0], 0, 0, 0); }
template <class T>
Words4 two(const T* p) {
    return words_of(to_f32(p[0]), to_f32(p[1]), 0, 0);
}
template <class T>
Words4 one(const T* p) {
    return words_of(to_f32(p[0]), 0, 0, 0);
}

// known_width: the width, where the compiler shall know it; 0: any.
template <int known_width, class T>
void pack_panels(const T* src, int64_t stride, int64_t k, int64_t n, float* dst, int64_t any_width, int64_t panel_stride) {
    const int64_t width = known_width ? known_width : any_width;
    for (int64_t row = 0; row < k; ++row, dst += width) {
        const T* p = src + row * stride;
        float* panel = dst;
        int64_t first = 0;
        for (; first + width <= n; first += width, p += width, panel += panel_stride) {
            int64_t i = 0;
            for (; i + 4 <= width; i += 4) store4(four(p + i), panel + i);
            for (; i < width; i += 2) store2(two(p + i), panel + i);
        }
        for (int64_t i = 0; first < n && i < width; i += 2) {
            const int64_t valid = n - first - i;
            store2(valid >= 2 ? two(p + i) : valid == 1 ? one(p + i) : zero4(), panel + i);
        }
    }
}

// A few panels at a time, so that the caches hold a line of each.
template <class T>
void pack_k_major(const T* src, int64_t stride, int64_t k, int64_t n, float* dst, int64_t width, int64_t panel_stride) {
    const int64_t group = width < 512 ? 512 / width : 1;
    const auto pack = width == 6 ? pack_panels<6, T> : width == 16 ? pack_panels<16, T> : pack_panels<0, T>;  // those of AVX2's tiles
    for (int64_t first = 0; first < n; first += group * width)
        pack(src + first, stride, k, n - first < group * width ? n - first : group * width, dst + first / width * panel_stride, width,
             panel_stride);
}

// 4 rows along k become 4 columns, of which the first `columns` (4 or 2) are stored.
template <int columns>
void store_transposed(Words4 r0, Words4 r1, Words4 r2, Words4 r3, int64_t units, float* dst, int64_t width) {
    const auto store = [](Words4 v, float* p) { columns == 4 ? store4(v, p) : store2(v, p); };
    const Words4 a = low_words(r0, r1), b = low_words(r2, r3), e = high_words(r0, r1), f = high_words(r2, r3);
    store(low_pairs(a, b), dst);
    if (units > 1) store(high_pairs(a, b), dst + width);
    if (units > 2) store(low_pairs(e, f), dst + 2 * width);
    if (units > 3) store(high_pairs(e, f), dst + 3 * width);
}

// A strip of `columns` columns from as many rows of src, the last of which may be missing.
template <int columns, class T>
void transpose_strip(const T* src, int64_t stride, int64_t rows, int64_t k, float* dst, int64_t width) {
    constexpr int64_t block = 4;
    int64_t at = 0;
    if (rows == columns)
        for (; at + block <= k; at += block, dst += block * width) {
            const T* p = src + at;
            store_transposed<columns>(four(p), four(p + stride), columns > 2 ? four(p + 2 * stride) : zero4(),
                                      columns > 2 ? four(p + 3 * stride) : zero4(), block, dst, width);
        }
    for (; at < k; at += block, dst += block * width) {
        T part[4][block] = {};
        const int64_t valid = k - at < block ? k - at : block;
        for (int64_t i = 0; i < rows; ++i) std::memcpy(part[i], src + at + i * stride, static_cast<size_t>(valid) * sizeof(T));
        store_transposed<columns>(four(part[0]), four(part[1]), four(part[2]), four(part[3]), valid, dst, width);
    }
}

template <class T>
void pack_typed(const void* source, int64_t stride, bool k_major, int64_t k, int64_t n, float* dst, int64_t width, int64_t panel_stride) {
    const T* src = static_cast<const T*>(source);
    if (k_major) return pack_k_major(src, stride, k, n, dst, width, panel_stride);
    for (int64_t first = 0; first < n; first += width, dst += panel_stride)
        for (int64_t i = 0; i < width; i += 4) {
            const int columns = width - i < 4 ? 2 : 4;
            const int64_t rows = std::clamp<int64_t>(n - first - i, 0, columns);
            const T* from = rows ? src + (first + i) * stride : src;
            if (columns == 4) transpose_strip<4>(from, stride, rows, k, dst + i, width);
            else transpose_strip<2>(from, stride, rows, k, dst + i, width);
        }
}

}  // namespace

void detail::pack_f32(DType type, const void* src, int64_t stride, bool k_major, int64_t k, int64_t n, float* dst, int64_t width,
                      int64_t panel_stride) {
    if (type == DType::f32) pack_typed<float>(src, stride, k_major, k, n, dst, width, panel_stride);
    else if (type == DType::bf16) pack_typed<BF16>(src, stride, k_major, k, n, dst, width, panel_stride);
    else pack_typed<F16>(src, stride, k_major, k, n, dst, width, panel_stride);
}

}  // namespace ds::cpu
