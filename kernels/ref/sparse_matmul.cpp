#include "kernels/ref/ref.h"
#include "kernels/sparse.h"
#include "ops/attrs_coded.h"

namespace ds::ref {
namespace {

void multiply(const Call& call) {
    const Tensor &a = call.in[0], &bias = call.in[2], &into = call.in[3], &y = call.out[0];
    const auto& m = call.attr<SparseMatmul>();
    const int64_t rows = y.rows(), n = y.columns(), k = a.columns();
    const SparseWeight weight(call.in[1].data, {m.outs, k, m.nonzeros, m.bits});
    for (int64_t j = 0; j < n; ++j) {
        std::vector<double> w(static_cast<size_t>(k));
        for (int64_t l = 0; l < k; ++l) w[static_cast<size_t>(l)] = weight.at(j, l);
        for (int64_t i = 0; i < rows; ++i) {
            double sum = 0;
            for (int64_t l = 0; l < k; ++l) sum += get(a, i * k + l) * w[static_cast<size_t>(l)];
            set(y, i * n + j, sum + get_if(bias, j) + get_if(into, i * n + j));
        }
    }
}

constexpr KernelImpl kSparse[] = {plain<multiply>()};

}  // namespace

extern const KernelList sparse_matmul = kSparse;

}  // namespace ds::ref
