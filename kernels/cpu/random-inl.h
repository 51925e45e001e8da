// Vectors of uniform_draw's numbers (Philox-4x32-10, kernels/ref/random.cpp), bit for bit, compiled for each level as vec-inl.h is.
#if defined(DS_KERNELS_CPU_RANDOM_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef DS_KERNELS_CPU_RANDOM_INL_H
#undef DS_KERNELS_CPU_RANDOM_INL_H
#else
#define DS_KERNELS_CPU_RANDOM_INL_H
#endif

#include "kernels/cpu/vec-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ds::cpu {
namespace HWY_NAMESPACE {
namespace {

using DU = hn::RebindToUnsigned<D>;
using VU = hn::Vec<DU>;
constexpr DU du;

#if HWY_TARGET == HWY_SCALAR
using DL = hn::ScalableTag<uint64_t>;
HWY_INLINE hn::Vec<DL> multiplied(hn::Vec<DL> x, hn::Vec<DL> m) { return hn::Set(DL(), (hn::GetLane(x) & 0xffffffffu) * hn::GetLane(m)); }
#else
using DL = hn::Repartition<uint64_t, DU>;
HWY_INLINE hn::Vec<DL> multiplied(hn::Vec<DL> x, hn::Vec<DL> m) { return hn::MulEven(hn::BitCast(du, x), hn::BitCast(du, m)); }
#endif
using VL = hn::Vec<DL>;
constexpr DL dl;

struct Words {
    VL word[4];
};

// Ten rounds, each lane's counters in the lower halves of 64 bits, where products need no shuffles; the upper halves hold rubbish.
// keys: the two of Philox, step, salt.
HWY_INLINE Words philox(VL block_low, VL block_high, const uint32_t* keys) {
    VL c0 = block_low, c1 = block_high, c2 = hn::Set(dl, uint64_t{keys[2]}), c3 = hn::Set(dl, uint64_t{keys[3]});
    const VL m0 = hn::Set(dl, uint64_t{0xD2511F53u}), m1 = hn::Set(dl, uint64_t{0xCD9E8D57u});
    uint32_t k0 = keys[0], k1 = keys[1];
    for (int round = 0; round < 10; ++round) {
        const VL p0 = multiplied(c0, m0), p1 = multiplied(c2, m1);
        c0 = hn::Xor3(hn::ShiftRight<32>(p1), c1, hn::Set(dl, uint64_t{k0}));
        c2 = hn::Xor3(hn::ShiftRight<32>(p0), c3, hn::Set(dl, uint64_t{k1}));
        c1 = p1;
        c3 = p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

// The four draws of every block: word w of lane i is the draw with index 4 * block_i + w.
struct Draws4 {
    V word[4];
};
HWY_INLINE V unit(VU bits) { return hn::Mul(hn::ConvertTo(d, hn::BitCast(di, hn::ShiftRight<8>(bits))), hn::Set(d, 0x1p-24f)); }
HWY_INLINE Draws4 draws_of_blocks(VU block_low, VU block_high, const uint32_t* keys) {
#if HWY_TARGET == HWY_SCALAR
    const Words w = philox(hn::Set(dl, hn::GetLane(block_low)), hn::Set(dl, hn::GetLane(block_high)), keys);
    const auto joined = [&](int i) HWY_ATTR { return unit(hn::Set(du, static_cast<uint32_t>(hn::GetLane(w.word[i])))); };
#else
    const VL low = hn::BitCast(dl, block_low), high = hn::BitCast(dl, block_high);
    const Words even = philox(low, high, keys), odd = philox(hn::ShiftRight<32>(low), hn::ShiftRight<32>(high), keys);
    const auto joined = [&](int i) HWY_ATTR {
        return unit(hn::OddEven(hn::BitCast(du, hn::ShiftLeft<32>(odd.word[i])), hn::BitCast(du, even.word[i])));
    };
#endif
    return {{joined(0), joined(1), joined(2), joined(3)}};
}

// The draws of any indices, given by their lower and upper halves: three of four numbers go unused.
HWY_INLINE V draws(VU low, VU high, const uint32_t* keys) {
    const Draws4 all = draws_of_blocks(hn::Or(hn::ShiftRight<2>(low), hn::ShiftLeft<30>(high)), hn::ShiftRight<2>(high), keys);
    const auto odd = hn::RebindMask(d, hn::TestBit(low, hn::Set(du, 1))), upper = hn::RebindMask(d, hn::TestBit(low, hn::Set(du, 2)));
    return hn::IfThenElse(upper, hn::IfThenElse(odd, all.word[3], all.word[2]), hn::IfThenElse(odd, all.word[1], all.word[0]));
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace ds::cpu
HWY_AFTER_NAMESPACE();

#endif
