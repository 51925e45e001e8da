#include "base/float8.h"
#include "kernels/ref/ref.h"
#include "ops/attrs_fp8.h"

namespace ds::ref {
namespace {

struct Rounded {
    std::vector<double> values;
    double scale = 1;
};

Rounded rounded(const Tensor& t, bool wide) {
    Rounded r;
    float most = 0;
    for (int64_t i = 0; i < t.count(); ++i) most = std::max(most, static_cast<float>(std::abs(get(t, i))));
    const float scale = scale_of_f8(most, wide);
    r.scale = scale;
    for (int64_t i = 0; i < t.count(); ++i) {
        const uint8_t code = to_f8(static_cast<float>(get(t, i)) * scale, wide);
        r.values.push_back(wide ? f8e5m2_to_f32(code) : f8e4m3_to_f32(code));
    }
    return r;
}

void run(const Call& c) {
    const Tensor &a = c.in[0], &b = c.in[1], &bias = c.in[2], &into = c.in[3], &y = c.out[0];
    const auto& m = c.attr<Fp8Matmul>();
    const Rounded left = rounded(a, m.wide_a), right = rounded(b, m.wide_b);
    const int64_t n = y.columns(), k = m.transpose_b ? b.columns() : b.rows(), a_columns = a.columns();
    for (int64_t i = 0; i < y.rows(); ++i)
        for (int64_t j = 0; j < n; ++j) {
            double sum = 0;
            for (int64_t l = 0; l < k; ++l)
                sum += left.values[static_cast<size_t>(m.transpose_a ? l * a_columns + i : i * a_columns + l)] *
                       right.values[static_cast<size_t>(m.transpose_b ? j * k + l : l * n + j)];
            set(y, i * n + j, sum / (left.scale * right.scale) + get_if(bias, j) + get_if(into, i * n + j));
        }
}

constexpr KernelImpl kFp8[] = {plain<run>()};

}  // namespace

extern const KernelList fp8_matmul;
const KernelList fp8_matmul{kFp8};

}  // namespace ds::ref
