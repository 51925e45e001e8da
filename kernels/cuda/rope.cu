// Rotary position embedding (Su et al. 2021, arXiv 2104.09864): pair j of a head at position p turns by p * inv_freq[j]. Angles are
// computed in f64.
#include "kernels/cuda/device.cuh"
#include "ops/attrs.h"

namespace ds::cuda {
namespace {

constexpr int kThreads = 256, kMostPairs = 256;

struct Frequencies {
    double of[kMostPairs];
    int pairs;
    double scale;
};

__global__ void angles_kernel(Span<const int32_t> positions, Frequencies f, Rows y) {
    const int64_t step = int64_t{gridDim.x} * blockDim.x;
    for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < positions.n * f.pairs; i += step) {
        const int64_t row = i / f.pairs;
        const auto pair = static_cast<int>(i % f.pairs);
        const double angle = positions.get(row) * f.of[pair];
        y.put(row, pair, static_cast<float>(cos(angle) * f.scale));
        y.put(row, f.pairs + pair, static_cast<float>(sin(angle) * f.scale));
    }
}

// How a row of x is cut, and where its position comes from.
struct Turn {
    int64_t head_dim, pairs, heads_a_token, length;  // length 0: positions count rows
    double theta;
    bool interleaved, inverse, angles;
};

// A thread turns one pair, or passes one column on.
__global__ void rope_kernel(Rows x, Rows angles, Rows y, Turn t) {
    const int64_t step = int64_t{gridDim.x} * blockDim.x, rest = t.head_dim - 2 * t.pairs, a_head = t.pairs + rest,
                  heads = x.columns / t.head_dim, a_row = heads * a_head;
    for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < x.rows * a_row; i += step) {
        const int64_t row = i / a_row, head = i % a_row / a_head * t.head_dim, item = i % a_head;
        if (item >= t.pairs) {
            const int64_t column = head + t.pairs + item;
            y.put(row, column, x.get(row, column));
            continue;
        }
        const int64_t token = row / t.heads_a_token;
        float cosine, sine;
        if (t.angles) {
            cosine = angles.get(token, item);
            sine = angles.get(token, t.pairs + item);
        } else {
            const double position = static_cast<double>(t.length ? token % t.length : token);
            const double angle = position * pow(t.theta, -2.0 * static_cast<double>(item) / static_cast<double>(t.head_dim));
            cosine = static_cast<float>(cos(angle));
            sine = static_cast<float>(sin(angle));
        }
        if (t.inverse) sine = -sine;
        const int64_t first = head + (t.interleaved ? 2 * item : item), second = first + (t.interleaved ? 1 : t.pairs);
        const float p = x.get(row, first), s = x.get(row, second);
        y.put(row, first, p * cosine - s * sine);
        y.put(row, second, s * cosine + p * sine);
    }
}

void make_angles(const Call& c, Queue& q) {
    const RopeAngles& a = c.attr<RopeAngles>();
    Frequencies f{};
    f.pairs = static_cast<int>(a.inv_freq.size());
    f.scale = a.scale;
    std::copy(a.inv_freq.begin(), a.inv_freq.end(), f.of);
    const int64_t n = c.in[0].count() * f.pairs;
    if (n > 0)
        launch(q, striding_blocks(n, kThreads, 1 << 16), kThreads, 0, angles_kernel, span<const int32_t>(c.in[0]), f, rows_of(c.out[0]));
}
const char* too_many(const Request& r) {
    return r.attr<RopeAngles>().inv_freq.size() > kMostPairs ? "more than 256 pairs a head" : nullptr;
}

void turn(const Call& c, Queue& q) {
    const Rope& a = c.attr<Rope>();
    const Tensor &x = c.in[0], &angles = c.in[1];
    const int64_t head_dim = a.head_dim ? a.head_dim : x.columns();
    const Turn t{head_dim,
                 angles.present ? angles.columns() / 2 : head_dim / 2,
                 x.rank == 4 ? x.dims[2] : 1,
                 x.rank >= 3 ? x.dims[1] : 0,
                 a.theta,
                 a.interleaved,
                 a.inverse,
                 angles.present};
    const int64_t n = x.rows() * (x.columns() / head_dim) * (head_dim - t.pairs);
    if (n > 0)
        launch(q, striding_blocks(n, kThreads, 1 << 16), kThreads, 0, rope_kernel, rows_of(x), rows_of(angles), rows_of(c.out[0]), t);
}

constexpr KernelImpl kRopeAngles[] = {{"cuda", too_many, simple<queued<make_angles>>}}, kRope[] = {plain<turn>()};

}  // namespace

extern const KernelList rope_angles{kRopeAngles}, rope{kRope};

}  // namespace ds::cuda
