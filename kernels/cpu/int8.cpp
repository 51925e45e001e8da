// int8_matmul: rows of a are rounded to 8 bits, then pairs of the weight's panels are dealt out to the team. Sums of integers are exact, so
// nothing depends on their order.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/int8.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/vec-inl.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <cstring>

#include "kernels/coded.h"
#include "kernels/cpu/decoded.h"
#include "kernels/cpu/int8.h"
#include "kernels/cpu/level.h"
#include "kernels/cpu/tile.h"
#include "ops/attrs_coded.h"

HWY_BEFORE_NAMESPACE();
namespace ds::cpu {
namespace HWY_NAMESPACE {

// x / (largest magnitude / 127), rounded to nearest even, plus `offset`. Returns what a code is worth.
float to_int8(const float* x, int64_t n, int32_t offset, int8_t* to) {
    V most_of_lanes = hn::Zero(d);
    each(n, [&](auto at) { most_of_lanes = hn::Max(most_of_lanes, hn::Abs(at.load(x))); });
    const float most = hn::GetLane(hn::MaxOfLanes(d, most_of_lanes)), inverse = most > 0 ? 127 / most : 0;
    HWY_ALIGN int32_t codes[HWY_LANES(float)];
    const V by = hn::Set(d, inverse);
    for (int64_t i = 0; i < n; i += lanes()) {
        const int64_t part = std::min(lanes(), n - i);
        const V v = part == lanes() ? hn::LoadU(d, x + i) : load_n(x + i, part);
        const VI code = hn::Add(hn::NearestInt(hn::Mul(v, by)), hn::Set(di, offset));
        if (part == lanes()) {
            // Bytes of the words, whatever their sign.
            hn::StoreU(hn::TruncateTo(hn::Rebind<uint8_t, D>(), hn::BitCast(hn::RebindToUnsigned<D>(), code)), hn::Rebind<uint8_t, D>(),
                       reinterpret_cast<uint8_t*>(to) + i);
        } else {
            hn::Store(code, di, codes);
            for (int64_t j = 0; j < part; ++j) to[i + j] = static_cast<int8_t>(codes[j]);
        }
    }
    return most / 127;
}

// x / scale, rounded to nearest even, plus zero, from -128 to 127, plus `offset`.
void to_fixed_int8(const float* x, int64_t n, float scale, int32_t zero, int32_t offset, int8_t* to) {
    HWY_ALIGN int32_t codes[HWY_LANES(float)];
    const V by = hn::Set(d, scale), wide = hn::Set(d, 512.0f);
    for (int64_t i = 0; i < n; i += lanes()) {
        const int64_t part = std::min(lanes(), n - i);
        const V v = part == lanes() ? hn::LoadU(d, x + i) : load_n(x + i, part);
        const V steps =
            scale == 0 ? hn::Zero(d) : hn::Min(hn::Max(hn::Div(v, by), hn::Neg(wide)), wide);  // far outside, integers would not fit
        const VI code = hn::Min(hn::Max(hn::Add(hn::NearestInt(steps), hn::Set(di, zero)), hn::Set(di, -128)), hn::Set(di, 127));
        hn::Store(hn::Add(code, hn::Set(di, offset)), di, codes);
        for (int64_t j = 0; j < part; ++j) to[i + j] = static_cast<int8_t>(codes[j]);
    }
}

// y = (sums - correction) * row * scales + bias.
void finish_int8(const int32_t* sums, const int32_t* correction, float row, const float* scales, const float* bias, int64_t n, float* y) {
    const V by = hn::Set(d, row);
    for (int64_t j = 0; j < n; j += lanes()) {
        const VI sum = hn::Sub(hn::LoadU(di, sums + j), hn::LoadU(di, correction + j));
        hn::StoreU(hn::MulAdd(hn::ConvertTo(d, sum), hn::Mul(by, hn::LoadU(d, scales + j)), hn::LoadU(d, bias + j)), d, y + j);
    }
}

}  // namespace HWY_NAMESPACE
}  // namespace ds::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace ds::cpu {
namespace {
HWY_EXPORT(to_int8);
HWY_EXPORT(to_fixed_int8);
HWY_EXPORT(finish_int8);

void plain_sums(int64_t rows, int64_t steps, const int8_t* a, int64_t stride, const uint8_t* b, int64_t panels, int64_t panel_stride,
                int32_t* sums) {
    constexpr int64_t kWidth = Int8Parts::kPanel;
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t p = 0; p < panels; ++p) {
            int32_t sum[kWidth] = {};
            for (int64_t group = 0; group < 16 * steps; ++group) {
                const int8_t* four = a + r * stride + 4 * group;
                const auto* weight = reinterpret_cast<const int8_t*>(b + p * panel_stride + 64 * group);
                for (int64_t j = 0; j < kWidth; ++j)
                    sum[j] +=
                        four[0] * weight[4 * j] + four[1] * weight[4 * j + 1] + four[2] * weight[4 * j + 2] + four[3] * weight[4 * j + 3];
            }
            std::memcpy(sums + r * kInt8Columns + p * kWidth, sum, sizeof sum);
        }
}

#if defined(__x86_64__)
bool has_amx_int8() {
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && d >> 25 & 1;
}
#endif

Int8Way choose() {
#if defined(__x86_64__)
    if (level() == Level::amx_bf16 && has_amx_int8()) return {"int8_amx", detail::int8_amx, false, detail::enter_amx, detail::leave_amx};
    if (level() >= Level::avx512_bf16 && __builtin_cpu_supports("avx512vnni"))
        return {"int8_vnni", detail::int8_vnni, true, nullptr, nullptr};
    if (level() >= Level::avx2) return {"int8_avx2", detail::int8_avx2, false, nullptr, nullptr};
#endif
    return {"int8_plain", plain_sums, false, nullptr, nullptr};
}

