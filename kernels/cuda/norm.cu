// layernorm: y = (x - mean) rstd weight + bias; rmsnorm: y = x rstd weight. dx = rstd (g - mean g - z mean(g z)), g = dy weight, z the
// normalised x (rmsnorm lacks mean g). Gradients of weight and bias are sums over rows in runs.
//
// Rows of whole fours (wide_rows) stay in registers: memory is read once. Others, very wide ones and rare pairs of types take the plain
// kernels below.
#include "kernels/cuda/columns.cuh"
#include "ops/attrs.h"

namespace ds::cuda {
namespace {

constexpr int kThreads = 256;

template <bool kCentred>
__global__ void norm_kernel(Rows x, Any weight, Any bias, Rows y, Span<float> means, Span<float> rstds, float eps) {
    DS_SHARED(float, memory, 32);
    const auto n = static_cast<float>(x.columns);
    for (int64_t row = blockIdx.x; row < x.rows; row += gridDim.x) {
        float mean = 0, square = 0;
        if (kCentred) {
            for (int64_t j = threadIdx.x; j < x.columns; j += blockDim.x) mean += x.get(row, j);
            mean = sum_of_block(mean, memory) / n;
        }
        for (int64_t j = threadIdx.x; j < x.columns; j += blockDim.x) {
            const float d = x.get(row, j) - mean;
            square += d * d;
        }
        const float rstd = 1 / sqrtf(sum_of_block(square, memory) / n + eps);
        for (int64_t j = threadIdx.x; j < x.columns; j += blockDim.x)
            y.put(row, j, (x.get(row, j) - mean) * rstd * weight.get(j) + (kCentred ? bias.get(j) : 0.0f));
        if (threadIdx.x == 0) {
            if (kCentred) means.put(row, mean);
            rstds.put(row, rstd);
        }
    }
}

// A block a row, or a warp where 8 fours a thread hold one.
constexpr int kWarpColumns = 8 * 4 * kWarp, kBlockFours = 4, kBlockThreads = 512, kBlockColumns = kBlockFours * 4 * kBlockThreads;

template <bool kCentred, bool kBlock, class X>
__global__ void __launch_bounds__(kBlock ? kBlockThreads : 128)
    norm_fours_kernel(Rows x, Any weight, Any bias, Rows y, Span<float> means, Span<float> rstds, float eps) {
    constexpr int kFours = kBlock ? kBlockFours : 8;
    DS_SHARED(float, memory, 32);
    const auto sum_of_row = [&](float value) {
        if constexpr (kBlock) return sum_of_block(value, memory);
        else return sum_of_warp(value);
    };
    const auto n = static_cast<float>(x.columns);
    const int a_row = kBlock ? static_cast<int>(blockDim.x) : kWarp, rows = static_cast<int>(blockDim.x) / a_row,
              mine = static_cast<int>(threadIdx.x) % a_row;
    for (int64_t row = int64_t{blockIdx.x} * rows + static_cast<int>(threadIdx.x) / a_row; row < x.rows; row += int64_t{gridDim.x} * rows) {
        Four v[kFours];
        float sum = 0, square = 0;
#pragma unroll
        for (int k = 0; k < kFours; ++k) {
            const int j = 4 * (k * a_row + mine);
            v[k] = j < x.columns ? load4(x.memory.as<X>(), row * x.stride + j) : Four{};
        }
#pragma unroll
        for (int k = 0; k < kFours; ++k) sum += v[k].x[0] + v[k].x[1] + (v[k].x[2] + v[k].x[3]);
        const float mean = kCentred ? sum_of_row(sum) / n : 0.0f;
#pragma unroll
        for (int k = 0; k < kFours; ++k)
            if (4 * (k * a_row + mine) < x.columns)
                for (float& each : v[k].x) each -= mean, square += each * each;
        const float rstd = 1 / sqrtf(sum_of_row(square) / n + eps);
#pragma unroll
        for (int k = 0; k < kFours; ++k) {
            const int j = 4 * (k * a_row + mine);
            if (j >= x.columns) break;
            const Four w = load4(weight, j), b = kCentred ? load4(bias, j) : Four{};
            for (int i = 0; i < 4; ++i) v[k].x[i] = v[k].x[i] * rstd * w.x[i] + b.x[i];
            store4(y.memory, row * y.stride + j, v[k]);
        }
        if (mine == 0) {
            if (kCentred) means.put(row, mean);
            rstds.put(row, rstd);
        }
    }
}

template <bool kCentred>
__global__ void norm_dx_kernel(Rows dy, Rows x, Any weight, Span<const float> means, Span<const float> rstds, Rows into, Rows dx) {
    DS_SHARED(float, memory, 32);
    const auto n = static_cast<float>(x.columns);
    for (int64_t row = blockIdx.x; row < x.rows; row += gridDim.x) {
        const float mean = kCentred ? means.get(row) : 0.0f, rstd = rstds.get(row);
        float mean_g = 0, mean_gz = 0;
        for (int64_t j = threadIdx.x; j < x.columns; j += blockDim.x) {
            const float g = dy.get(row, j) * weight.get(j);
            mean_g += g;
            mean_gz += g * (x.get(row, j) - mean) * rstd;
        }
        mean_gz = sum_of_block(mean_gz, memory) / n;
        mean_g = kCentred ? sum_of_block(mean_g, memory) / n : 0.0f;
        for (int64_t j = threadIdx.x; j < x.columns; j += blockDim.x) {
            const float z = (x.get(row, j) - mean) * rstd, g = dy.get(row, j) * weight.get(j);
            dx.put(row, j, rstd * (g - mean_g - z * mean_gz) + (into.present() ? into.get(row, j) : 0.0f));
        }
    }
}

// A run's sums lie behind each other: dweight's, then dbias's.
template <bool kCentred>
constexpr int kSums = kCentred ? 2 : 1;

// A thread a column, a block a run of rows: its sums of dy z and of dy.
template <bool kCentred>
__global__ void norm_dweight_kernel(Rows dy, Rows x, Span<const float> means, Span<const float> rstds, int64_t run_rows,
                                    Span<float> partial) {
    const int64_t j = int64_t{blockIdx.x} * blockDim.x + threadIdx.x, run = blockIdx.y, begin = run * run_rows,
                  end = begin + run_rows < x.rows ? begin + run_rows : x.rows;
    if (j >= x.columns) return;
    float weight = 0, bias = 0;
    for (int64_t row = begin; row < end; ++row) {
        const float up = dy.get(row, j);
        weight += up * (x.get(row, j) - (kCentred ? means.get(row) : 0.0f)) * rstds.get(row);
        bias += up;
    }
    partial.put(run * kSums<kCentred> * x.columns + j, weight);
    if (kCentred) partial.put((run * 2 + 1) * x.columns + j, bias);
}

// The block's sums of several numbers, in all threads. Consecutive calls take other memory, so that one barrier is enough.
template <int kN>
DS_DEVICE void sums_of_block(float (&x)[kN], Shared<float> memory) {
    const int warps = static_cast<int>(blockDim.x) / kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
#pragma unroll
    for (float& each : x) each = sum_of_warp(each);
    if (threadIdx.x % kWarp == 0)
        for (int i = 0; i < kN; ++i) memory.put(warp * kN + i, x[i]);
    barrier();
#pragma unroll
    for (float& each : x) each = 0;
    for (int other = 0; other < warps; ++other)
#pragma unroll
        for (int i = 0; i < kN; ++i) x[i] += memory.get(other * kN + i);
}

// A block a run of rows, kRows of them at once, a thread the same kFours fours of each: dx, and in registers the sums for weight and bias.
// Whatever shares memory with dx was read before by the thread that writes there.
template <bool kCentred, class Up, class X, int kFours, int kRows>
__global__ void __launch_bounds__(kFours == 1 ? 256 : 512, kFours == 1 ? 3 : 1)
    norm_grad_kernel(Rows dy, Rows x, Any weight, Span<const float> means, Span<const float> rstds, Rows into, Rows dx, int64_t run_rows,
                     Span<float> partial) {
    DS_SHARED(float, memory, 2 * 2 * kRows * 16);
    const auto n = static_cast<float>(x.columns);
    const int64_t begin = blockIdx.x * run_rows, end = begin + run_rows < x.rows ? begin + run_rows : x.rows;
    const auto column = [](int k) { return 4 * (k * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x)); };
    Four w[kFours], dweight[kFours] = {}, dbias[kFours] = {};
#pragma unroll
    for (int k = 0; k < kFours; ++k) w[k] = column(k) < x.columns ? load4(weight, column(k)) : Four{};
    int turn = 0;
    for (int64_t first = begin; first < end; first += kRows, turn ^= 1) {
        Four up[kRows][kFours], z[kRows][kFours], old[kRows][kFours];
        float mean[kRows], rstd[kRows], sums[kSums<kCentred> * kRows] = {};
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
            const int64_t row = first + r;
            const bool is_row = row < end;
            mean[r] = kCentred && is_row ? means.get(row) : 0.0f;
            rstd[r] = is_row ? rstds.get(row) : 0.0f;
#pragma unroll
            for (int k = 0; k < kFours; ++k) {
                const bool is = is_row && column(k) < x.columns;
                up[r][k] = is ? load4(dy.memory.as<Up>(), row * dy.stride + column(k)) : Four{};
                z[r][k] = is ? load4(x.memory.as<X>(), row * x.stride + column(k)) : Four{};
            }
        }
#pragma unroll
        for (int r = 0; r < kRows; ++r)
#pragma unroll
            for (int k = 0; k < kFours; ++k)
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    float &each = z[r][k].x[i], dy_each = up[r][k].x[i], g = dy_each * w[k].x[i];
                    each = (each - mean[r]) * rstd[r];
                    dweight[k].x[i] += dy_each * each;
                    dbias[k].x[i] += dy_each;
                    sums[r] += g * each;
                    if (kCentred) sums[(kSums<kCentred> - 1) * kRows + r] += g;
                }
        sums_of_block(sums, memory.from(turn * 2 * kRows * 16));
        const auto is_inside = [&](int r, int k) { return first + r < end && column(k) < x.columns; };
#pragma unroll
        for (int r = 0; r < kRows; ++r)
#pragma unroll
            for (int k = 0; k < kFours; ++k)
                old[r][k] = into.present() && is_inside(r, k) ? load4(into.memory.as<X>(), (first + r) * into.stride + column(k)) : Four{};
#pragma unroll
        for (int r = 0; r < kRows; ++r)
#pragma unroll
            for (int k = 0; k < kFours; ++k) {
                if (!is_inside(r, k)) continue;
                const float mean_gz = sums[r] / n, mean_g = kCentred ? sums[(kSums<kCentred> - 1) * kRows + r] / n : 0.0f;
                Four d;
#pragma unroll
                for (int i = 0; i < 4; ++i)
                    d.x[i] = rstd[r] * (up[r][k].x[i] * w[k].x[i] - mean_g - z[r][k].x[i] * mean_gz) + old[r][k].x[i];
                store4(dx.memory.as<X>(), (first + r) * dx.stride + column(k), d);
            }
    }
