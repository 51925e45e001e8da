// dropout: y = x / (1 - p) where uniform_draw(runtime, salt, token * columns + column) >= p, else 0. The draws are bit for bit those of
// uniform_draw (Philox-4x32-10, kernels/ref/random.cpp), many at a time: lane i has counter index + i.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/dropout.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/vec-inl.h"

#include "kernels/cpu/map.h"
#include "ops/attrs.h"

HWY_BEFORE_NAMESPACE();
namespace ds::cpu {
namespace HWY_NAMESPACE {
namespace {

using DU = hn::RebindToUnsigned<D>;
using VU = hn::Vec<DU>;
constexpr DU du;

// The halves of the 64-bit products of every lane with m.
HWY_INLINE void multiply(VU x, VU m, VU& high, VU& low) {
#if HWY_TARGET == HWY_SCALAR
    const uint64_t product = uint64_t{hn::GetLane(x)} * hn::GetLane(m);
    high = hn::Set(du, static_cast<uint32_t>(product >> 32));
    low = hn::Set(du, static_cast<uint32_t>(product));
#else
    const hn::Repartition<uint64_t, DU> dl;
    const VU even = hn::BitCast(du, hn::MulEven(x, m));
    const VU odd = hn::BitCast(du, hn::MulEven(hn::BitCast(du, hn::ShiftRight<32>(hn::BitCast(dl, x))), m));
    low = hn::OddEven(hn::BitCast(du, hn::ShiftLeft<32>(hn::BitCast(dl, odd))), even);
    high = hn::OddEven(odd, hn::BitCast(du, hn::ShiftRight<32>(hn::BitCast(dl, even))));
#endif
}

// keys: the two of Philox, step, salt.
HWY_INLINE V draws(VU index_low, VU index_high, const uint32_t* keys) {
    VU c0 = index_low, c1 = index_high, c2 = hn::Set(du, keys[2]), c3 = hn::Set(du, keys[3]);
    uint32_t k0 = keys[0], k1 = keys[1];
    const VU m0 = hn::Set(du, 0xD2511F53u), m1 = hn::Set(du, 0xCD9E8D57u);
    for (int round = 0; round < 10; ++round) {
        VU high0, low0, high1, low1;
        multiply(c0, m0, high0, low0);
        multiply(c2, m1, high1, low1);
        c0 = hn::Xor(hn::Xor(high1, c1), hn::Set(du, k0));
        c2 = hn::Xor(hn::Xor(high0, c3), hn::Set(du, k1));
        c1 = low1;
        c3 = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return hn::Mul(hn::ConvertTo(d, hn::BitCast(di, hn::ShiftRight<8>(c0))), hn::Set(d, 0x1p-24f));
}

// n elements whose draws have indices `index` and on, which share the upper half.
void drop(const float* x, float* y, int64_t n, uint64_t index, const uint32_t* keys, float p, float scale) {
    const VU high = hn::Set(du, static_cast<uint32_t>(index >> 32));
    const V limit = hn::Set(d, p), s = hn::Set(d, scale);
    each(n, [&](auto at) HWY_ATTR {
        const VU low = hn::Iota(du, static_cast<uint32_t>(index + static_cast<uint64_t>(at.i)));
        const auto keep = hn::Ge(draws(low, high, keys), limit);
        at.store(hn::IfThenElseZero(keep, hn::Mul(at.load(x), s)), y);
    });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace ds::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ds::cpu {
namespace {
HWY_EXPORT(drop);

void phase(const Call& call, Team team) {
    const Tensor &x = call.in[0], &tokens = call.in[1], &y = call.out[0];
    const Dropout& a = call.attr<Dropout>();
    const Runtime& runtime = *call.runtime;
    const uint32_t keys[] = {static_cast<uint32_t>(runtime.seed), static_cast<uint32_t>(runtime.seed >> 32) ^ static_cast<uint32_t>(runtime.step >> 32),
                             static_cast<uint32_t>(runtime.step), static_cast<uint32_t>(a.salt)};
    const float p = static_cast<float>(a.p), scale = static_cast<float>(1 / (1 - a.p));
    const auto function = HWY_DYNAMIC_DISPATCH(drop);
    const int64_t columns = y.columns();
    const bool flat = x.dense() && y.dense() && !tokens.present;
    blocks(flat, y.rows(), columns, team, [&](int64_t row, int64_t column, int64_t n) {
        alignas(64) float from[kBlock], to[kBlock];
        const uint64_t token = tokens.present ? static_cast<uint64_t>(int64_t{tokens.as<int32_t>()[row]}) : static_cast<uint64_t>(row);
        const uint64_t index = token * static_cast<uint64_t>(columns) + static_cast<uint64_t>(column);
        const Out out(y, row, column, to);
        const float* source = read(x, row, column, n, from);
        const int64_t before = static_cast<int64_t>(std::min<uint64_t>(static_cast<uint64_t>(n), (uint64_t{1} << 32) - (index & 0xffffffffu)));
        function(source, out.data(), before, index, keys, p, scale);
        if (before < n) function(source + before, out.data() + before, n - before, index + static_cast<uint64_t>(before), keys, p, scale);
        out.done(n);
    });
}

const char* declines(const Request& request) {
    return is_simd_float(request.in[0].dtype) && is_simd_float(request.out[0].dtype) ? nullptr : "not f32, bf16 or f16";
}

constexpr KernelImpl kDropout[] = {{"simd", declines, simd<phase>}};

}  // namespace

const KernelList dropout{kDropout};

}  // namespace ds::cpu
#endif
