// What keys the generator of random-inl.h: the two keys of Philox, and the two words of its counter that stay. As kernels/ref/random.cpp.
#pragma once

#include <array>
#include <cstdint>

namespace ds::cpu {

using RandomKeys = std::array<uint32_t, 4>;
inline RandomKeys random_keys(uint64_t seed, uint64_t step, uint64_t salt) {
    return {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32) ^ static_cast<uint32_t>(step >> 32), static_cast<uint32_t>(step),
            static_cast<uint32_t>(salt)};
}

}  // namespace ds::cpu
