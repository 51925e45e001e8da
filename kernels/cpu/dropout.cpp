// dropout: y = x / (1 - p) where uniform_draw(runtime, salt, token * columns + column) >= p, else 0. The draws are bit for bit those of
// uniform_draw (Philox-4x32-10, kernels/ref/random.cpp), many at a time.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/dropout.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/random-inl.h"
#include "kernels/cpu/vec-inl.h"

#include "kernels/cpu/map.h"
#include "kernels/cpu/random_keys.h"
#include "ops/attrs.h"

HWY_BEFORE_NAMESPACE();
namespace ds::cpu {
namespace HWY_NAMESPACE {
namespace {

// n elements whose draws have indices `index` and on, which share the upper half. Whole blocks of the generator in the middle, single draws
// at the ends.
void drop(const float* x, float* y, int64_t n, uint64_t index, const uint32_t* keys, float p, float scale) {
    const VU high = hn::Set(du, static_cast<uint32_t>(index >> 32)), block_high = hn::Set(du, static_cast<uint32_t>(index >> 34));
    const V limit = hn::Set(d, p), s = hn::Set(d, scale);
    const auto singly = [&](int64_t begin, int64_t end) HWY_ATTR {
        each(end - begin, [&](auto at) HWY_ATTR {
            const VU low = hn::Iota(du, static_cast<uint32_t>(index + static_cast<uint64_t>(begin + at.i)));
            at.store(hn::IfThenElseZero(hn::Ge(draws(low, high, keys), limit), hn::Mul(at.load(x + begin), s)), y + begin);
        });
    };
    const int64_t step = lanes(), first = std::min(n, static_cast<int64_t>(-index % 4));
    int64_t i = first;
    singly(0, first);
    for (; i + 4 * step <= n; i += 4 * step) {
        HWY_ALIGN float in_order[4 * HWY_LANES(float)];
        const Draws4 four = draws_of_blocks(hn::Iota(du, static_cast<uint32_t>((index + static_cast<uint64_t>(i)) >> 2)), block_high, keys);
        hn::StoreInterleaved4(four.word[0], four.word[1], four.word[2], four.word[3], d, in_order);
        for (int64_t j = 0; j < 4 * step; j += step) {
            const auto keep = hn::Ge(hn::Load(d, in_order + j), limit);
            hn::StoreU(hn::IfThenElseZero(keep, hn::Mul(hn::LoadU(d, x + i + j), s)), d, y + i + j);
        }
    }
    singly(i, n);
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
    const RandomKeys keys = random_keys(runtime.seed, runtime.step, static_cast<uint64_t>(a.salt));
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
        const int64_t before =
            static_cast<int64_t>(std::min<uint64_t>(static_cast<uint64_t>(n), (uint64_t{1} << 32) - (index & 0xffffffffu)));
        function(source, out.data(), before, index, keys.data(), p, scale);
        if (before < n)
            function(source + before, out.data() + before, n - before, index + static_cast<uint64_t>(before), keys.data(), p, scale);
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
