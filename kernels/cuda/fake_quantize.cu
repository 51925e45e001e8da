// Values rounded to few bits, as kernels/compress.h has it. Blocks look at pieces of a group, then its levels are made, then every element
// is rounded.
#include "kernels/cuda/device.cuh"
#include "ops/attrs_compress.h"

namespace ds::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kPiece = 16384;

struct Groups {
    Rows x;
    int64_t count, size, pieces;  // pieces: of a group
    int bits;
    bool asymmetric;
    DS_DEVICE float get(int64_t i) const { return x.get(i / x.columns, i % x.columns); }
};

// What was found in a piece: the least and the largest value, or the sum of absolute values and how many.
struct Found {
    Span<float> least, most;
    Span<double> sum, large;
};

// Of a group. Up to 2 bits: scale is the level and zero the threshold below which there is 0.
struct Levels {
    float scale, zero, least, most;
};

// Of more than 2 bits, as kernels/compress.h has it.
DS_DEVICE Levels levels_of(float least, float most, int bits, bool asymmetric) {
    const auto range = static_cast<float>(1 << bits);
    if (!asymmetric) return {2 * fmaxf(fabsf(least), fabsf(most)) / range, 0, -range / 2, range / 2 - 1};
    const float scale = (most - least) / range;
    return {scale, scale == 0 ? 0.0f : rintf(least / scale) * scale, 0, range - 1};
}
DS_DEVICE float rounded(const Levels& to, float x) {
    return to.scale == 0 ? x : fminf(fmaxf(rintf((x - to.zero) / to.scale), to.least), to.most) * to.scale + to.zero;
}

// What the block's threads found, of its piece.
DS_DEVICE void put_range(const Found& found, float least, float most, Shared<float> memory) {
    least = -max_of_block(-least, memory);
    most = max_of_block(most, memory);
    if (threadIdx.x == 0) found.least.put(blockIdx.x, least), found.most.put(blockIdx.x, most);
}

template <class F>
DS_DEVICE void each_of_piece(const Groups& g, const F& f) {
    const int64_t group = blockIdx.x / g.pieces, begin = blockIdx.x % g.pieces * kPiece,
                  end = begin + kPiece < g.size ? begin + kPiece : g.size;
    for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) f(g.get(group * g.size + i));
}

__global__ void look_kernel(Groups g, Found found) {
    DS_SHARED(float, memory, 32);
    DS_SHARED(double, sums, 32);
    if (g.bits > 2) {
        float least = INFINITY, most = -INFINITY;
        each_of_piece(g, [&](float x) { least = fminf(least, x), most = fmaxf(most, x); });
        return put_range(found, least, most, memory);
    }
    double sum = 0;
    each_of_piece(g, [&](float x) { sum += static_cast<double>(fabsf(x)); });
    sum = sum_of_block(sum, sums);
    if (threadIdx.x == 0) found.sum.put(blockIdx.x, sum);
}

// Of ternary levels: the sum and the number of what is above the threshold.
__global__ void look_again_kernel(Groups g, Span<const Levels> levels, Found found) {
    DS_SHARED(double, memory, 32);
    const float threshold = levels.get(blockIdx.x / g.pieces).zero;
    double sum = 0, count = 0;
    each_of_piece(g, [&](float x) {
        if (fabsf(x) > threshold) sum += static_cast<double>(fabsf(x)), count += 1;
    });
    sum = sum_of_block(sum, memory);
    count = sum_of_block(count, memory);
    if (threadIdx.x == 0) found.sum.put(blockIdx.x, sum), found.large.put(blockIdx.x, count);
}

// A thread a group. again: after look_again_kernel.
__global__ void levels_kernel(Groups g, Found found, bool again, Span<Levels> levels) {
    const int64_t group = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
    if (group >= g.count) return;
    float least = INFINITY, most = -INFINITY;
    double sum = 0, large = 0;
    for (int64_t i = group * g.pieces; i < (group + 1) * g.pieces; ++i) {
        if (g.bits > 2) least = fminf(least, found.least.get(i)), most = fmaxf(most, found.most.get(i));
        else sum += found.sum.get(i);
        if (again) large += found.large.get(i);
    }
    Levels to{0, 0, 0, 0};
    if (again) {
        to = levels.get(group);
        to.scale = large > 0 ? static_cast<float>(sum / large) : 0.0f;
    } else if (g.bits <= 2) {
        to.scale = static_cast<float>(sum / static_cast<double>(g.size));
        to.zero = g.bits == 2 ? 0.7f * to.scale : 0.0f;
    } else {
        to = levels_of(least, most, g.bits, g.asymmetric);
    }
    levels.put(group, to);
}

__global__ void round_kernel(Groups g, Span<const Levels> levels, Rows y) {
    const int64_t step = int64_t{gridDim.x} * blockDim.x;
    for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < g.count * g.size; i += step) {
        const Levels to = levels.get(i / g.size);
        const float x = g.get(i), ternary = x > to.zero ? to.scale : x < -to.zero ? -to.scale : 0.0f;
        y.put(i / y.columns, i % y.columns, g.bits <= 2 ? ternary : rounded(to, x));
    }
}

Groups groups_of(const Tensor& x, const FakeQuantize& a) {
    const int64_t count = a.groups == 0 ? std::max<int64_t>(x.rows(), 1) : a.groups, size = x.count() / count;
    return {rows_of(x), count, size, std::max<int64_t>((size + kPiece - 1) / kPiece, 1), static_cast<int>(a.bits), a.asymmetric};
}