#pragma unroll
    for (int k = 0; k < kFours; ++k) {
        if (column(k) >= x.columns) continue;
        const int64_t at = blockIdx.x * kSums<kCentred> * x.columns + column(k);
        store4(partial, at, dweight[k]);
        if (kCentred) store4(partial, at + x.columns, dbias[k]);
    }
}

// Kernels of a pair of types: rows of up to 1024 columns, and wider ones.
constexpr int kNarrow = 1024, kWide = 8192;
using GradKernel = void(Rows, Rows, Any, Span<const float>, Span<const float>, Rows, Rows, int64_t, Span<float>);
struct Typed {
    DType dy, x;
    GradKernel *narrow, *wide;
};
template <bool kCentred, class Up, class X>
constexpr Typed typed(DType dy, DType x) {
    return {dy, x, norm_grad_kernel<kCentred, Up, X, 1, 4>, norm_grad_kernel<kCentred, Up, X, 4, 1>};
}
template <bool kCentred>
const Typed kTyped[] = {typed<kCentred, float, float>(DType::f32, DType::f32), typed<kCentred, bf16, float>(DType::bf16, DType::f32),
                        typed<kCentred, f16, float>(DType::f16, DType::f32), typed<kCentred, bf16, bf16>(DType::bf16, DType::bf16),
                        typed<kCentred, f16, f16>(DType::f16, DType::f16)};

