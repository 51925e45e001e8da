// Ceilings of this machine, measured: what loops of nothing but multiply-adds, or of nothing but memory traffic, reach with a number of
// threads.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <barrier>
#include <ctime>
#include <functional>
#include <thread>
#include <vector>

namespace ds::bench {

// One thread is timed by its own processor time, which a busy machine disturbs little; a team by the clock.
inline double now(int threads) {
    timespec t;
    clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// The least seconds of `repeats` runs of f(rank) on a team; all threads start together.
inline double seconds(int threads, int repeats, const std::function<void(int)>& f) {
    double least = 1e30;
    std::barrier barrier(threads);
    std::vector<double> starts(static_cast<size_t>(threads));
    const auto work = [&](int rank) {
        for (int i = 0; i < repeats; ++i) {
            barrier.arrive_and_wait();
            starts[static_cast<size_t>(rank)] = now(threads);
            f(rank);
            barrier.arrive_and_wait();
            // Where others run too, a thread may come late, when its part has been done.
            if (rank == 0) least = std::min(least, now(threads) - *std::min_element(starts.begin(), starts.end()));
        }
    };
    std::vector<std::thread> team;
    for (int rank = 1; rank < threads; ++rank) team.emplace_back(work, rank);
    work(0);
    for (std::thread& t : team) t.join();
    return least;
}

inline constexpr int64_t kLoops = 4'000'000;

__attribute__((target("avx512f"))) inline void fma_avx512() {
    __m512 sum[16] = {};
    __m512 x = _mm512_set1_ps(1e-9f);
    for (int64_t i = 0; i < kLoops; ++i) {
#pragma GCC unroll 16
        for (auto& s : sum) {
            s = _mm512_fmadd_ps(x, x, s);
            asm volatile("" : "+v"(s));
        }
    }
}
__attribute__((target("avx512f,avx512bf16"))) inline void dot_bf16() {
    __m512 sum[16] = {};
    __m512bh x = (__m512bh)_mm512_set1_epi16(0x3000);
    for (int64_t i = 0; i < kLoops; ++i) {
#pragma GCC unroll 16
        for (auto& s : sum) {
            s = _mm512_dpbf16_ps(s, x, x);
            asm volatile("" : "+v"(s));
        }
    }
}
__attribute__((target("avx2,fma"))) inline void fma_avx2() {
    __m256 sum[12] = {};
    __m256 x = _mm256_set1_ps(1e-9f);
    for (int64_t i = 0; i < kLoops; ++i) {
#pragma GCC unroll 12
        for (auto& s : sum) {
            s = _mm256_fmadd_ps(x, x, s);
            asm volatile("" : "+x"(s));
        }
    }
}

inline double gflops_f32(int threads) {
    if (__builtin_cpu_supports("avx512f")) return threads * kLoops * 16 * 32e-9 / seconds(threads, 5, [](int) { fma_avx512(); });
    return threads * kLoops * 12 * 16e-9 / seconds(threads, 5, [](int) { fma_avx2(); });
}
// The caller has asked the kernel for tiles (cpu::level()).
__attribute__((target("amx-tile,amx-bf16"))) inline void dot_amx() {
    struct alignas(64) {
        uint8_t palette = 1, start_row = 0, reserved[14] = {};
        uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
        uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } config;
    asm volatile("ldtilecfg %0" : : "m"(config));  // also zeroes the tiles
    for (int64_t i = 0; i < kLoops; ++i) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_release();
}

inline double gflops_bf16(int threads, bool amx) {
    if (amx) return threads * kLoops * 4 * 16384e-9 / seconds(threads, 5, [](int) { dot_amx(); });
    if (!__builtin_cpu_supports("avx512bf16")) return gflops_f32(threads);
    return threads * kLoops * 16 * 64e-9 / seconds(threads, 5, [](int) { dot_bf16(); });
}

// STREAM's triad a = b + s c, counted as it counts: 24 bytes an f64 element.
inline double triad_gb(int threads) {
    const size_t n = size_t{16} << 20;
    std::vector<double> a(n), b(n, 1.0), c(n, 2.0);
    const double least = seconds(threads, 5, [&](int rank) {
        const size_t begin = n * static_cast<size_t>(rank) / static_cast<size_t>(threads),
                     end = n * static_cast<size_t>(rank + 1) / static_cast<size_t>(threads);
        for (size_t i = begin; i < end; ++i) a[i] = b[i] + 3.0 * c[i];
        asm volatile("" : : "r"(a.data()) : "memory");
    });
    return static_cast<double>(n) * 24e-9 / least;
}

}  // namespace ds::bench