struct State {
    int64_t m = 0, n = 0, k = 0, rows = 0, stride = 0;  // rows: of a in memory; stride: bytes from one to the next
    int64_t scales = 0, own = 0, of_thread = 0;         // bytes: where scales of rows lie, and each thread's own memory
};

// Rows of a as integers, and what their codes are worth.
void round_rows(const Call& call, Team team) {
    const State& s = *static_cast<const State*>(call.state);
    const Tensor& a = call.in[0];
    const auto run = HWY_DYNAMIC_DISPATCH(to_int8);
    const auto within = HWY_DYNAMIC_DISPATCH(to_fixed_int8);
    const bool fixed = call.attr<Int8Matmul>().fixed;
    const InputCode input = InputCode::of(call.in[1].data, Int8Parts(s.n, s.k));
    const int32_t offset = int8_way().offset ? 128 : 0;
    auto* own = reinterpret_cast<float*>(call.scratch + s.own + team.rank * s.of_thread);
    auto* scales = reinterpret_cast<float*>(call.scratch + s.scales);
    const auto [first, last] = team.part(s.rows);
    for (int64_t i = first; i < last; ++i) {
        auto* to = reinterpret_cast<int8_t*>(call.scratch) + i * s.stride;
        scales[i] = fixed ? input.scale : 0;
        if (i < s.m && fixed) within(read(a, i, 0, s.k, own), s.k, input.scale, input.zero, offset, to);
        else if (i < s.m) scales[i] = run(read(a, i, 0, s.k, own), s.k, offset, to);
        const int64_t there = i < s.m ? s.k : 0;
        std::memset(to + there, 0, static_cast<size_t>(s.stride - there));  // meets zeros of the weight
    }
}

void multiply(const Call& call, Team team) {
    const State& s = *static_cast<const State*>(call.state);
    const Int8Way& way = int8_way();
    const auto finish = HWY_DYNAMIC_DISPATCH(finish_int8);
    const Int8Parts parts(s.n, s.k);
    const Tensor &bias = call.in[2], &into = call.in[3], &y = call.out[0];
    const auto* codes = call.in[1].as<uint8_t>();
    const auto* rounded = reinterpret_cast<const int8_t*>(call.scratch);
    const auto *row_scales = reinterpret_cast<const float*>(call.scratch + s.scales),
               *scales = reinterpret_cast<const float*>(codes + parts.scales);
    const auto* code_sums = reinterpret_cast<const int32_t*>(codes + parts.sums);
    auto* sums = reinterpret_cast<int32_t*>(call.scratch + s.own + team.rank * s.of_thread);
    const int32_t zero =
        (way.offset ? 128 : 0) + (call.attr<Int8Matmul>().fixed ? InputCode::of(codes, parts).zero : 0);  // of a, as it lies
    const int64_t pairs = (parts.panels + 1) / 2, panel_stride = parts.steps * Int8Parts::kBlock;
    alignas(64) float line[kInt8Columns], more[kInt8Columns], biases[kInt8Columns];
    alignas(64) int32_t correction[kInt8Columns];
    if (way.enter) way.enter();
    const auto [first, last] = team.part(pairs);
    for (int64_t pair = first; pair < last; ++pair) {
        const int64_t column = pair * kInt8Columns, columns = std::min(kInt8Columns, s.n - column),
                      panels = std::min<int64_t>(2, parts.panels - 2 * pair), whole = panels * Int8Parts::kPanel;
        std::memset(biases, 0, sizeof biases);
        if (bias.present) to_f32(bias.as<std::byte>() + column * float_size(bias.dtype), bias.dtype, columns, biases);
        for (int64_t j = 0; j < whole; ++j) correction[j] = zero * code_sums[column + j];
        for (int64_t row = 0; row < s.m; row += kInt8Rows) {
            const int64_t rows = std::min(kInt8Rows, s.m - row);
            way.sums(rows, parts.steps, rounded + row * s.stride, s.stride, codes + 2 * pair * panel_stride, panels, panel_stride, sums);
            for (int64_t r = 0; r < rows; ++r) {
                finish(sums + r * kInt8Columns, correction, row_scales[row + r], scales + column, biases, whole, line);
                if (into.present) {
                    to_f32(address(into, row + r, column), into.dtype, columns, more);
                    for (int64_t j = 0; j < columns; ++j) line[j] += more[j];
                }
                from_f32(line, columns, y.dtype, address(y, row + r, column));
            }
        }
    }
    if (way.leave) way.leave();
}

const char* declines(const Request& request) {
    if (request.in[0].columns() > (int64_t{1} << (request.attr<Int8Matmul>().fixed ? 15 : 16)))
        return "sums of so many products may not fit 32 bits";
    return declines_product(request);
}

Result<Prepared> prepare(const Request& request) {
    int8_way();
    auto s = std::make_shared<State>();
    s->m = request.out[0].rows(), s->n = request.out[0].columns(), s->k = request.in[0].columns();
    s->rows = round_up(s->m, kInt8Rows);
    s->stride = round_up(s->k, Int8Parts::kStep);
    s->scales = s->rows * s->stride;
    s->own = round_up(s->scales + 4 * s->rows, 64);
    s->of_thread = round_up(std::max(4 * s->k, 4 * kInt8Rows * kInt8Columns), 64);
    const int64_t scratch = s->own + s->of_thread * request.threads;
    return Prepared{{round_rows, multiply}, std::move(s), scratch};
}

constexpr KernelImpl kInt8[] = {{"int8", declines, prepare}};

}  // namespace

const Int8Way& int8_way() {
    static const Int8Way way = choose();
    return way;
}

extern const KernelList int8_matmul = kInt8;

}  // namespace ds::cpu
#endif
