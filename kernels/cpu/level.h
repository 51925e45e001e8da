// Which instructions this process may use. Found once; DSRT_CPU=sse2|avx2|avx512|avx512_bf16|amx_bf16 forces it down for tests. On other
// processors than x86-64 there is the baseline only.
#pragma once

#include <span>

namespace ds::cpu {

enum class Level { baseline, avx2, avx512, avx512_bf16, amx_bf16 };

Level level();  // the best of what the processor has and DSRT_CPU allows; also limits Highway accordingly
const char* name_of(Level level);
std::span<const char* const> level_names();  // all there are on this kind of processor, the lowest first

}  // namespace ds::cpu
