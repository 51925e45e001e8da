// softmax over the last dimension and its gradient, dx = y (dy - sum(dy y)).
#include "kernels/ref/ref.h"

namespace ds::ref {
namespace {

void forward(const Call& c) {
    const Tensor &x = c.in[0], &y = c.out[0];
    const int64_t n = x.columns();
    for (int64_t row = 0; row < x.rows(); ++row) {
        double most = -INFINITY, sum = 0;
        for (int64_t j = 0; j < n; ++j) most = std::fmax(most, get(x, row * n + j));
        for (int64_t j = 0; j < n; ++j) sum += std::exp(get(x, row * n + j) - most);
        for (int64_t j = 0; j < n; ++j) set(y, row * n + j, std::exp(get(x, row * n + j) - most) / sum);
    }
}

void backward(const Call& c) {
    const Tensor &dy = c.in[0], &y = c.in[1];
    const int64_t n = y.columns();
    for (int64_t row = 0; row < y.rows(); ++row) {
        double dot = 0;
        for (int64_t j = 0; j < n; ++j) dot += get(dy, row * n + j) * get(y, row * n + j);
        for (int64_t j = 0; j < n; ++j) set(c.out[0], row * n + j, get(y, row * n + j) * (get(dy, row * n + j) - dot));
    }
}

constexpr KernelImpl kSoftmax[] = {plain<forward>()}, kSoftmaxGrad[] = {plain<backward>()};

}  // namespace

const KernelList softmax{kSoftmax}, softmax_grad{kSoftmaxGrad};

}  // namespace ds::ref
