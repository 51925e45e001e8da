#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_scores.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/random-inl.h"
#include "kernels/cpu/vec-inl.h"

#include "kernels/cpu/attention_scores.h"

HWY_BEFORE_NAMESPACE();
namespace ds::cpu {
namespace HWY_NAMESPACE {
namespace {

HWY_INLINE VI ints(const int32_t* p) { return hn::LoadU(di, p); }
HWY_INLINE VI ints(int32_t x) { return hn::Set(di, x); }

HWY_INLINE auto sees(VI place, VI key_token, VI limit, VI query_token, VI window) {
    return hn::RebindMask(d, hn::And(hn::Lt(place, limit), hn::Lt(hn::Sub(query_token, key_token), window)));
}

HWY_INLINE auto keeps(VU low, VU high, VU offset, const Draws& draws_of) {
    const VU index = hn::Add(low, offset);
    const VU carry = hn::VecFromMask(du, hn::Lt(index, low));  // all ones: minus one
    return hn::Ge(draws(index, hn::Sub(high, carry), draws_of.keys), hn::Set(d, draws_of.p));
}

template <bool masked, bool dropped>
void softmax_columns(float* s, int64_t stride, int64_t keys, int64_t q, float factor, const Visible* visible, const Draws* draws_of, float* most, float* total_of,
                     float* rescale) {
    const V f = hn::Set(d, factor), none = hn::Neg(hn::Inf(d)), before = hn::LoadU(d, most + q);
    V a = before, b = none;
    if constexpr (masked) {
        const VI limit = ints(visible->limit + q), token = ints(visible->query_token + q), window = ints(visible->window);
        for (int64_t j = 0; j < keys; ++j) {
            const auto mask = sees(ints(visible->place[j]), ints(visible->key_token[j]), limit, token, window);
            const V x = hn::IfThenElse(mask, hn::Mul(hn::LoadU(d, s + j * stride + q), f), none);
            hn::StoreU(x, d, s + j * stride + q);
            a = hn::Max(a, x);
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
    const V change = exp_below_88(hn::Sub(before, safe));
    V sum_of = hn::Zero(d);
    [[maybe_unused]] VU low, high;
    if constexpr (dropped) {
        low = hn::LoadU(du, draws_of->low + q);
        high = hn::LoadU(du, draws_of->high + q);
    }
    for (int64_t j = 0; j < keys; ++j) {
        const V x = hn::LoadU(d, s + j * stride + q);
        V p = exp_below_88(masked ? hn::Sub(x, safe) : hn::Sub(hn::Mul(x, f), safe));
        sum_of = hn::Add(sum_of, p);
        if constexpr (dropped)
            p = hn::IfThenElseZero(keeps(low, high, hn::Set(du, draws_of->offset[j]), *draws_of), hn::Mul(p, hn::Set(d, draws_of->factor)));
        hn::StoreU(p, d, s + j * stride + q);
    }
    hn::StoreU(now, d, most + q);
    hn::StoreU(hn::MulAdd(hn::LoadU(d, total_of + q), change, sum_of), d, total_of + q);
    hn::StoreU(change, d, rescale + q);
}

void softmax_tile_impl(float* s, int64_t stride, int64_t keys, int64_t queries, float factor, const Visible* visible, const Draws* draws_of, float* most,
                       float* total_of, float* rescale) {
    const auto columns = visible ? draws_of ? softmax_columns<true, true> : softmax_columns<true, false>
                                 : draws_of ? softmax_columns<false, true> : softmax_columns<false, false>;
    for (int64_t q = 0; q < queries; q += lanes()) columns(s, stride, keys, q, factor, visible, draws_of, most, total_of, rescale);
}

template <bool masked, bool dropped>
void grad_row(float* s, float* dp, int64_t keys, int64_t i, float factor, float lse, float delta, const Visible* visible, const Draws* draws_of) {
    const V f = hn::Set(d, factor), l = hn::Set(d, lse), e = hn::Set(d, delta);
    for (int64_t j = 0; j < keys; j += lanes()) {
        V p = exp_below_88(hn::Sub(hn::Mul(hn::LoadU(d, s + j), f), l)), g = hn::LoadU(d, dp + j);
        if constexpr (masked)
            p = hn::IfThenElseZero(sees(ints(visible->place + j), ints(visible->key_token + j), ints(visible->limit[i]), ints(visible->query_token[i]),
                                        ints(visible->window)), p);
        V kept = p;
        if constexpr (dropped) {
            const auto keep = keeps(hn::Set(du, draws_of->low[i]), hn::Set(du, draws_of->high[i]), hn::LoadU(du, draws_of->offset + j), *draws_of);
            const V up = hn::Set(d, draws_of->factor);
            kept = hn::IfThenElseZero(keep, hn::Mul(p, up));
            g = hn::IfThenElseZero(keep, hn::Mul(g, up));
        }
        hn::StoreU(kept, d, s + j);
        hn::StoreU(hn::Mul(hn::Mul(p, hn::Sub(g, e)), f), d, dp + j);
    }
}

void softmax_grad_tile_impl(float* s, float* dp, int64_t stride, int64_t queries, int64_t keys, float factor, const float* lse, const float* delta,
                            const Visible* visible, const Draws* draws_of) {
    const auto row = visible ? draws_of ? grad_row<true, true> : grad_row<true, false> : draws_of ? grad_row<false, true> : grad_row<false, false>;
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

float dot_impl(const float* a, const float* b, int64_t n) {
    return sum_each(n, [=](auto at) HWY_ATTR { return hn::Mul(at.load(a), at.load(b)); });
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
HWY_EXPORT(dot_impl);
}  // namespace

void softmax_tile(float* s, int64_t stride, int64_t keys, int64_t queries, float factor, const Visible* visible, const Draws* draws, float* most, float* total,
                  float* rescale) {
    HWY_DYNAMIC_DISPATCH(softmax_tile_impl)(s, stride, keys, queries, factor, visible, draws, most, total, rescale);
}
void softmax_grad_tile(float* s, float* dp, int64_t stride, int64_t queries, int64_t keys, float factor, const float* lse, const float* delta,
                       const Visible* visible, const Draws* draws) {
    HWY_DYNAMIC_DISPATCH(softmax_grad_tile_impl)(s, dp, stride, queries, keys, factor, lse, delta, visible, draws);
}
void scale_rows(float* x, int64_t stride, int64_t rows, int64_t columns, const float* factors) {
    HWY_DYNAMIC_DISPATCH(scale_rows_impl)(x, stride, rows, columns, factors);
}
float dot(const float* a, const float* b, int64_t n) { return HWY_DYNAMIC_DISPATCH(dot_impl)(a, b, n); }

}  // namespace ds::cpu
#endif
