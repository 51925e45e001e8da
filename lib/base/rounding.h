// Rounding of f32 to bf16 by chance: up or down, so that the expectation is the number itself. A weight whose updates are smaller than half
// a place of bf16 moves all the same, in its share of the steps.
#pragma once

#include <cstdint>

namespace ds {

// Which random numbers decide: draw `first` + i of kernels/kernel.h's uniform_draw on element i. So a number's rounding depends neither on
// the pieces in which a parameter is updated nor on who updates them.
struct Rounding {
    uint64_t seed = 0, step = 0, salt = 0;
    int64_t first = 0;
};

// The bits of a bf16; draw in [0, 1). What is not finite stays so.
#ifdef __CUDACC__
__host__ __device__
#endif
    inline uint16_t
    bf16_by_chance(uint32_t bits, float draw) {
    if ((bits & 0x7f800000u) == 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | ((bits & 0xffffu) != 0 ? 0x40u : 0u));
    return static_cast<uint16_t>((bits + static_cast<uint32_t>(draw * 65536.0f)) >> 16);
}

}  // namespace ds
