// layernorm: y = (x - mean) rstd weight + bias; rmsnorm: y = x rstd weight without mean and bias. z below is the normalised x.
// dx = rstd (g - mean g - z mean(g z)), g = dy weight (rmsnorm lacks mean g); dweight = sum of dy z, dbias = sum of dy over rows.
#include "kernels/ref/ref.h"
#include "ops/attrs.h"

namespace ds::ref {
namespace {

template <bool kCentred>
void forward(const Call& c) {
    const Tensor &x = c.in[0], &y = c.out[0];
    const int64_t n = x.columns();
    for (int64_t row = 0; row < x.rows(); ++row) {
        double mean = 0, square = 0;
        if (kCentred)
            for (int64_t j = 0; j < n; ++j) mean += get(x, row * n + j) / static_cast<double>(n);
        for (int64_t j = 0; j < n; ++j) square += std::pow(get(x, row * n + j) - mean, 2) / static_cast<double>(n);
        const double rstd = 1 / std::sqrt(square + c.attr<Norm>().eps);
        for (int64_t j = 0; j < n; ++j)
            set(y, row * n + j, (get(x, row * n + j) - mean) * rstd * get(c.in[1], j) + (kCentred ? get(c.in[2], j) : 0));
        if (kCentred) set(c.out[1], row, mean);
        set(c.out[kCentred ? 2 : 1], row, rstd);
    }
}

template <bool kCentred>
void backward(const Call& c) {
    const Tensor &dy = c.in[0], &x = c.in[1], &weight = c.in[2], &rstds = c.in[kCentred ? 4 : 3];
    const Tensor* into = c.in + (kCentred ? 5 : 4);
    const int64_t n = x.columns();
    std::vector<double> dweight(static_cast<size_t>(n)), dbias(static_cast<size_t>(n));
    for (int64_t row = 0; row < x.rows(); ++row) {
        const double mean = kCentred ? get(c.in[3], row) : 0, rstd = get(rstds, row);
        double mean_g = 0, mean_gz = 0;
        for (int64_t j = 0; j < n; ++j) {
            const double up = get(dy, row * n + j), z = (get(x, row * n + j) - mean) * rstd, g = up * get(weight, j);
            dweight[static_cast<size_t>(j)] += up * z;
            dbias[static_cast<size_t>(j)] += up;
            if (kCentred) mean_g += g / static_cast<double>(n);
            mean_gz += g * z / static_cast<double>(n);
        }
        for (int64_t j = 0; j < n; ++j) {
            const double z = (get(x, row * n + j) - mean) * rstd, g = get(dy, row * n + j) * get(weight, j);
            set(c.out[0], row * n + j, rstd * (g - mean_g - z * mean_gz) + get_if(into[0], row * n + j));
        }
    }
    for (int64_t j = 0; j < n; ++j) set(c.out[1], j, dweight[static_cast<size_t>(j)] + get_if(into[1], j));
    if (kCentred)
        for (int64_t j = 0; j < n; ++j) set(c.out[2], j, dbias[static_cast<size_t>(j)] + get_if(into[2], j));
}

constexpr KernelImpl kLayernorm[] = {plain<forward<true>>()}, kLayernormGrad[] = {plain<backward<true>>()};
constexpr KernelImpl kRmsnorm[] = {plain<forward<false>>()}, kRmsnormGrad[] = {plain<backward<false>>()};

}  // namespace

const KernelList layernorm{kLayernorm}, layernorm_grad{kLayernormGrad}, rmsnorm{kRmsnorm}, rmsnorm_grad{kRmsnormGrad};

}  // namespace ds::ref
