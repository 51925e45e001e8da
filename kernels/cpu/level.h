// Which instructions this process may use. Found once; DSRT_CPU=sse2|avx2|avx512|avx512_bf16|amx_bf16 forces it down for tests.
#pragma once

namespace ds::cpu {

enum class Level { sse2, avx2, avx512, avx512_bf16, amx_bf16 };

Level level();                    // the best of what the processor has and DSRT_CPU allows; also limits Highway accordingly
const char* name_of(Level level);

}  // namespace ds::cpu