// Rows of a run of the gradient: enough runs to fill a GPU, whose sums are little beside the rows.
int64_t run_rows(int64_t rows, int64_t columns) {
    const int64_t most = columns <= kNarrow ? 512 : 256, least = (rows + most - 1) / most;
    return std::max<int64_t>(8, (least + 3) / 4 * 4);
}
int64_t runs(int64_t rows, int64_t columns) { return (rows + run_rows(rows, columns) - 1) / run_rows(rows, columns); }
unsigned threads_for(int64_t columns, int64_t a_thread) {
    return static_cast<unsigned>((columns + a_thread * kWarp - 1) / (a_thread * kWarp) * kWarp);
}

template <bool kCentred, class X>
void forward_fours(const Call& c, Queue& q, Span<float> means, Span<float> rstds) {
    const Tensor& x = c.in[0];
    const Any bias = kCentred ? any(c.in[2]) : Any{};
    const auto eps = static_cast<float>(c.attr<Norm>().eps);
    if (x.columns() <= kWarpColumns)
        launch(q, striding_blocks(x.rows(), 4), 128, 0, norm_fours_kernel<kCentred, false, X>, rows_of(x), any(c.in[1]), bias,
               rows_of(c.out[0]), means, rstds, eps);
    else
        launch(q, striding_blocks(x.rows(), 1), threads_for(x.columns(), 4 * kBlockFours), 0, norm_fours_kernel<kCentred, true, X>,
               rows_of(x), any(c.in[1]), bias, rows_of(c.out[0]), means, rstds, eps);
}

