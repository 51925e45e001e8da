// sum over axes (+ into). Dimensions are sorted into kept ones and summed ones; runs of summed elements are added up by blocks, then runs,
// in fixed order. Where the last kept dimension is the innermost, a thread sums for one result and neighbours read neighbours (for four,
// where rows are whole fours); else a block sums for one result.
#include "kernels/cuda/columns.cuh"
#include "kernels/cuda/walk.cuh"
#include "ops/attrs.h"

namespace ds::cuda {
namespace {

struct Sums {
    Walk kept, summed;          // operand 0: x
    int64_t run = 0, runs = 0;  // summed elements a run
    bool by_thread = false;
};

DS_DEVICE int64_t place(const Walk& w, int64_t i) { return w.rank == 0 ? 0 : offsets(w, i).at[0]; }

__global__ void by_thread_kernel(Sums s, Any x, Span<float> partial) {
    const int64_t to = int64_t{blockIdx.x} * blockDim.x + threadIdx.x, begin = int64_t{blockIdx.y} * s.run,
                  end = begin + s.run < s.summed.count ? begin + s.run : s.summed.count;
    if (to >= s.kept.count) return;
    const int64_t from = place(s.kept, to);
    float sum = 0;
    for (int64_t i = begin; i < end; ++i) sum += x.get(from + place(s.summed, i));
    partial.put(int64_t{blockIdx.y} * s.kept.count + to, sum);
}

// Sums over rows of whole fours: a warp has 128 columns, the block's warps share the run's rows.
constexpr int kShares = 8, kAcross = 4 * kWarp;

template <class X>
__global__ void __launch_bounds__(kShares* kWarp) by_fours_kernel(Sums s, Span<X> x, Span<float> partial) {
    DS_SHARED(float, memory, kShares* kAcross);
    const int lane = static_cast<int>(threadIdx.x) % kWarp, share = static_cast<int>(threadIdx.x) / kWarp,
              thread = static_cast<int>(threadIdx.x);
    const int64_t first = int64_t{blockIdx.x} * kAcross, begin = int64_t{blockIdx.y} * s.run,
                  end = begin + s.run < s.summed.count ? begin + s.run : s.summed.count;
    Four sum = {};
    if (first + 4 * lane < s.kept.count) {
#pragma unroll 4
        for (int64_t i = begin + share; i < end; i += kShares) {
            const Four v = load4(x, i * s.summed.strides[0][0] + first + 4 * lane);
            for (int k = 0; k < 4; ++k) sum.x[k] += v.x[k];
        }
    }
    for (int k = 0; k < 4; ++k) memory.put(share * kAcross + k * kWarp + lane, sum.x[k]);
    barrier();
    const int64_t to = first + 4 * lane + share;  // of the first four warps
    if (thread >= kAcross || to >= s.kept.count) return;
    float total = 0;
    for (int other = 0; other < kShares; ++other) total += memory.get(other * kAcross + thread);
    partial.put(int64_t{blockIdx.y} * s.kept.count + to, total);
}

__global__ void by_block_kernel(Sums s, Any x, Span<float> partial) {
    DS_SHARED(float, memory, 32);
    const int64_t begin = int64_t{blockIdx.y} * s.run, end = begin + s.run < s.summed.count ? begin + s.run : s.summed.count;
    for (int64_t to = blockIdx.x; to < s.kept.count; to += gridDim.x) {
        const int64_t from = place(s.kept, to);
        float sum = 0;
        for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) sum += x.get(from + place(s.summed, i));
        sum = sum_of_block(sum, memory);
        if (threadIdx.x == 0) partial.put(int64_t{blockIdx.y} * s.kept.count + to, sum);
    }
}

Sums sums_of(const Tensor& x, const Reduce& a) {
    bool reduce[kMaxRank] = {};
    for (int64_t axis : a.axes) reduce[axis < 0 ? axis + x.rank : axis] = true;
    int64_t strides[kMaxRank];
    memory_strides(x, strides);
    Sums s;
    for (int i = 0; i < x.rank; ++i) {
        Walk& w = reduce[i] || a.axes.empty() ? s.summed : s.kept;
        w.dims[w.rank] = x.dims[i];
        w.strides[0][w.rank++] = strides[i];
    }
    s.by_thread = s.kept.rank > 0 && s.kept.strides[0][s.kept.rank - 1] == 1;
    s.kept = merged(s.kept);
    s.summed = merged(s.summed);
    // A block's time goes into runs of 4096, a thread's into 64 (at least); many results need no runs.
    const int64_t at_least = s.by_thread ? 64 : 4096, most = std::clamp<int64_t>(65536 / std::max<int64_t>(s.kept.count, 1), 1, 512);
    s.run = std::max(at_least, (s.summed.count + most - 1) / most);
    s.runs = std::max<int64_t>((s.summed.count + s.run - 1) / s.run, 1);
    return s;
}

bool are_rows_of_fours(const Sums& s, const Tensor& x) {
    return s.by_thread && s.kept.rank == 1 && s.summed.rank == 1 && s.kept.count % 4 == 0 && s.summed.strides[0][0] % 4 == 0 &&
           begins_wide(x.data, x.dtype);
}

template <class X>
void by_fours(Queue& q, const Sums& s, const Tensor& x, Span<float> partial) {
    launch(q, dim3(blocks_for(s.kept.count, kAcross), static_cast<unsigned>(s.runs)), kShares * kWarp, 0, by_fours_kernel<X>, s, span<X>(x),
           partial);
}

void run(const Call& c, Queue& q) {
    const Tensor &x = c.in[0], &y = c.out[0];
    const Sums s = sums_of(x, c.attr<Reduce>());
    if (y.count() == 0) return;
    const Span<float> partial = scratch<float>(c, 0, s.runs * s.kept.count);
    if (are_rows_of_fours(s, x))
        x.dtype == DType::f32    ? by_fours<float>(q, s, x, partial)
        : x.dtype == DType::bf16 ? by_fours<bf16>(q, s, x, partial)
                                 : by_fours<f16>(q, s, x, partial);
    else if (s.by_thread)
        launch(q, dim3(blocks_for(s.kept.count, 128), static_cast<unsigned>(s.runs)), 128, 0, by_thread_kernel, s, any(x), partial);
    else launch(q, dim3(striding_blocks(s.kept.count, 1), static_cast<unsigned>(s.runs)), 256, 0, by_block_kernel, s, any(x), partial);
    add_runs(q, {partial.data, partial.n}, s.runs, s.kept.count, c.in[1], y);
}

Result<Prepared> prepare(const Request& r) {
    const Sums s = sums_of(r.in[0], *static_cast<const Reduce*>(r.attrs));
    return Prepared{{queued<run>}, nullptr, s.runs * s.kept.count * 4};
}

constexpr KernelImpl kSum[] = {{"cuda", accepts_floats, prepare}};

}  // namespace

extern const KernelList sum{kSum};

}  // namespace ds::cuda
