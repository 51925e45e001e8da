// y = op(a) @ op(b) (+ bias) (+ into), in batches where b has a's rank.
#include "kernels/ref/ref.h"
#include "ops/attrs.h"

namespace ds::ref {
namespace {

void multiply(const Call& call) {
    const Tensor &a = call.in[0], &b = call.in[1], &bias = call.in[2], &into = call.in[3], &y = call.out[0];
    const auto& attrs = call.attr<Matmul>();
    const int64_t m = y.dims[y.rank - 2], n = y.columns(), k = attrs.transpose_a ? a.dims[a.rank - 2] : a.columns();
    int64_t batch = 1;
    for (int i = 0; i + 2 < y.rank; ++i) batch *= y.dims[i];
    const std::vector<double> left = values_of(a), right = values_of(b);
    const int64_t down = attrs.transpose_a ? 1 : k, along = attrs.transpose_a ? m : 1, across = attrs.transpose_b ? k : 1,
                  beneath = attrs.transpose_b ? 1 : n;
    for (int64_t at = 0; at < batch; ++at)
        for (int64_t i = 0; i < m; ++i)
            for (int64_t j = 0; j < n; ++j) {
                const double *x = left.data() + at * m * k + i * down, *w = right.data() + (b.rank == 2 ? 0 : at * k * n) + j * across;
                double sum = 0;
                for (int64_t l = 0; l < k; ++l) sum += x[l * along] * w[l * beneath];
                const int64_t place = (at * m + i) * n + j;
                set(y, place, sum + get_if(bias, j) + get_if(into, place));
            }
}

constexpr KernelImpl kMatmul[] = {rounding<multiply>()};

}  // namespace

const KernelList matmul{kMatmul};

}  // namespace ds::ref
