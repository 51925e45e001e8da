// Rounding to bf16 by chance (base/rounding.h), many numbers at a time.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rounding.cpp"
#include <hwy/foreach_target.h>

#include <algorithm>
#include <bit>

#include "kernels/cpu/random-inl.h"
#include "kernels/cpu/vec-inl.h"

#include "kernels/cpu/optim.h"
#include "kernels/cpu/random_keys.h"

HWY_BEFORE_NAMESPACE();
namespace ds::cpu {
namespace HWY_NAMESPACE {
namespace {

HWY_INLINE hn::Vec<hn::Rebind<uint16_t, DU>> rounded(V x, V draw) {
    const VU bits = hn::BitCast(du, x), exponent = hn::Set(du, 0x7f800000u), below = hn::And(bits, hn::Set(du, 0xffffu));
    const VU moved = hn::Add(bits, hn::BitCast(du, hn::ConvertTo(di, hn::Mul(draw, hn::Set(d, 65536.0f)))));
    const VU kept = hn::Or(bits, hn::IfThenZeroElse(hn::Eq(below, hn::Zero(du)), hn::Set(du, 0x400000u)));  // a NaN stays one
    return hn::TruncateTo(hn::Rebind<uint16_t, DU>(),
                          hn::ShiftRight<16>(hn::IfThenElse(hn::Eq(hn::And(bits, exponent), exponent), kept, moved)));
}

// Whole blocks of four draws, whose indices share the upper half; `index` is the first. Gives how many numbers it has done.
int64_t round_blocks(const float* x, int64_t n, uint64_t index, const uint32_t* keys, uint16_t* y) {
    const VU block_high = hn::Set(du, static_cast<uint32_t>(index >> 34));
    const int64_t step = lanes();
    int64_t i = 0;
    for (; i + 4 * step <= n; i += 4 * step) {
        HWY_ALIGN float in_order[4 * HWY_LANES(float)];
        const Draws4 four = draws_of_blocks(hn::Iota(du, static_cast<uint32_t>((index + static_cast<uint64_t>(i)) >> 2)), block_high, keys);
        hn::StoreInterleaved4(four.word[0], four.word[1], four.word[2], four.word[3], d, in_order);
        for (int64_t j = 0; j < 4 * step; j += step)
            hn::StoreU(rounded(hn::LoadU(d, x + i + j), hn::Load(d, in_order + j)), hn::Rebind<uint16_t, DU>(), y + i + j);
    }
    return i;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace ds::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ds::cpu {
namespace {
HWY_EXPORT(round_blocks);
}  // namespace

void bf16_by_chance(const float* x, int64_t n, const Rounding& r, void* low) {
    const Runtime draws{r.seed, r.step};
    const RandomKeys keys = random_keys(r.seed, r.step, r.salt);
    const auto blocks = HWY_DYNAMIC_DISPATCH(round_blocks);
    auto* y = static_cast<uint16_t*>(low);
    for (int64_t i = 0; i < n;) {
        const uint64_t index = static_cast<uint64_t>(r.first + i);
        if (index % 4 == 0) {
            const auto sharing =
                static_cast<int64_t>(std::min<uint64_t>(static_cast<uint64_t>(n - i), (uint64_t{1} << 32) - (index & 0xffffffffu)));
            if (const int64_t done = blocks(x + i, sharing, index, keys.data(), y + i); done > 0) {
                i += done;
                continue;
            }
        }
        y[i] = ds::bf16_by_chance(std::bit_cast<uint32_t>(x[i]), uniform_draw(draws, r.salt, index));
        ++i;
    }
}

}  // namespace ds::cpu
#endif
