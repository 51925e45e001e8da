// layernorm: y = (x - mean) rstd weight + bias; rmsnorm: y = x rstd weight. A block a row; gradients of weight and bias are sums over rows in runs.
// dx = rstd (g - mean g - z mean(g z)), g = dy weight, z the normalised x (rmsnorm lacks mean g).
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

// A thread a column, a block a run of rows: its sums of dy z and of dy.
template <bool kCentred>
__global__ void norm_dweight_kernel(Rows dy, Rows x, Span<const float> means, Span<const float> rstds, int64_t run_rows, Span<float> dweight, Span<float> dbias) {
    const int64_t j = int64_t{blockIdx.x} * blockDim.x + threadIdx.x, run = blockIdx.y, begin = run * run_rows, end = begin + run_rows < x.rows ? begin + run_rows : x.rows;
    if (j >= x.columns) return;
    float weight = 0, bias = 0;
    for (int64_t row = begin; row < end; ++row) {
        const float up = dy.get(row, j);
        weight += up * (x.get(row, j) - (kCentred ? means.get(row) : 0.0f)) * rstds.get(row);
        bias += up;
    }
    dweight.put(run * x.columns + j, weight);
    if (kCentred) dbias.put(run * x.columns + j, bias);
}

template <bool kCentred>
void forward(const Call& c, Queue& q) {
    const Tensor& x = c.in[0];
    if (x.count() == 0) return;
    launch(q, blocks_for(x.rows(), 1), kThreads, 0, norm_kernel<kCentred>, rows_of(x), any(c.in[1]), kCentred ? any(c.in[2]) : Any{}, rows_of(c.out[0]),
           kCentred ? span<float>(c.out[1]) : Span<float>{}, span<float>(c.out[kCentred ? 2 : 1]), static_cast<float>(c.attr<Norm>().eps));
}

template <bool kCentred>
void backward(const Call& c, Queue& q) {
    const Tensor &dy = c.in[0], &x = c.in[1], &weight = c.in[2];
    const Span<const float> means = kCentred ? span<const float>(c.in[3]) : Span<const float>{}, rstds = span<const float>(c.in[kCentred ? 4 : 3]);
    const Tensor* into = c.in + (kCentred ? 5 : 4);
    const int64_t n = x.columns(), rows = x.rows(), runs = runs_of(rows);
    const Span<float> dweight = scratch<float>(c, 0, runs * n), dbias = scratch<float>(c, runs * n * 4, kCentred ? runs * n : 0);
    if (rows > 0) {
        // First, as dx may be dy's memory.
        launch(q, dim3(blocks_for(n, kColumnThreads), static_cast<unsigned>(runs)), kColumnThreads, 0, norm_dweight_kernel<kCentred>, rows_of(dy), rows_of(x), means, rstds, rows_a_run(rows), dweight, dbias);
        launch(q, blocks_for(rows, 1), kThreads, 0, norm_dx_kernel<kCentred>, rows_of(dy), rows_of(x), any(weight), means, rstds, rows_of(into[0]), rows_of(c.out[0]));
    }
    add_runs(q, {dweight.data, dweight.n}, runs, n, into[1], c.out[1]);
    if (kCentred) add_runs(q, {dbias.data, dbias.n}, runs, n, into[2], c.out[2]);
}

template <bool kCentred>
Result<Prepared> prepare_grad(const Request& r) {
    const int64_t bytes = runs_of(r.in[1].rows()) * r.in[1].columns() * 4;
    return Prepared{{queued<backward<kCentred>>}, nullptr, kCentred ? 2 * bytes : bytes};
}

constexpr KernelImpl kLayernorm[] = {plain<forward<true>>()}, kRmsnorm[] = {plain<forward<false>>()};
constexpr KernelImpl kLayernormGrad[] = {{"cuda", accepts_floats, prepare_grad<true>}}, kRmsnormGrad[] = {{"cuda", accepts_floats, prepare_grad<false>}};

}  // namespace

extern const KernelList layernorm{kLayernorm}, layernorm_grad{kLayernormGrad}, rmsnorm{kRmsnorm}, rmsnorm_grad{kRmsnormGrad};

}  // namespace ds::cuda
