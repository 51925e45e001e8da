// Rotary position embedding (Su et al. 2021, arXiv 2104.09864): pair j of a head at position p turns by p * inv_freq[j].
// Without given angles, inv_freq[j] = theta^(-2 j / head_dim) and positions count along dimension 1 of x (rank 3 and 4) or its rows (rank
// 2).
#include "kernels/ref/ref.h"
#include "ops/attrs.h"

namespace ds::ref {
namespace {

void make_angles(const Call& c) {
    const RopeAngles& a = c.attr<RopeAngles>();
    const int64_t pairs = static_cast<int64_t>(a.inv_freq.size());
    for (int64_t i = 0; i < c.in[0].count(); ++i)
        for (int64_t j = 0; j < pairs; ++j) {
            const double angle = get(c.in[0], i) * a.inv_freq[static_cast<size_t>(j)];
            set(c.out[0], i * 2 * pairs + j, std::cos(angle) * a.scale);
            set(c.out[0], i * 2 * pairs + pairs + j, std::sin(angle) * a.scale);
        }
}

void turn(const Call& c) {
    const Rope& a = c.attr<Rope>();
    const Tensor &x = c.in[0], &angles = c.in[1], &y = c.out[0];
    const int64_t n = x.columns(), head_dim = a.head_dim ? a.head_dim : n, pairs = angles.present ? angles.columns() / 2 : head_dim / 2;
    for (int64_t row = 0; row < x.rows(); ++row) {
        const int64_t token = x.rank == 4 ? row / x.dims[2] : row, position = x.rank >= 3 ? token % x.dims[1] : token;
        for (int64_t j = 0; j < n; ++j) {
            const int64_t head = j / head_dim * head_dim, i = j - head;
            if (i >= 2 * pairs) {
                set(y, row * n + j, get(x, row * n + j));
                continue;
            }
            const int64_t pair = a.interleaved ? i / 2 : i % pairs;
            if (a.interleaved ? i % 2 == 1 : i >= pairs) continue;  // written together with the first of its pair
            const int64_t first = row * n + j, second = first + (a.interleaved ? 1 : pairs);
            const double angle =
                static_cast<double>(position) * std::pow(a.theta, -2.0 * static_cast<double>(pair) / static_cast<double>(head_dim));
            const double cosine = angles.present ? get(angles, token * 2 * pairs + pair) : std::cos(angle);
            const double sine = (angles.present ? get(angles, token * 2 * pairs + pairs + pair) : std::sin(angle)) * (a.inverse ? -1 : 1);
            const double p = get(x, first), q = get(x, second);
            set(y, first, p * cosine - q * sine);
            set(y, second, q * cosine + p * sine);
        }
    }
}

constexpr KernelImpl kRopeAngles[] = {plain<make_angles>()}, kRope[] = {plain<turn>()};

}  // namespace

const KernelList rope_angles{kRopeAngles}, rope{kRope};

}  // namespace ds::ref
