// matmul_gelu and matmul_gelu_grad: the kernels of their parts one after the other.
#include "kernels/ref/ref.h"
#include "ops/attrs.h"

namespace ds::ref {
namespace {

void run(const KernelList& list, const Call& call, std::initializer_list<Tensor> in, const Tensor& out, const void* attrs) {
    Call part = call;
    part.in = in.begin(), part.out = &out, part.attrs = attrs;
    list.begin()->prepare({})->phases[0](part, Team{});
}

constexpr Gelu kTanh{.tanh = true};

void forward(const Call& c) {
    const Tensor &y = c.out[0], &pre = c.out[1];
    run(matmul, c, {c.in[0], c.in[1], c.in[2], Tensor{}}, pre, c.attrs);
    run(gelu, c, {pre}, y, &kTanh);
}

void backward(const Call& c) {
    const Tensor& dx = c.out[0];
    run(matmul, c, {c.in[0], c.in[1], Tensor{}, Tensor{}}, dx, c.attrs);
    run(gelu_grad, c, {dx, c.in[2]}, dx, &kTanh);
}

constexpr KernelImpl kForward[] = {plain<forward>()}, kBackward[] = {plain<backward>()};

}  // namespace

extern const KernelList matmul_gelu, matmul_gelu_grad;
const KernelList matmul_gelu{kForward}, matmul_gelu_grad{kBackward};

}  // namespace ds::ref
