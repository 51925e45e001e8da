// Philox-4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", 2011).
// A block of the generator gives four numbers: draw i is word i % 4 of block i / 4, so that neighbours cost a quarter each.
#include "kernels/kernel.h"

namespace ds {

void uniform_block(const Runtime& runtime, uint64_t salt, uint64_t block, float out[4]) {
    uint32_t counter[4] = {static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), static_cast<uint32_t>(runtime.step),
                           static_cast<uint32_t>(salt)};
    uint32_t key[2] = {static_cast<uint32_t>(runtime.seed),
                       static_cast<uint32_t>(runtime.seed >> 32) ^ static_cast<uint32_t>(runtime.step >> 32)};
    for (int round = 0; round < 10; ++round) {
        const uint64_t p0 = uint64_t{0xD2511F53} * counter[0], p1 = uint64_t{0xCD9E8D57} * counter[2];
        const uint32_t next[4] = {static_cast<uint32_t>(p1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(p1),
                                  static_cast<uint32_t>(p0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(p0)};
        for (int i = 0; i < 4; ++i) counter[i] = next[i];
        key[0] += 0x9E3779B9;
        key[1] += 0xBB67AE85;
    }
    for (int i = 0; i < 4; ++i) out[i] = static_cast<float>(counter[i] >> 8) * 0x1p-24f;
}

float uniform_draw(const Runtime& runtime, uint64_t salt, uint64_t index) {
    float block[4];
    uniform_block(runtime, salt, index / 4, block);
    return block[index % 4];
}

}  // namespace ds
