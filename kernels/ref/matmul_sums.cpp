#include "kernels/ref/ref.h"
#include "ops/attrs_epilogue.h"

namespace ds::ref {
namespace {

void run(const Call& c) {
    const auto& m = c.attr<MatmulSums>();
    const Tensor &t = c.in[m.of_a ? 0 : 1], &into = c.in[3], &sums = c.out[1];
    const bool by_row = m.of_a ? !m.transpose_a : m.transpose_b;  // as the operand lies
    const int64_t n = by_row ? t.rows() : t.columns(), k = by_row ? t.columns() : t.rows();
    for (int64_t i = 0; i < n; ++i) {
        double sum = get_if(into, i);
        for (int64_t l = 0; l < k; ++l) sum += get(t, by_row ? i * k + l : l * n + i);
        set(sums, i, sum);
    }
    const Matmul attrs = m.product();
    const Tensor operands[] = {c.in[0], c.in[1], Tensor{}, c.in[2]};
    Call product = c;
    product.in = operands, product.attrs = &attrs;
    matmul.begin()->prepare({})->phases[0](product, Team{});
}

constexpr KernelImpl kSums[] = {plain<run>()};

}  // namespace

extern const KernelList matmul_sums;
const KernelList matmul_sums{kSums};

}  // namespace ds::ref
