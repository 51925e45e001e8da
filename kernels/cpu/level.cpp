#include "kernels/cpu/level.h"

#include <cstdlib>
#include <cstring>
#if defined(__x86_64__)
#include <cpuid.h>
#include <hwy/targets.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace ds::cpu {
namespace {

#if defined(__x86_64__)
constexpr const char* kNames[] = {"sse2", "avx2", "avx512", "avx512_bf16", "amx_bf16"};

// Intel's matrix tiles. Linux saves their 8 KiB only for a process that asks; it refuses where a thread's signal stack would not hold them.
bool may_use_amx() {
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 22 & 1) || !(d >> 24 & 1)) return false;  // AMX-BF16, AMX-TILE
    constexpr int kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
}

Level of_processor() {
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return Level::baseline;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512dq") ||
        !__builtin_cpu_supports("avx512vl"))
        return Level::avx2;
    return __builtin_cpu_supports("avx512bf16") ? Level::amx_bf16 : Level::avx512;
}

Level choose() {
    Level best = of_processor();
    if (const char* forced = std::getenv("DSRT_CPU"))
        for (int i = 0; i < 5; ++i)
            if (std::strcmp(forced, kNames[i]) == 0 && static_cast<Level>(i) < best) best = static_cast<Level>(i);
    if (best == Level::amx_bf16 && !may_use_amx()) best = Level::avx512_bf16;
    if (best < Level::avx512) hwy::DisableTargets(best == Level::avx2 ? HWY_AVX3 | HWY_AVX3_DL : HWY_AVX2 | HWY_AVX3 | HWY_AVX3_DL);
    return best;
}
#else  // one level: vectors of 128 bits, Arm's NEON
constexpr const char* kNames[] = {"neon"};
Level choose() { return Level::baseline; }
#endif

}  // namespace

Level level() {
    static const Level chosen = choose();
    return chosen;
}

const char* name_of(Level level) { return kNames[static_cast<int>(level)]; }
std::span<const char* const> level_names() { return kNames; }

}  // namespace ds::cpu