void run(const Call& c, Queue& q) {
    const Groups g = groups_of(c.in[0], c.attr<FakeQuantize>());
    if (c.out[0].count() == 0) return;
    const int64_t pieces = g.count * g.pieces;
    const Found found{scratch<float>(c, 0, pieces), scratch<float>(c, 4 * pieces, pieces), scratch<double>(c, 8 * pieces, pieces),
                      scratch<double>(c, 16 * pieces, pieces)};
    const Span<Levels> levels = scratch<Levels>(c, round_up(24 * pieces, 16), g.count);
    const Span<const Levels> made{levels.data, levels.n};
    const auto blocks = static_cast<unsigned>(pieces);
    launch(q, blocks, kThreads, 0, look_kernel, g, found);
    launch(q, blocks_for(g.count, kThreads), kThreads, 0, levels_kernel, g, found, false, levels);
    if (g.bits == 2) {
        launch(q, blocks, kThreads, 0, look_again_kernel, g, made, found);
        launch(q, blocks_for(g.count, kThreads), kThreads, 0, levels_kernel, g, found, true, levels);
    }
    launch(q, striding_blocks(c.out[0].count(), kThreads, 1 << 16), kThreads, 0, round_kernel, g, made, rows_of(c.out[0]));
}

Result<Prepared> prepare(const Request& r) {
    const Groups g = groups_of(r.in[0], r.attr<FakeQuantize>());
    return Prepared{{queued<run>}, nullptr, g.count * g.pieces * 24 + g.count * static_cast<int64_t>(sizeof(Levels)) + 16};
}

// The range of a piece of the rows that count: all, or those before the last of `ends`.
__global__ void range_kernel(Rows x, Span<const int32_t> ends, Found found) {
    DS_SHARED(float, memory, 32);
    const int64_t rows = ends.n == 0 || ends.get(ends.n - 1) > x.rows ? x.rows : ends.get(ends.n - 1), count = rows * x.columns;
    const int64_t begin = int64_t{blockIdx.x} * kPiece, end = begin + kPiece < count ? begin + kPiece : count;
    float least = INFINITY, most = -INFINITY;
    for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
        const float value = x.get(i / x.columns, i % x.columns);
        least = fminf(least, value), most = fmaxf(most, value);
    }
    put_range(found, least, most, memory);
}

// One thread of a warp.
__global__ void move_kernel(Found found, int64_t pieces, float momentum, Span<const float> range, Span<float> moved) {
    if (blockIdx.x != 0 || threadIdx.x != 0) return;
    float least = INFINITY, most = -INFINITY;
    for (int64_t i = 0; i < pieces; ++i) least = fminf(least, found.least.get(i)), most = fmaxf(most, found.most.get(i));
    const bool nothing = least > most, fresh = range.get(0) == range.get(1);
    moved.put(0, nothing ? range.get(0) : (fresh ? least : range.get(0)) * momentum + least * (1 - momentum));
    moved.put(1, nothing ? range.get(1) : (fresh ? most : range.get(1)) * momentum + most * (1 - momentum));
}

__global__ void within_kernel(Rows x, Span<const float> range, int bits, bool asymmetric, Rows y) {
    const Levels to = levels_of(range.get(0), range.get(1), bits, asymmetric);
    const int64_t step = int64_t{gridDim.x} * blockDim.x;
    for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < x.rows * x.columns; i += step)
        y.put(i / y.columns, i % y.columns, rounded(to, x.get(i / x.columns, i % x.columns)));
}

int64_t pieces_of(const Tensor& x) { return std::max<int64_t>((x.count() + kPiece - 1) / kPiece, 1); }
Span<const float> range_of(const Tensor& t) { return {t.as<const float>(), 2}; }

void move_range(const Call& c, Queue& q) {
    const int64_t pieces = pieces_of(c.in[0]);
    const Found found{scratch<float>(c, 0, pieces), scratch<float>(c, 4 * pieces, pieces), {}, {}};
    const Tensor& ends = c.in[2];
    launch(q, static_cast<unsigned>(pieces), kThreads, 0, range_kernel, rows_of(c.in[0]),
           Span<const int32_t>{ends.present ? ends.as<const int32_t>() : nullptr, ends.present ? ends.count() : 0}, found);
    launch(q, 1, kWarp, 0, move_kernel, found, pieces, static_cast<float>(c.attr<MovingRange>().momentum), range_of(c.in[1]),
           Span<float>{c.out[0].as<float>(), 2});
}

void round_within(const Call& c, Queue& q) {
    const auto& a = c.attr<QuantizeWithin>();
    if (c.out[0].count() == 0) return;
    launch(q, striding_blocks(c.out[0].count(), kThreads, 1 << 16), kThreads, 0, within_kernel, rows_of(c.in[0]), range_of(c.in[1]),
           static_cast<int>(a.bits), a.asymmetric, rows_of(c.out[0]));
}

Result<Prepared> prepare_range(const Request& r) { return Prepared{{queued<move_range>}, nullptr, 8 * pieces_of(r.in[0])}; }
Result<Prepared> prepare_within(const Request&) { return Prepared{{queued<round_within>}, nullptr, 0}; }
const char* float_x(const Request& r) { return is_number(r.in[0].dtype) ? nullptr : "x is neither f32, bf16 nor f16"; }

constexpr KernelImpl kRange[] = {{"cuda", float_x, prepare_range}}, kWithin[] = {{"cuda", float_x, prepare_within}};
constexpr KernelImpl kQuantize[] = {{"cuda", accepts_floats, prepare}};

}  // namespace

extern const KernelList fake_quantize{kQuantize};
extern const KernelList moving_range{kRange};
extern const KernelList quantize_within{kWithin};

}  // namespace ds::cuda
