// Rotary position embedding (Su et al. 2021, arXiv 2104.09864): pair j of a head at position p turns by p * inv_freq[j].
// Without given angles, inv_freq[j] = theta^(-2 j / head_dim) and positions count along dimension 1 of x (rank 3 and 4) or its rows (rank
// 2).
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rope.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/vec-inl.h"

#include "kernels/cpu/map.h"
#include "ops/attrs.h"

HWY_BEFORE_NAMESPACE();
namespace ds::cpu {
namespace HWY_NAMESPACE {
namespace {

// sign: -1 turns back.
void rotate(const float* x, const float* cosines, const float* sines, int64_t heads, int64_t head_dim, int64_t pairs, bool interleaved,
            float sign, float* y) {
    const V turn = hn::Set(d, sign);
    const int64_t step = lanes();
    for (int64_t head = 0; head < heads; ++head, x += head_dim, y += head_dim) {
        int64_t done = 0;
        if (!interleaved) {
            each(pairs, [=](auto at) HWY_ATTR {
                const V c = at.load(cosines), s = hn::Mul(at.load(sines), turn), a = at.load(x), b = at.load(x + pairs);
                at.store(hn::NegMulAdd(b, s, hn::Mul(a, c)), y);
                at.store(hn::MulAdd(a, s, hn::Mul(b, c)), y + pairs);
            });
        } else {
            for (; done + step <= pairs; done += step) {
                V a, b;
                hn::LoadInterleaved2(d, x + 2 * done, a, b);
                const V c = hn::LoadU(d, cosines + done), s = hn::Mul(hn::LoadU(d, sines + done), turn);
                hn::StoreInterleaved2(hn::NegMulAdd(b, s, hn::Mul(a, c)), hn::MulAdd(a, s, hn::Mul(b, c)), d, y + 2 * done);
            }
            for (; done < pairs; ++done) {
                const float a = x[2 * done], b = x[2 * done + 1], s = sines[done] * sign;
                y[2 * done] = a * cosines[done] - b * s;
                y[2 * done + 1] = b * cosines[done] + a * s;
            }
        }
        for (int64_t i = 2 * pairs; i < head_dim; ++i) y[i] = x[i];
    }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace ds::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <cmath>

namespace ds::cpu {
namespace {
HWY_EXPORT(rotate);

// What prepare finds out; `own` holds the angles of every position where none are given.
struct Plan {
    int64_t heads = 1, head_dim = 0, pairs = 0;
    bool interleaved = false;
    float sign = 1;
    int64_t rows_per_position = 1, length = 1;  // position of a row = row / rows_per_position % length
    std::vector<float> own;
};

void angles_row(double position, const std::vector<double>& inv_freq, double scale, float* to) {
    const size_t pairs = inv_freq.size();
    for (size_t j = 0; j < pairs; ++j) {
        const double angle = position * inv_freq[j];
        to[j] = static_cast<float>(std::cos(angle) * scale);
        to[pairs + j] = static_cast<float>(std::sin(angle) * scale);
    }
}

void angles_phase(const Call& call, Team team) {
    const RopeAngles& a = call.attr<RopeAngles>();
    const Tensor &positions = call.in[0], &y = call.out[0];
    const auto [begin, end] = team.part(y.rows());
    for (int64_t row = begin; row < end; ++row)
        angles_row(positions.as<int32_t>()[row], a.inv_freq, a.scale, y.as<float>() + row * y.row_stride);
}

void rope_phase(const Call& call, Team team) {
    const Plan& plan = *static_cast<const Plan*>(call.state);
    const Tensor &x = call.in[0], &angles = call.in[1], &y = call.out[0];
    const int64_t n = y.columns(), pairs = plan.pairs;
    const auto row_function = HWY_DYNAMIC_DISPATCH(rotate);
    const auto [begin, end] = team.part(y.rows());
    for (int64_t row = begin; row < end; ++row) {
        const int64_t token = row / plan.rows_per_position;
        const float* turn =
            angles.present ? angles.as<float>() + token * angles.row_stride : plan.own.data() + token % plan.length * 2 * pairs;
        const Out out(y, row, 0, own_array(call, team, 2, n, 1));
        row_function(read(x, row, 0, n, own_array(call, team, 2, n, 0)), turn, turn + pairs, plan.heads, plan.head_dim, pairs,
                     plan.interleaved, plan.sign, out.data());
        out.done(n);
    }
}

Result<Prepared> prepare(const Request& request) {
    level();
    const Rope& a = request.attr<Rope>();
    const Tensor &x = request.in[0], &angles = request.in[1];
    auto plan = std::make_shared<Plan>();
    const int64_t n = x.columns(), head_dim = a.head_dim ? a.head_dim : n;
    DS_REQUIRE(head_dim > 0 && n % head_dim == 0, "rope: the last dimension {} is not a multiple of head_dim {}", n, head_dim);
    const int64_t pairs = angles.present ? angles.columns() / 2 : head_dim / 2;
    DS_REQUIRE(2 * pairs <= head_dim, "rope: angles of {} pairs do not fit a head of {}", pairs, head_dim);
    plan->heads = n / head_dim;
    plan->head_dim = head_dim;
    plan->pairs = pairs;
    plan->interleaved = a.interleaved;
    plan->sign = a.inverse ? -1.0f : 1.0f;
    plan->rows_per_position = x.rank == 4 ? x.dims[2] : 1;
    plan->length = std::max<int64_t>(1, x.rank >= 3 ? x.dims[1] : x.rows());
    if (!angles.present) {
        std::vector<double> inv_freq;
        for (int64_t j = 0; j < pairs; ++j)
            inv_freq.push_back(std::pow(a.theta, -2.0 * static_cast<double>(j) / static_cast<double>(head_dim)));
        plan->own.resize(static_cast<size_t>(plan->length * 2 * pairs));
        for (int64_t p = 0; p < plan->length; ++p) angles_row(static_cast<double>(p), inv_freq, 1, plan->own.data() + p * 2 * pairs);
    }
    return Prepared{{rope_phase}, std::move(plan), request.threads * 2 * padded(n) * 4};
}

constexpr KernelImpl kRopeAngles[] = {{"f64", accepts_all, simd<angles_phase>}};
constexpr KernelImpl kRope[] = {{"simd", floats_only, prepare}};

}  // namespace

const KernelList rope_angles{kRopeAngles}, rope{kRope};

}  // namespace ds::cpu
#endif
