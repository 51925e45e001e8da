#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_scores.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/random-inl.h"
#include "kernels/cpu/vec-inl.h"

#include <hwy/contrib/math/math-inl.h>

#include "kernels/cpu/attention_scores.h"
#include "kernels/cpu/convert.h"

HWY_BEFORE_NAMESPACE();
namespace ds::cpu {
namespace HWY_NAMESPACE {
namespace {

constexpr float kLog2e = 1.44269504f;

HWY_INLINE VI ints(const int32_t* p) { return hn::LoadU(di, p); }
HWY_INLINE VI ints(int32_t x) { return hn::Set(di, x); }

HWY_INLINE auto sees(VI place, VI key_token, VI limit, VI query_token, VI window) {
    return hn::RebindMask(d, hn::And(hn::Lt(place, limit), hn::Lt(hn::Sub(query_token, key_token), window)));
}

HWY_INLINE V draw(VU low, VU high, VU offset, const Draws& of) {
    const VU index = hn::Add(low, offset);
    const VU carry = hn::VecFromMask(du, hn::Lt(index, low));  // all ones: minus one
    return draws(index, hn::Sub(high, carry), of.keys.data());
}

// How many keys have draws that follow each other from the start of a block of the generator (random-inl.h): those come four at the price
// of one. A query's first index is a multiple of 2^20, so offsets decide alone.
HWY_INLINE int64_t in_blocks(const Draws& of, int64_t keys) {
    if (of.offset[0] % 4 != 0 || of.offset[0] >= (1u << 20) - kScorePad * 16) return 0;
    int64_t n = 0;
    while (n < keys && of.offset[n] == of.offset[0] + static_cast<uint32_t>(n)) ++n;
    return n;
}
HWY_INLINE VU block_of(VU low, VU high) { return hn::Or(hn::ShiftRight<2>(low), hn::ShiftLeft<30>(high)); }

// Drops from the probabilities of a vector of queries: those of every key, rows `stride` apart.
HWY_NOINLINE void drop_columns(float* s, int64_t stride, int64_t keys, int64_t q, const Draws& of) {
    const VU low = hn::LoadU(du, of.low + q), high = hn::LoadU(du, of.high + q);
    const V limit = hn::Set(d, of.p), up = hn::Set(d, of.factor);
    const auto apply = [&](int64_t j, V drawn) HWY_ATTR {
        float* p = s + j * stride + q;
        hn::StoreU(hn::IfThenElseZero(hn::Ge(drawn, limit), hn::Mul(hn::LoadU(d, p), up)), d, p);
    };
    int64_t j = 0;
    for (const int64_t whole = in_blocks(of, keys) / 4 * 4; j < whole; j += 4) {
        const VU first = hn::Add(low, hn::Set(du, of.offset[j]));  // no carry: see in_blocks
        const Draws4 four = draws_of_blocks(block_of(first, high), hn::ShiftRight<2>(high), of.keys.data());
        for (int64_t i = 0; i < 4; ++i) apply(j + i, four.word[i]);
    }
    for (; j < keys; ++j) apply(j, draw(low, high, hn::Set(du, of.offset[j]), of));
}

// The draws of one query for all keys of a tile.
HWY_NOINLINE void draw_row(const Draws& of, int64_t query, int64_t keys, float* drawn) {
    const uint64_t start = (uint64_t{of.high[query]} << 32 | of.low[query]) + of.offset[0];
    const int64_t whole = in_blocks(of, keys), step = lanes();
    int64_t j = 0;
    for (; j < whole; j += 4 * step) {  // `drawn` has room for what lies beyond the keys
        const uint64_t block = (start + static_cast<uint64_t>(j)) >> 2;
        const Draws4 four =
            draws_of_blocks(hn::Iota(du, static_cast<uint32_t>(block)), hn::Set(du, static_cast<uint32_t>(block >> 32)), of.keys.data());
        hn::StoreInterleaved4(four.word[0], four.word[1], four.word[2], four.word[3], d, drawn + j);
    }
    for (j = whole / step * step; j < keys; j += step)
        hn::StoreU(draw(hn::Set(du, of.low[query]), hn::Set(du, of.high[query]), hn::LoadU(du, of.offset + j), of), d, drawn + j);
}

template <bool masked>
void softmax_columns(float* s, int64_t stride, int64_t keys, int64_t q, float factor, const Visible* visible, const Draws* draws_of,
                     float* most, float* total_of, float* rescale) {
    const V f = hn::Set(d, factor), none = hn::Neg(hn::Inf(d)), before = hn::LoadU(d, most + q), log2e = hn::Set(d, kLog2e);
    V a = before, b = none;
    if constexpr (masked) {
        const VI limit = ints(visible->limit + q), token = ints(visible->query_token + q), window = ints(visible->window);
        const V hidden = hn::CopySign(none, hn::Neg(f));  // minus infinity when multiplied
        for (int64_t j = 0; j < keys; ++j) {
            const auto mask = sees(ints(visible->place[j]), ints(visible->key_token[j]), limit, token, window);
            const V x = hn::IfThenElse(mask, hn::LoadU(d, s + j * stride + q), hidden);
            hn::StoreU(x, d, s + j * stride + q);
            a = hn::Max(a, hn::Mul(x, f));
        }
    } else {
        int64_t j = 0;
        for (; j + 2 <= keys; j += 2) {
            a = hn::Max(a, hn::Mul(hn::LoadU(d, s + j * stride + q), f));
            b = hn::Max(b, hn::Mul(hn::LoadU(d, s + (j + 1) * stride + q), f));
        }
        if (j < keys) a = hn::Max(a, hn::Mul(hn::LoadU(d, s + j * stride + q), f));
    }
    const V now = hn::Max(a, b), safe = hn::IfThenElse(hn::Eq(now, none), hn::Zero(d), now);
    const V change = exp2_below_127(hn::Mul(hn::Sub(before, safe), log2e));
    const V factor2 = hn::Mul(f, log2e), most2 = hn::Mul(safe, log2e);
    V sum_of = hn::Zero(d);
    for (int64_t j = 0; j < keys; ++j) {
        const V p = exp2_below_127(hn::MulSub(hn::LoadU(d, s + j * stride + q), factor2, most2));
        sum_of = hn::Add(sum_of, p);
        hn::StoreU(p, d, s + j * stride + q);
    }
    if (draws_of) drop_columns(s, stride, keys, q, *draws_of);
    hn::StoreU(now, d, most + q);
    hn::StoreU(hn::MulAdd(hn::LoadU(d, total_of + q), change, sum_of), d, total_of + q);
    hn::StoreU(change, d, rescale + q);
}

void softmax_tile_impl(float* s, int64_t stride, int64_t keys, int64_t queries, float factor, const Visible* visible, const Draws* draws_of,
                       float* most, float* total_of, float* rescale) {
    const auto columns = visible ? softmax_columns<true> : softmax_columns<false>;
    for (int64_t q = 0; q < queries; q += lanes()) columns(s, stride, keys, q, factor, visible, draws_of, most, total_of, rescale);
}

template <bool masked, bool dropped>
void grad_row(float* s, float* dp, int64_t keys, int64_t i, float factor, float lse, float delta, const Visible* visible,
              const Draws* draws_of) {
    const V f = hn::Set(d, factor), f2 = hn::Mul(f, hn::Set(d, kLog2e)), l = hn::Mul(hn::Set(d, lse), hn::Set(d, kLog2e)),
            e = hn::Set(d, delta);
    [[maybe_unused]] HWY_ALIGN float drawn[kMostKeys + 4 * HWY_LANES(float)];
    if constexpr (dropped) draw_row(*draws_of, i, keys, drawn);
    for (int64_t j = 0; j < keys; j += lanes()) {
        V p = exp2_below_127(hn::MulSub(hn::LoadU(d, s + j), f2, l)), g = hn::LoadU(d, dp + j);
        if constexpr (masked)
            p = hn::IfThenElseZero(sees(ints(visible->place + j), ints(visible->key_token + j), ints(visible->limit[i]),
                                        ints(visible->query_token[i]), ints(visible->window)),
                                   p);
        V kept = p;
        if constexpr (dropped) {
            const auto keep = hn::Ge(hn::LoadU(d, drawn + j), hn::Set(d, draws_of->p));
            const V up = hn::Set(d, draws_of->factor);
            kept = hn::IfThenElseZero(keep, hn::Mul(p, up));
            g = hn::IfThenElseZero(keep, hn::Mul(g, up));
        }
        hn::StoreU(kept, d, s + j);
        hn::StoreU(hn::Mul(hn::Mul(p, hn::Sub(g, e)), f), d, dp + j);
    }
}

void softmax_grad_tile_impl(float* s, float* dp, int64_t stride, int64_t queries, int64_t keys, float factor, const float* lse,
                            const float* delta, const Visible* visible, const Draws* draws_of) {
    const auto row = visible    ? draws_of ? grad_row<true, true> : grad_row<true, false>
                        : draws_of ? grad_row<false, true>
                                : grad_row<false, false>;
    const int64_t padded = (keys + kScorePad - 1) / kScorePad * kScorePad;
    for (int64_t i = 0; i < queries; ++i, s += stride, dp += stride) {
        row(s, dp, keys, i, factor, lse[i], delta[i], visible, draws_of);
        for (int64_t j = keys; j < padded; ++j) s[j] = dp[j] = 0;
    }
}

void scale_rows_impl(float* x, int64_t stride, int64_t rows, int64_t columns, const float* factors) {
    for (int64_t i = 0; i < rows; ++i, x += stride) {
        if (factors[i] == 1) continue;
        const V f = hn::Set(d, factors[i]);
        each(columns, [=](auto at) HWY_ATTR { at.store(hn::Mul(at.load(x), f), x); });
    }
}

void finish_softmax_impl(int64_t queries, float* most, float* total_of) {
    const V one = hn::Set(d, 1.0f), zero = hn::Zero(d);
    for (int64_t i = 0; i < queries; i += lanes()) {
        const V t = hn::LoadU(d, total_of + i);
        const auto none = hn::Eq(t, zero);  // a NaN goes on as one
        const V safe = hn::IfThenElse(none, one, t);
        hn::StoreU(hn::IfThenZeroElse(none, hn::Add(hn::LoadU(d, most + i), hn::Log(d, safe))), d, most + i);
        hn::StoreU(hn::IfThenZeroElse(none, hn::Div(one, safe)), d, total_of + i);
    }
}

HWY_INLINE V load_as_f32(const float* p) { return hn::LoadU(d, p); }
HWY_INLINE V load_as_f32(const BF16* p) { return load_bf16(d, p); }
HWY_INLINE float value_of(float x) { return x; }
HWY_INLINE float value_of(BF16 x) { return ds::to_f32(x); }

template <class T>
void dots_of(const T* a, int64_t a_stride, const T* b, int64_t b_stride, int64_t rows, int64_t size, float* out) {
    for (int64_t i = 0; i < rows; ++i, a += a_stride, b += b_stride) {
        V s = hn::Zero(d);
        int64_t c = 0;
        for (; c + lanes() <= size; c += lanes()) s = hn::MulAdd(load_as_f32(a + c), load_as_f32(b + c), s);
        float all = total(s);
        for (; c < size; ++c) all += value_of(a[c]) * value_of(b[c]);
        out[i] = all;
    }
}

void row_dots_impl(DType a_type, const void* a, int64_t a_stride, DType b_type, const void* b, int64_t b_stride, int64_t rows, int64_t size,
                   float* out) {
    if (a_type == DType::f32 && b_type == DType::f32)
        return dots_of(static_cast<const float*>(a), a_stride, static_cast<const float*>(b), b_stride, rows, size, out);
    if (a_type == DType::bf16 && b_type == DType::bf16)
        return dots_of(static_cast<const BF16*>(a), a_stride, static_cast<const BF16*>(b), b_stride, rows, size, out);
    for (int64_t i = 0; i < rows; ++i) {
        float left[kBlock], right[kBlock];
        out[i] = 0;
        for (int64_t c = 0; c < size; c += kBlock) {
            const int64_t n = size - c < kBlock ? size - c : kBlock;
            to_f32(static_cast<const std::byte*>(a) + (i * a_stride + c) * float_size(a_type), a_type, n, left);
            to_f32(static_cast<const std::byte*>(b) + (i * b_stride + c) * float_size(b_type), b_type, n, right);
            float part;
            dots_of(left, 0, right, 0, 1, n, &part);
            out[i] += part;
        }
    }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace ds::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ds::cpu {
namespace {
HWY_EXPORT(softmax_tile_impl);
HWY_EXPORT(softmax_grad_tile_impl);
HWY_EXPORT(scale_rows_impl);
HWY_EXPORT(finish_softmax_impl);
HWY_EXPORT(row_dots_impl);
}  // namespace

void softmax_tile(float* s, int64_t stride, int64_t keys, int64_t queries, float factor, const Visible* visible, const Draws* draws,
                  float* most, float* total, float* rescale) {
    HWY_DYNAMIC_DISPATCH(softmax_tile_impl)(s, stride, keys, queries, factor, visible, draws, most, total, rescale);
}
void softmax_grad_tile(float* s, float* dp, int64_t stride, int64_t queries, int64_t keys, float factor, const float* lse,
                       const float* delta, const Visible* visible, const Draws* draws) {
    HWY_DYNAMIC_DISPATCH(softmax_grad_tile_impl)(s, dp, stride, queries, keys, factor, lse, delta, visible, draws);
}
void scale_rows(float* x, int64_t stride, int64_t rows, int64_t columns, const float* factors) {
    HWY_DYNAMIC_DISPATCH(scale_rows_impl)(x, stride, rows, columns, factors);
}
void finish_softmax(int64_t queries, float* most, float* total) { HWY_DYNAMIC_DISPATCH(finish_softmax_impl)(queries, most, total); }
void row_dots(DType a_type, const void* a, int64_t a_stride, DType b_type, const void* b, int64_t b_stride, int64_t rows, int64_t size,
              float* out) {
    HWY_DYNAMIC_DISPATCH(row_dots_impl)(a_type, a, a_stride, b_type, b, b_stride, rows, size, out);
}

}  // namespace ds::cpu
#endif