template <bool kCentred>
void forward(const Call& c, Queue& q) {
    const Tensor& x = c.in[0];
    if (x.count() == 0) return;
    const Span<float> means = kCentred ? span<float>(c.out[1]) : Span<float>{}, rstds = span<float>(c.out[kCentred ? 2 : 1]);
    if (x.columns() <= kBlockColumns && wide_rows(x) && wide_rows(c.in[1]) && (!kCentred || wide_rows(c.in[2])) && wide_rows(c.out[0])) {
        if (x.dtype == DType::f32) return forward_fours<kCentred, float>(c, q, means, rstds);
        if (x.dtype == DType::bf16) return forward_fours<kCentred, bf16>(c, q, means, rstds);
        return forward_fours<kCentred, f16>(c, q, means, rstds);
    }
    launch(q, striding_blocks(x.rows(), 1), kThreads, 0, norm_kernel<kCentred>, rows_of(x), any(c.in[1]), kCentred ? any(c.in[2]) : Any{},
           rows_of(c.out[0]), means, rstds, static_cast<float>(c.attr<Norm>().eps));
}

// The kernels for these operands, or null.
template <bool kCentred>
const Typed* fours_for(const Tensor& dy, const Tensor& x, const Tensor& weight, const Tensor& into, const Tensor& dx) {
    if (x.columns() > kWide || dx.dtype != x.dtype || (into.present && into.dtype != x.dtype)) return nullptr;
    for (const Tensor* t : {&dy, &x, &weight, &into, &dx})
        if (!wide_rows(*t)) return nullptr;
    for (const Typed& t : kTyped<kCentred>)
        if (t.dy == dy.dtype && t.x == x.dtype) return &t;
    return nullptr;
}

template <bool kCentred>
void backward(const Call& c, Queue& q) {
    const Tensor &dy = c.in[0], &x = c.in[1], &weight = c.in[2];
    const Span<const float> means = kCentred ? span<const float>(c.in[3]) : Span<const float>{},
                            rstds = span<const float>(c.in[kCentred ? 4 : 3]);
    const Tensor* into = c.in + (kCentred ? 5 : 4);
    const int64_t n = x.columns(), rows = x.rows(), a_run = run_rows(rows, n), blocks = runs(rows, n), sums = kSums<kCentred> * n;
    const Span<float> partial = scratch<float>(c, 0, blocks * sums);
    if (rows > 0 && n > 0) {
        if (const Typed* typed = fours_for<kCentred>(dy, x, weight, into[0], c.out[0])) {
            launch(q, static_cast<unsigned>(blocks), threads_for(n, n <= kNarrow ? 4 : 16), 0, n <= kNarrow ? typed->narrow : typed->wide,
                   rows_of(dy), rows_of(x), any(weight), means, rstds, rows_of(into[0]), rows_of(c.out[0]), a_run, partial);
        } else {  // the sums first, as dx may be dy's memory
            launch(q, dim3(blocks_for(n, kColumnThreads), static_cast<unsigned>(blocks)), kColumnThreads, 0, norm_dweight_kernel<kCentred>,
                   rows_of(dy), rows_of(x), means, rstds, a_run, partial);
            launch(q, striding_blocks(rows, 1), kThreads, 0, norm_dx_kernel<kCentred>, rows_of(dy), rows_of(x), any(weight), means, rstds,
                   rows_of(into[0]), rows_of(c.out[0]));
        }
    }
    const Summed dweight{rows_of(into[1]), rows_of(c.out[1])}, dbias = kCentred ? Summed{rows_of(into[2]), rows_of(c.out[2])} : dweight;
    add_runs(q, {partial.data, partial.n}, blocks, sums, dweight, n, dbias);
}

template <bool kCentred>
Result<Prepared> prepare_grad(const Request& r) {
    const int64_t rows = r.in[1].rows(), columns = r.in[1].columns();
    return Prepared{{queued<backward<kCentred>>}, nullptr, runs(rows, columns) * kSums<kCentred> * columns * 4};
}

constexpr KernelImpl kLayernorm[] = {plain<forward<true>>()}, kRmsnorm[] = {plain<forward<false>>()};
constexpr KernelImpl kLayernormGrad[] = {{"cuda", accepts_floats, prepare_grad<true>}},
                     kRmsnormGrad[] = {{"cuda", accepts_floats, prepare_grad<false>}};

}  // namespace

extern const KernelList layernorm{kLayernorm}, layernorm_grad{kLayernormGrad}, rmsnorm{kRmsnorm}, rmsnorm_grad{kRmsnormGrad};

}  // namespace ds::cuda
