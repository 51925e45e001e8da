#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/optim.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/vec-inl.h"

#include "kernels/cpu/map.h"
#include "kernels/cpu/optim.h"

HWY_BEFORE_NAMESPACE();
namespace ds::cpu {
namespace HWY_NAMESPACE {
namespace {

using hn::Add, hn::Mul, hn::MulAdd, hn::NegMulAdd, hn::Sub, hn::Div, hn::Sqrt;

// Scale first, then clip; a NaN stays a NaN.
struct Gradient {
    V scale, clip;
    Gradient(float s, float c) : scale(hn::Set(d, s)), clip(hn::Set(d, c)) {}
    HWY_INLINE V operator()(V g) const {
        const V x = Mul(g, scale);
        return hn::IfThenElse(hn::Gt(hn::Abs(x), clip), hn::CopySign(clip, x), x);
    }
};
// A weight of 1 gives b, however small it is beside a.
HWY_INLINE V lerp_of(V a, V b, V weight) { return MulAdd(weight, b, NegMulAdd(weight, a, a)); }

// constants: 2 beta1, 3 1-beta1, 4 beta2, 5 1-beta2, 6 1/sqrt(bias correction 2), 7 eps, 8 lr / bias correction 1, 9 what decay leaves, 10
// L2 decay
void adam(const float* k, float* w, const float* g, float* const* s, int64_t n) {
    const Gradient gradient(k[0], k[1]);
    const V beta1 = hn::Set(d, k[2]), rest1 = hn::Set(d, k[3]), beta2 = hn::Set(d, k[4]), rest2 = hn::Set(d, k[5]);
    const V root = hn::Set(d, k[6]), eps = hn::Set(d, k[7]), step = hn::Set(d, k[8]), keep = hn::Set(d, k[9]), l2 = hn::Set(d, k[10]);
    float *first = s[0], *second = s[1];
    each(n, [=](auto at) HWY_ATTR {
        const V p = at.load(w), x = MulAdd(l2, p, gradient(at.load(g)));
        const V m = MulAdd(beta1, at.load(first), Mul(rest1, x));
        const V v = MulAdd(beta2, at.load(second), Mul(rest2, Mul(x, x)));
        at.store(m, first);
        at.store(v, second);
        at.store(NegMulAdd(step, Div(m, MulAdd(Sqrt(v), root, eps)), Mul(p, keep)), w);
    });
}

// constants: 2 lr, 3 momentum, 4 1-dampening, 5 weight decay, 6 nesterov (1 or 0)
void sgd(const float* k, float* w, const float* g, float* const* s, int64_t n) {
    const Gradient gradient(k[0], k[1]);
    const V lr = hn::Set(d, k[2]), momentum = hn::Set(d, k[3]), rest = hn::Set(d, k[4]), l2 = hn::Set(d, k[5]);
    const bool nesterov = k[6] != 0;
    float* buffer = s[0];
    each(n, [=](auto at) HWY_ATTR {
        const V p = at.load(w), x = MulAdd(l2, p, gradient(at.load(g)));
        V move = x;
        if (buffer) {
            const V b = MulAdd(momentum, at.load(buffer), Mul(rest, x));
            at.store(b, buffer);
            move = nesterov ? MulAdd(momentum, b, x) : b;
        }
        at.store(NegMulAdd(lr, move, p), w);
    });
}

// constants: 2 lr after decay, 3 eps, 4 weight decay
void adagrad(const float* k, float* w, const float* g, float* const* s, int64_t n) {
    const Gradient gradient(k[0], k[1]);
    const V lr = hn::Set(d, k[2]), eps = hn::Set(d, k[3]), l2 = hn::Set(d, k[4]);
    float* sum = s[0];
    each(n, [=](auto at) HWY_ATTR {
        const V p = at.load(w), x = MulAdd(l2, p, gradient(at.load(g))), total = MulAdd(x, x, at.load(sum));
        at.store(total, sum);
        at.store(NegMulAdd(lr, Div(x, Add(Sqrt(total), eps)), p), w);
    });
}

// constants: 2 lr, 3 alpha, 4 1-alpha, 5 eps, 6 weight decay, 7 momentum
void rmsprop(const float* k, float* w, const float* g, float* const* s, int64_t n) {
    const Gradient gradient(k[0], k[1]);
    const V lr = hn::Set(d, k[2]), alpha = hn::Set(d, k[3]), rest = hn::Set(d, k[4]), eps = hn::Set(d, k[5]), l2 = hn::Set(d, k[6]),
            momentum = hn::Set(d, k[7]);
    float *square = s[0], *buffer = s[1], *mean = s[2];
    each(n, [=](auto at) HWY_ATTR {
        const V p = at.load(w), x = MulAdd(l2, p, gradient(at.load(g)));
        V v = MulAdd(alpha, at.load(square), Mul(rest, Mul(x, x)));
        at.store(v, square);
        if (mean) {
            const V a = lerp_of(at.load(mean), x, rest);
            at.store(a, mean);
            v = at_least(hn::Zero(d), NegMulAdd(a, a, v));
        }
        V move = Div(x, Add(Sqrt(v), eps));
        if (buffer) {
            move = MulAdd(momentum, at.load(buffer), move);
            at.store(move, buffer);
        }
        at.store(NegMulAdd(lr, move, p), w);
    });
}

// constants: 2 beta1, 3 1-beta1, 4 beta2, 5 1-beta2, 6 lr, 7 what decay leaves
void lion(const float* k, float* w, const float* g, float* const* s, int64_t n) {
    const Gradient gradient(k[0], k[1]);
    const V beta1 = hn::Set(d, k[2]), rest1 = hn::Set(d, k[3]), beta2 = hn::Set(d, k[4]), rest2 = hn::Set(d, k[5]), lr = hn::Set(d, k[6]),
            keep = hn::Set(d, k[7]);
    float* first = s[0];
    each(n, [=](auto at) HWY_ATTR {
        const V x = gradient(at.load(g)), m = at.load(first), c = MulAdd(beta1, m, Mul(rest1, x));
        const V sign = hn::IfThenZeroElse(hn::Eq(c, hn::Zero(d)), hn::CopySign(lr, c));  // no move where nothing was ever learnt
        at.store(Sub(Mul(at.load(w), keep), hn::IfThenElse(hn::IsNaN(c), c, sign)), w);
        at.store(MulAdd(beta2, m, Mul(rest2, x)), first);
    });
}

HWY_INLINE V lamb_update(const LambConstants& c, V w, V m, V v) {
    const V eps = hn::Set(d, c.eps);
    const V bottom = c.eps_inside ? Sqrt(Add(v, eps)) : Add(Sqrt(v), eps);
    return MulAdd(hn::Set(d, c.decay), w, Div(m, bottom));
}

void lamb_moments_f32(const LambConstants& c, const float* w, const float* g, float* m, float* v, int64_t n, double* w_squares,
                      double* u_squares) {
    const Gradient gradient(c.scale, c.clip);
    const V beta1 = hn::Set(d, c.beta1), rest1 = hn::Set(d, c.rest1), beta2 = hn::Set(d, c.beta2), rest2 = hn::Set(d, c.rest2);
    V ww = hn::Zero(d), uu = ww;
    each(n, [&](auto at) HWY_ATTR {
        const V x = gradient(at.load(g)), p = at.load(w);
        const V a = MulAdd(beta1, at.load(m), Mul(rest1, x)), b = MulAdd(beta2, at.load(v), Mul(rest2, Mul(x, x)));
        at.store(a, m);
        at.store(b, v);
        const V u = at.fill(lamb_update(c, p, a, b), hn::Zero(d));
        ww = MulAdd(p, p, ww);
        uu = MulAdd(u, u, uu);
    });
    *w_squares += total(ww);
    *u_squares += total(uu);
}

void lamb_apply_f32(const LambConstants& c, float step, float* w, const float* m, const float* v, int64_t n) {
    const V s = hn::Set(d, step);
    each(n, [&](auto at) HWY_ATTR {
        const V p = at.load(w);
        at.store(NegMulAdd(s, lamb_update(c, p, at.load(m), at.load(v)), p), w);
    });
}

float factor_row_f32(float scale, float clip, const float* g, float* columns, int64_t n) {
    const Gradient gradient(scale, clip);
    return sum_each(n, [&](auto at) HWY_ATTR {
        const V x = gradient(at.load(g)), xx = Mul(x, x);
        at.store(Add(at.load(columns), xx), columns);
        return xx;
    });
}

void lerp_f32(float* x, const float* y, float factor, float weight, int64_t n) {
    const V f = hn::Set(d, factor), w = hn::Set(d, weight);
    each(n, [=](auto at) HWY_ATTR { at.store(lerp_of(at.load(x), Mul(at.load(y), f), w), x); });
}

double factored_row_f32(float scale, float clip, const float* g, const float* variance, float row_factor, float least, float* w, float keep,
                        float step, int64_t n) {
    const Gradient gradient(scale, clip);
    const V f = hn::Set(d, row_factor), low = hn::Set(d, least), kept = hn::Set(d, keep), s = hn::Set(d, step);
    V squares = hn::Zero(d);
    each(n, [&](auto at) HWY_ATTR {
        const V u = Div(gradient(at.load(g)), Sqrt(at_least(low, Mul(at.load(variance), f))));
        squares = MulAdd(u, u, squares);
        if (w) at.store(NegMulAdd(s, u, Mul(at.load(w), kept)), w);
    });
    return total(squares);
}

void muon_momentum_f32(float scale, float clip, float momentum, bool nesterov, const float* g, float* m, float* u, int64_t n) {
    const Gradient gradient(scale, clip);
    const V mu = hn::Set(d, momentum), rest = hn::Set(d, 1 - momentum);
    each(n, [&](auto at) HWY_ATTR {
        const V x = gradient(at.load(g)), a = lerp_of(at.load(m), x, rest), b = nesterov ? lerp_of(x, a, mu) : a;
        at.store(a, m);
        at.store(b, u);
    });
}

void axpby_f32(float a, const float* x, float b, float* y, int64_t n) {
    const V p = hn::Set(d, a), q = hn::Set(d, b);
    each(n, [=](auto at) HWY_ATTR { at.store(MulAdd(p, at.load(x), Mul(q, at.load(y))), y); });
}

// In f64, which no square of an f32 leaves.
double squares_f32(const float* x, int64_t n) {
    const hn::Rebind<float, hn::ScalableTag<double>> half;
    const hn::ScalableTag<double> dd;
    const int64_t step = static_cast<int64_t>(hn::Lanes(dd));
    auto s0 = hn::Zero(dd), s1 = s0, s2 = s0, s3 = s0;
    int64_t i = 0;
    for (; i + 4 * step <= n; i += 4 * step) {
        const auto a = hn::PromoteTo(dd, hn::LoadU(half, x + i)), b = hn::PromoteTo(dd, hn::LoadU(half, x + i + step));
        const auto c = hn::PromoteTo(dd, hn::LoadU(half, x + i + 2 * step)), e = hn::PromoteTo(dd, hn::LoadU(half, x + i + 3 * step));
        s0 = MulAdd(a, a, s0);
        s1 = MulAdd(b, b, s1);
        s2 = MulAdd(c, c, s2);
        s3 = MulAdd(e, e, s3);
    }
    double sum = hn::GetLane(hn::SumOfLanes(dd, Add(Add(s0, s1), Add(s2, s3))));
    for (; i < n; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    return sum;
}

void scale_f32(float* x, int64_t n, float factor) {
    const V f = hn::Set(d, factor);
    each(n, [=](auto at) HWY_ATTR { at.store(Mul(at.load(x), f), x); });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace ds::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ds::cpu {
namespace {
HWY_EXPORT(adam);
HWY_EXPORT(sgd);
HWY_EXPORT(adagrad);
HWY_EXPORT(rmsprop);
HWY_EXPORT(lion);
HWY_EXPORT(lamb_moments_f32);
HWY_EXPORT(lamb_apply_f32);
HWY_EXPORT(factor_row_f32);
HWY_EXPORT(lerp_f32);
HWY_EXPORT(factored_row_f32);
HWY_EXPORT(muon_momentum_f32);
HWY_EXPORT(axpby_f32);
HWY_EXPORT(squares_f32);
HWY_EXPORT(scale_f32);
}  // namespace

Rule adam_rule() { return level(), HWY_DYNAMIC_DISPATCH(adam); }
Rule sgd_rule() { return level(), HWY_DYNAMIC_DISPATCH(sgd); }
Rule adagrad_rule() { return level(), HWY_DYNAMIC_DISPATCH(adagrad); }
Rule rmsprop_rule() { return level(), HWY_DYNAMIC_DISPATCH(rmsprop); }
Rule lion_rule() { return level(), HWY_DYNAMIC_DISPATCH(lion); }

void sweep(Rule rule, const float* constants, float* weight, const float* gradient, float* const* state, int states, int64_t begin,
           int64_t end, void* low, DType type, const Rounding* rounding) {
    for (int64_t i = begin; i < end; i += kBlock) {
        const int64_t n = std::min(kBlock, end - i);
        float* own[kMaxStates] = {};
        for (int s = 0; s < states; ++s) own[s] = state[s] ? state[s] + i : nullptr;
        rule(constants, weight + i, gradient + i, own, n);
        if (low) write_low(weight + i, i, n, low, type, rounding);
    }
}

void write_low(const float* x, int64_t begin, int64_t n, void* low, DType type, const Rounding* rounding) {
    std::byte* to = static_cast<std::byte*>(low) + begin * size_of(type);
    if (rounding && type == DType::bf16)
        return bf16_by_chance(x, n, {rounding->seed, rounding->step, rounding->salt, rounding->first + begin}, to);
    from_f32(x, n, type, to);
}

double sum_of_squares(const float* x, int64_t n) { return level(), HWY_DYNAMIC_DISPATCH(squares_f32)(x, n); }

void squares(const float* x, int64_t n, double* partial, Team team) {
    const auto [begin, end] = team.part(squares_blocks(n));
    for (int64_t block = begin; block < end; ++block)
        partial[block] = sum_of_squares(x + block * kSquaresBlock, std::min(kSquaresBlock, n - block * kSquaresBlock));
}

void scale_in_place(float* x, int64_t n, float factor, Team team) {
    const auto [begin, end] = team.part(n, kBlock);
    if (begin < end) HWY_DYNAMIC_DISPATCH(scale_f32)(x + begin, end - begin, factor);
}

void lamb_moments(const LambConstants& c, const float* w, const float* g, float* m, float* v, int64_t n, double* w_squares,
                  double* u_squares) {
    HWY_DYNAMIC_DISPATCH(lamb_moments_f32)(c, w, g, m, v, n, w_squares, u_squares);
}
void lamb_apply(const LambConstants& c, float step, float* w, const float* m, const float* v, int64_t n) {
    HWY_DYNAMIC_DISPATCH(lamb_apply_f32)(c, step, w, m, v, n);
}
float factor_row(float factor, float clip, const float* g, float* columns, int64_t n) {
    return HWY_DYNAMIC_DISPATCH(factor_row_f32)(factor, clip, g, columns, n);
}
void lerp(float* x, const float* y, float factor, float weight, int64_t n) { HWY_DYNAMIC_DISPATCH(lerp_f32)(x, y, factor, weight, n); }
double factored_row(float factor, float clip, const float* g, const float* variance, float row_factor, float least, float* w, float keep,
                    float step, int64_t n) {
    return HWY_DYNAMIC_DISPATCH(factored_row_f32)(factor, clip, g, variance, row_factor, least, w, keep, step, n);
}
void muon_momentum(float factor, float clip, float momentum, bool nesterov, const float* g, float* m, float* u, int64_t n) {
    HWY_DYNAMIC_DISPATCH(muon_momentum_f32)(factor, clip, momentum, nesterov, g, m, u, n);
}
void axpby(float a, const float* x, float b, float* y, int64_t n) { HWY_DYNAMIC_DISPATCH(axpby_f32)(a, x, b, y, n); }

}  // namespace ds::cpu
#endif
