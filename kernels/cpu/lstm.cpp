// A layer of long short-term memory, and its gradient back through time. A work item is a group of neighbouring sequences, which go through
// time together: each step is one product of their states with the weight. The gradient of the weight is one product over all tokens at the
// end.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/lstm.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/vec-inl.h"

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/map.h"
#include "ops/attrs.h"

HWY_BEFORE_NAMESPACE();
namespace ds::cpu {
namespace HWY_NAMESPACE {
namespace {

// gates [4 h]: sums become gates. before: the cell before, or null.
void step_forward(float* gates, const float* before, float* cell, float* y, int64_t h) {
    each(h, [=](auto at) HWY_ATTR {
        const V i = logistic(at.load(gates)), f = logistic(at.load(gates + h)), g = tanh_any(at.load(gates + 2 * h)),
                o = logistic(at.load(gates + 3 * h));
        const V c = before ? hn::MulAdd(f, at.load(before), hn::Mul(i, g)) : hn::Mul(i, g);
        at.store(i, gates), at.store(f, gates + h), at.store(g, gates + 2 * h), at.store(o, gates + 3 * h);
        at.store(c, cell);
        at.store(hn::Mul(o, tanh_any(c)), y);
    });
}

// dh: the gradient of y and of what later steps made of it; dcell goes from step to step. da [4 h]: of the gates' sums.
void step_backward(const float* gates, const float* before, const float* cell, const float* dh, float* dcell, float* da, int64_t h) {
    const V one = hn::Set(d, 1.0f);
    each(h, [=](auto at) HWY_ATTR {
        const V i = at.load(gates), f = at.load(gates + h), g = at.load(gates + 2 * h), o = at.load(gates + 3 * h),
                t = tanh_any(at.load(cell)), dy = at.load(dh);
        const V dc = hn::MulAdd(hn::Mul(dy, o), hn::NegMulAdd(t, t, one), at.load(dcell));
        at.store(hn::Mul(hn::Mul(dc, g), hn::Mul(i, hn::Sub(one, i))), da);
        at.store(before ? hn::Mul(hn::Mul(dc, at.load(before)), hn::Mul(f, hn::Sub(one, f))) : hn::Zero(d), da + h);
        at.store(hn::Mul(hn::Mul(dc, i), hn::NegMulAdd(g, g, one)), da + 2 * h);
        at.store(hn::Mul(hn::Mul(dy, t), hn::Mul(o, hn::Sub(one, o))), da + 3 * h);
        at.store(hn::Mul(dc, f), dcell);
    });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace ds::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <algorithm>
#include <cstring>

namespace ds::cpu {
namespace {
HWY_EXPORT(step_forward);
HWY_EXPORT(step_backward);

constexpr int64_t kGroup = 32;  // sequences of an item

struct State {
    int64_t h = 0, rows = 0, length = 0, sequences = 0;
    Gemm step;            // [kGroup, h] by the weight, or [kGroup, 4 h] by its transpose
    Gemm weights;         // of the gradient
    int64_t own = 0;      // bytes of scratch of a thread
    int64_t product = 0;  // of which the products take the last so many
    const Tensor* segments(const Call& call, int index) const { return call.in[index].present ? &call.in[index] : nullptr; }
};

// The sequences of an item, longest first.
struct Group {
    struct One {
        int64_t first, length;
    } of[kGroup];
    int64_t count = 0;

    Group(const State& s, const Tensor* segments, int64_t item) {
        for (int64_t i = item * kGroup; i < std::min(s.sequences, (item + 1) * kGroup); ++i) {
            const int64_t first = segments ? std::clamp<int64_t>(segments->as<int32_t>()[i], 0, s.rows) : i * s.length;
            const int64_t end = segments ? std::clamp<int64_t>(segments->as<int32_t>()[i + 1], first, s.rows) : first + s.length;
            of[count++] = {first, end - first};
        }
        std::stable_sort(of, of + count, [](const One& a, const One& b) { return a.length > b.length; });
    }
    int64_t longest() const { return count ? of[0].length : 0; }
    int64_t alive(int64_t time) const {
        int64_t n = 0;
        while (n < count && of[n].length > time) ++n;
        return n;
    }
    int64_t row(int64_t i, int64_t time, bool reverse) const {
        return reverse ? of[i].first + of[i].length - 1 - time : of[i].first + time;
    }
};

State state_of(const Tensor& gates, const Tensor& weight, const Tensor& segments, bool back, int threads) {
    State s;
    s.h = weight.columns(), s.rows = gates.rows(), s.length = gates.rank == 3 ? gates.dims[1] : 1;
    s.sequences = segments.present ? segments.count() - 1 : s.rows / std::max<int64_t>(s.length, 1);
    const int64_t from = back ? 4 * s.h : s.h, to = back ? s.h : 4 * s.h;
    s.step = Gemm({.m = kGroup,
                   .n = to,
                   .k = from,
                   .transpose_b = !back,
                   .b_type = weight.dtype,
                   .lda = from,
                   .ldb = weight.row_stride,
                   .ldc = to,
                   .ld_into = to});
    s.weights = Gemm({.m = 4 * s.h, .n = s.h, .k = s.rows, .transpose_a = true, .lda = 4 * s.h, .ldb = s.h, .ldc = s.h});
    s.product = padded(std::max(s.step.scratch_bytes(1), back ? s.weights.scratch_bytes(threads) : 0) / 4 + 16) * 4;
    s.own = padded(kGroup * (from + to + 2 * s.h)) * 4 + s.product;
    return s;
}

void forward(const Call& call, Team team) {
    const State& s = *static_cast<const State*>(call.state);
    const Tensor &x = call.in[0], &y = call.out[0];
    const int64_t h = s.h;
    const bool reverse = call.attr<Lstm>().reverse;
    auto* own = reinterpret_cast<float*>(call.scratch + team.rank * s.own);
    float *states = own, *sums = own + kGroup * h, *cells = call.out[1].as<float>(), *gates = call.out[2].as<float>(),
          *row_of_y = sums + kGroup * 4 * h;
    std::byte* product = reinterpret_cast<std::byte*>(own) + s.own - s.product;
    for (int64_t item = call.ticket->fetch_add(1); item < (s.sequences + kGroup - 1) / kGroup; item = call.ticket->fetch_add(1)) {
        const Group g(s, s.segments(call, 2), item);
        for (int64_t time = 0; time < g.longest(); ++time) {
            const int64_t alive = g.alive(time);
            for (int64_t i = 0; i < alive; ++i) to_f32(address(x, g.row(i, time, reverse)), x.dtype, 4 * h, sums + i * 4 * h);
            if (time > 0) s.step.region({states, call.in[1].data, sums, nullptr, sums}, 0, alive, 0, 4 * h, product);
            for (int64_t i = 0; i < alive; ++i) {
                const int64_t row = g.row(i, time, reverse);
                HWY_DYNAMIC_DISPATCH(step_forward)
                (sums + i * 4 * h, time ? cells + g.row(i, time - 1, reverse) * h : nullptr, cells + row * h, states + i * h, h);
                std::memcpy(gates + row * 4 * h, sums + i * 4 * h, static_cast<size_t>(4 * h) * 4);
                const float* given = states + i * h;
                if (y.dtype != DType::f32) {  // what comes out is rounded, and so is what the next step sees
                    from_f32(given, h, y.dtype, address(y, row));
                    to_f32(address(y, row), y.dtype, h, row_of_y);
                    std::memcpy(states + i * h, row_of_y, static_cast<size_t>(h) * 4);
                } else {
                    std::memcpy(address(y, row), given, static_cast<size_t>(h) * 4);
                }
            }
        }
    }
}

// Rows that belong to no sequence.
void clear_rest(const Call& call, Team team) {
    const State& s = *static_cast<const State*>(call.state);
    if (!call.in[2].present) return;
    const int64_t covered = std::clamp<int64_t>(call.in[2].as<int32_t>()[s.sequences], 0, s.rows);
    const auto [begin, end] = team.part(s.rows - covered);
    for (int i = 0; i < 3; ++i)
        for (int64_t row = covered + begin; row < covered + end; ++row)
            std::memset(address(call.out[i], row), 0, static_cast<size_t>(call.out[i].columns() * float_size(call.out[i].dtype)));
}

// Behind the threads' own scratch: the gradients of the gates' sums, and the states before, of all tokens.
float* sums_of_all(const Call& call, const State& s, Team team) { return reinterpret_cast<float*>(call.scratch + team.size * s.own); }
float* states_before(const Call& call, const State& s, Team team) { return sums_of_all(call, s, team) + s.rows * 4 * s.h; }

void clear_all(const Call& call, Team team) {
    const State& s = *static_cast<const State*>(call.state);
    const auto [begin, end] = team.part(s.rows * 5 * s.h);
    std::fill(sums_of_all(call, s, team) + begin, sums_of_all(call, s, team) + end, 0.0f);
}

void backward(const Call& call, Team team) {
    const State& s = *static_cast<const State*>(call.state);
    const Tensor &dy = call.in[0], &y = call.in[1], &dx = call.out[0];
    const int64_t h = s.h;
    const bool reverse = call.attr<Lstm>().reverse;
    auto* own = reinterpret_cast<float*>(call.scratch + team.rank * s.own);
    float *da = own, *dh = own + kGroup * 4 * h, *dcell = dh + kGroup * h, *given = dcell + kGroup * h;
    const float *cells = call.in[2].as<float>(), *gates = call.in[3].as<float>();
    float *all = sums_of_all(call, s, team), *before_all = states_before(call, s, team);
    std::byte* product = reinterpret_cast<std::byte*>(own) + s.own - s.product;
    for (int64_t item = call.ticket->fetch_add(1); item < (s.sequences + kGroup - 1) / kGroup; item = call.ticket->fetch_add(1)) {
        const Group g(s, s.segments(call, 5), item);
        std::fill_n(dh, 2 * kGroup * h, 0.0f);
        for (int64_t time = g.longest() - 1; time >= 0; --time) {
            const int64_t alive = g.alive(time);
            for (int64_t i = 0; i < alive; ++i) {
                const int64_t row = g.row(i, time, reverse), before = time ? g.row(i, time - 1, reverse) : -1;
                to_f32(address(dy, row), dy.dtype, h, given);
                for (int64_t j = 0; j < h; ++j) dh[i * h + j] += given[j];
                HWY_DYNAMIC_DISPATCH(step_backward)
                (gates + row * 4 * h, time ? cells + before * h : nullptr, cells + row * h, dh + i * h, dcell + i * h, da + i * 4 * h, h);
                std::memcpy(all + row * 4 * h, da + i * 4 * h, static_cast<size_t>(4 * h) * 4);
                from_f32(da + i * 4 * h, 4 * h, dx.dtype, address(dx, row));
                if (time) to_f32(address(y, before), y.dtype, h, before_all + row * h);
            }
            if (time) s.step.region({da, call.in[4].data, dh, nullptr, nullptr}, 0, alive, 0, h, product);
        }
    }
    if (!call.in[5].present) return;
    const int64_t covered = std::clamp<int64_t>(call.in[5].as<int32_t>()[s.sequences], 0, s.rows);
    const auto [begin, end] = team.part(s.rows - covered);
    for (int64_t row = covered + begin; row < covered + end; ++row)
        std::memset(address(dx, row), 0, static_cast<size_t>(4 * h * float_size(dx.dtype)));
}

void weight_gradient(const Call& call, Team team) {
    const State& s = *static_cast<const State*>(call.state);
    s.weights.run({sums_of_all(call, s, team), states_before(call, s, team), call.out[1].data, nullptr, nullptr}, team,
                  call.scratch + team.rank * s.own + s.own - s.product);
}

const char* declines(const Request& request) {
    for (const Tensor& t : request.in)
        if (t.present && t.dtype != DType::i32 && !is_simd_float(t.dtype)) return "an input is not f32, bf16 or f16";
    for (const Tensor& t : request.out)
        if (!is_simd_float(t.dtype)) return "an output is not f32, bf16 or f16";
    return nullptr;
}
const char* declines_forward(const Request& request) {
    if (!request.out[1].dense() || !request.out[2].dense()) return "cells or gates lie apart";
    return declines(request);
}
const char* declines_backward(const Request& request) {
    if (!request.in[2].dense() || !request.in[3].dense() || !request.out[1].dense() || request.out[1].dtype != DType::f32)
        return "cells, gates or the weight's gradient lie apart";
    return declines(request);
}

Result<Prepared> prepare_forward(const Request& request) {
    level();
    auto state = std::make_shared<State>(state_of(request.in[0], request.in[1], request.in[2], false, request.threads));
    const int64_t scratch = state->own * request.threads;
    return Prepared{{forward, clear_rest}, std::move(state), scratch};
}

Result<Prepared> prepare_backward(const Request& request) {
    level();
    auto state = std::make_shared<State>(state_of(request.in[3], request.in[4], request.in[5], true, request.threads));
    const int64_t scratch = state->own * request.threads + state->rows * 5 * state->h * 4;
    return Prepared{{clear_all, backward, weight_gradient}, std::move(state), scratch};
}

constexpr KernelImpl kLstm[] = {{"groups", declines_forward, prepare_forward}},
                     kLstmGrad[] = {{"groups", declines_backward, prepare_backward}};

}  // namespace

const KernelList lstm{kLstm}, lstm_grad{kLstmGrad};

}  // namespace ds::cpu
#endif
