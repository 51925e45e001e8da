// The double of kernels/cuda/tiles.cuh: copies happen when they are waited for, products when they are started, as plain sums that a warp's
// first lane adds up.
#pragma once

#include <vector>

#include "kernels/cuda/tiles.cuh"

namespace emu {

// Copies under way of each thread of the block that runs.
struct Copies {
    uint32_t launch = 0;
    Index block;
    std::vector<std::function<void()>> of[1024];

    std::vector<std::function<void()>>& mine() {
        if (launch != now.launch || block.x != now.block.x || block.y != now.block.y || block.z != now.block.z) {
            for (auto& each : of) each.clear();
            launch = now.launch;
            block = now.block;
        }
        return of[threadIdx.x];
    }
};
inline Copies copies;

}  // namespace emu

namespace ds::cuda {

template <class T, class From>
void copy_later(Shared<T> to, int at, From from, int64_t i, int count, const Place& place) {
    if (reinterpret_cast<uintptr_t>(from.data + i) % (count * sizeof(T)) != 0 || at % count != 0)
        emu::fault("a copy of " + std::to_string(count * sizeof(T)) + " bytes that are not aligned", place);
    for (int k = 0; k < count; ++k) {
        to.put(at + k, T{}, place);
        to.written[at + k] = false;  // until it has come
    }
    emu::copies.mine().push_back([=] {
        for (int k = 0; k < count; ++k) to.put(at + k, from.get(i + k, place), place);
    });
}
template <class T>
void copy8_async(Shared<T> to, int at, Span<T> from, int64_t i, const Place& place = Place::current()) {
    copy_later(to, at, from, i, 8, place);
}
inline void copy_async(Shared<float> to, int at, Span<const float> from, int64_t i, const Place& place = Place::current()) {
    copy_later(to, at, from, i, 1, place);
}
inline void finish_tiles() {
    auto& mine = emu::copies.mine();
    for (const auto& copy : mine) copy();
    mine.clear();
}

inline float fast_exp2(float x) { return std::exp2(x); }

template <class T>
void put_pair(Span<T> to, int64_t i, float low, float high, const Place& place = Place::current()) {
    if (reinterpret_cast<uintptr_t>(to.data + i) % 4 != 0) emu::fault("a pair that is not aligned", place);
    to.put(i, from_f32<T>(low), place);
    to.put(i + 1, from_f32<T>(high), place);
}

// Rows of a tile, as its readers see them.
template <class T>
std::vector<float> rows_of_tile(Shared<T> tile, int rows, int first, int count, int width, const Place& place) {
    std::vector<float> out(static_cast<size_t>(count * width));
    for (int r = 0; r < count; ++r)
        for (int c = 0; c < width; ++c)
            out[static_cast<size_t>(r * width + c)] = to_f32(tile.get(place_in_tile(rows, first + r, c), place));
    return out;
}

// A product of one of the block's warps: `make` fills it in the first lane, then every lane takes its numbers.
template <int kColumns, class F>
void take_product(Sums<kColumns>& sums, bool adds, const Place& place, const F& make) {
    static float product[32][16 * kColumns];
    float* mine = product[threadIdx.x / kWarp];
    emu::warp_exchange(0, place);
    if (threadIdx.x % kWarp == 0) make(mine);
    emu::warp_exchange(0, place);
    for (int i = 0; i < kColumns / 2; ++i) sums.x[i] = (adds ? sums.x[i] : 0.0f) + mine[sums_row(i) * kColumns + sums_column(i)];
}

template <class T, int kColumns>
struct Operands {
    float x[kColumns / 2];
    void take(const Sums<kColumns>& weights) {
        for (int i = 0; i < kColumns / 2; ++i) x[i] = to_f32(from_f32<T>(weights.x[i]));
    }
};

template <int kRows, int kWidth, int kColumns, class T>
void start_rows(Sums<kColumns>& sums, Shared<T> a, int group, Shared<T> b, const Place& place = Place::current()) {
    take_product(sums, false, place, [&](float* product) {
        const auto left = rows_of_tile(a, kRows, group * kGroupRows + static_cast<int>(threadIdx.x) % kGroupThreads / kWarp * 16, 16,
                                       kWidth, place),
                   right = rows_of_tile(b, kColumns, 0, kColumns, kWidth, place);
        for (int r = 0; r < 16; ++r)
            for (int n = 0; n < kColumns; ++n) {
                float sum = 0;
                for (int k = 0; k < kWidth; ++k)
                    sum += left[static_cast<size_t>(r * kWidth + k)] * right[static_cast<size_t>(n * kWidth + k)];
                product[r * kColumns + n] = sum;
            }
    });
}

template <int kWidth, int kColumns, class T>
void start_weighted(Sums<kWidth>& sums, const Operands<T, kColumns>& weights, Shared<T> b, const Place& place = Place::current()) {
    static float all[32][16 * kColumns];
    float* mine = all[threadIdx.x / kWarp];
    emu::warp_exchange(0, place);
    for (int i = 0; i < kColumns / 2; ++i) mine[sums_row(i) * kColumns + sums_column(i)] = weights.x[i];
    take_product(sums, true, place, [&](float* product) {
        const auto right = rows_of_tile(b, kColumns, 0, kColumns, kWidth, place);
        std::fill_n(product, 16 * kWidth, 0.0f);
        for (int r = 0; r < 16; ++r)
            for (int k = 0; k < kColumns; ++k) {
                const float w = mine[r * kColumns + k];
                for (int n = 0; n < kWidth && w != 0; ++n) product[r * kWidth + n] += w * right[static_cast<size_t>(k * kWidth + n)];
            }
    });
}

template <int kUnderWay>
void await_products() {}
template <int kColumns>
void settle(Sums<kColumns>&) {}
inline int uniform(int x) { return x; }

}  // namespace ds::cuda
