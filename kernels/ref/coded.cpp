// coded_matmul and int8_matmul. Of the former each of the weight's values is decoded where it is used, and rounded to a's type.
#include "kernels/coded.h"
#include "kernels/ref/ref.h"
#include "ops/attrs_coded.h"

namespace ds::ref {
namespace {

void multiply(const Call& call) {
    const Tensor &a = call.in[0], &bias = call.in[2], &into = call.in[3], &y = call.out[0];
    const auto& attrs = call.attr<CodedMatmul>();
    const CodedWeight weight(call.in[1].data, attrs.rows * attrs.columns, attrs.code());
    const GroupParts parts(attrs.rows, attrs.columns, attrs.code());
    const GroupWeight in_groups(call.in[1].data, parts, attrs.code());
    std::vector<double> w(static_cast<size_t>(attrs.rows * attrs.columns));
    for (size_t i = 0; i < w.size(); ++i) {
        const auto at = static_cast<int64_t>(i);
        const float exact = attrs.group ? in_groups.at(at / attrs.columns, at % attrs.columns) : weight.at(at);
        w[i] = rounded(a.dtype, exact);
    }
    const int64_t rows = y.rows(), n = y.columns(), k = a.columns();
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < n; ++j) {
            double sum = 0;
            for (int64_t l = 0; l < k; ++l) sum += get(a, i * k + l) * w[static_cast<size_t>(attrs.transpose ? j * k + l : l * n + j)];
            set(y, i * n + j, sum + get_if(bias, j) + get_if(into, i * n + j));
        }
}

void multiply_integers(const Call& call) {
    const Tensor &a = call.in[0], &bias = call.in[2], &into = call.in[3], &y = call.out[0];
    const int64_t rows = y.rows(), n = y.columns(), k = a.columns();
    const Int8Parts parts(n, k);
    const auto* codes = call.in[1].as<uint8_t>();
    const auto* scales = reinterpret_cast<const float*>(codes + parts.scales);
    const bool fixed = call.attr<Int8Matmul>().fixed;
    const InputCode input = InputCode::of(codes, parts);
    std::vector<int64_t> row(static_cast<size_t>(k));
    for (int64_t i = 0; i < rows; ++i) {
        float most = 0;
        for (int64_t l = 0; l < k; ++l) most = std::max(most, static_cast<float>(std::abs(get(a, i * k + l))));
        const float inverse = most > 0 ? 127 / most : 0, worth = fixed ? input.scale : most / 127;
        for (int64_t l = 0; l < k; ++l) {
            const auto x = static_cast<float>(get(a, i * k + l));
            row[static_cast<size_t>(l)] = fixed ? std::lrint(input.code(x)) - input.zero : std::lrint(x * inverse);
        }
        for (int64_t j = 0; j < n; ++j) {
            int64_t sum = 0;
            for (int64_t l = 0; l < k; ++l) sum += row[static_cast<size_t>(l)] * static_cast<int8_t>(codes[parts.place(j, l)]);
            set(y, i * n + j,
                static_cast<double>(sum) * (static_cast<double>(worth) * scales[j]) + get_if(bias, j) + get_if(into, i * n + j));
        }
    }
}

constexpr KernelImpl kCoded[] = {plain<multiply>()}, kInt8[] = {plain<multiply_integers>()};

}  // namespace

extern const KernelList coded_matmul = kCoded;
extern const KernelList int8_matmul = kInt8;

}  // namespace ds::ref
