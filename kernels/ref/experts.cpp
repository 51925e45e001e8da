// Mixture of experts: choices of each token, tokens sorted by expert, products by group, weighted sums back, and their gradients.
#include <algorithm>
#include <numeric>

#include "kernels/experts.h"
#include "kernels/ref/ref.h"
#include "ops/attrs.h"

namespace ds::ref {
namespace {

void largest(const Call& c) {
    const Tensor &x = c.in[0], &y = c.out[0], &ids = c.out[1];
    const int64_t n = x.columns(), k = y.columns();
    std::vector<int32_t> order(static_cast<size_t>(n));
    for (int64_t row = 0; row < x.rows(); ++row) {
        std::iota(order.begin(), order.end(), 0);
        std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return get(x, row * n + a) > get(x, row * n + b); });
        for (int64_t i = 0; i < k; ++i) {
            set(y, row * k + i, get(x, row * n + order[static_cast<size_t>(i)]));
            ids.as<int32_t>()[row * ids.row_stride + i] = order[static_cast<size_t>(i)];
        }
    }
}

void largest_grad(const Call& c) {
    const Tensor &dy = c.in[0], &ids = c.in[1], &dx = c.out[0];
    const int64_t k = dy.columns(), n = dx.columns();
    for (int64_t i = 0; i < dx.count(); ++i) set(dx, i, 0);
    for (int64_t i = 0; i < dy.count(); ++i) set(dx, i / k * n + static_cast<int64_t>(get(ids, i)), get(dy, i));
}

void sort_rows(const Call& c) {
    sort_by_expert(c.attr<Routing>(), c.in[0].as<int32_t>(), c.in[1].present ? c.in[1].as<float>() : nullptr, c.in[0].rows(),
                   c.in[0].columns(), c.out[0].as<int32_t>(), c.out[1].as<int32_t>(), c.out[2].as<int32_t>(), c.out[3].as<float>());
}

// f(expert, first row, end) within `rows`.
template <class F>
void each_group(const Tensor& ends, int64_t rows, const F& f) {
    for (int64_t e = 0; e + 1 < ends.count(); ++e)
        f(e, std::clamp<int64_t>(ends.as<int32_t>()[e], 0, rows), std::clamp<int64_t>(ends.as<int32_t>()[e + 1], 0, rows));
}

void grouped(const Call& c) {
    const Tensor &x = c.in[0], &ends = c.in[1], &y = c.out[0];
    const bool transposed = c.attr<Matmul>().transpose_b;
    const int64_t k = x.columns(), n = y.columns();
    for (int64_t i = 0; i < y.count(); ++i) set(y, i, 0);
    each_group(ends, x.rows(), [&](int64_t e, int64_t first, int64_t end) {
        const Tensor& w = c.in[2 + e];
        for (int64_t row = first; row < end; ++row)
            for (int64_t j = 0; j < n; ++j) {
                double sum = 0;
                for (int64_t i = 0; i < k; ++i) sum += get(x, row * k + i) * get(w, transposed ? j * k + i : i * n + j);
                set(y, row * n + j, sum);
            }
    });
}

void grouped_grad(const Call& c) {
    const Tensor &dy = c.in[0], &x = c.in[1], &ends = c.in[2];
    const bool transposed = c.attr<Matmul>().transpose_b;
    const int64_t k = x.columns(), n = dy.columns();
    each_group(ends, x.rows(), [&](int64_t e, int64_t first, int64_t end) {
        for (int64_t i = 0; i < k; ++i)
            for (int64_t j = 0; j < n; ++j) {
                double sum = 0;
                for (int64_t row = first; row < end; ++row) sum += get(x, row * k + i) * get(dy, row * n + j);
                set(c.out[e], transposed ? j * k + i : i * n + j, sum);
            }
    });
}

void weighted_sum(const Call& c) {
    const Tensor &x = c.in[0], &weights = c.in[1], &places = c.in[2], &y = c.out[0];
    const int64_t k = places.columns(), n = y.columns();
    for (int64_t t = 0; t < y.rows(); ++t)
        for (int64_t i = 0; i < n; ++i) {
            double sum = 0;
            for (int64_t j = 0; j < k; ++j)
                if (const auto row = static_cast<int64_t>(get(places, t * k + j)); row >= 0)
                    sum += get(weights, t * k + j) * get(x, row * n + i);
            set(y, t * n + i, sum);
        }
}

void weighted_sum_grad(const Call& c) {
    const Tensor &dy = c.in[0], &x = c.in[1], &weights = c.in[2], &places = c.in[3], &dx = c.out[0], &dweights = c.out[1];
    const int64_t k = places.columns(), n = x.columns();
    for (int64_t i = 0; i < dx.count(); ++i) set(dx, i, 0);
    for (int64_t choice = 0; choice < places.count(); ++choice) {
        const auto row = static_cast<int64_t>(get(places, choice));
        double dot = 0;
        for (int64_t i = 0; i < n && row >= 0; ++i) {
            const double g = get(dy, choice / k * n + i);
            dot += g * get(x, row * n + i);
            set(dx, row * n + i, g * get(weights, choice));
        }
        set(dweights, choice, dot);
    }
}

constexpr KernelImpl kTopK[] = {plain<largest>()}, kTopKGrad[] = {plain<largest_grad>()}, kRows[] = {plain<sort_rows>()};
constexpr KernelImpl kGrouped[] = {rounding<grouped>()}, kGroupedGrad[] = {plain<grouped_grad>()}, kCombine[] = {plain<weighted_sum>()},
                     kCombineGrad[] = {plain<weighted_sum_grad>()};

}  // namespace

const KernelList top_k{kTopK}, top_k_grad{kTopKGrad}, expert_rows{kRows}, grouped_matmul{kGrouped}, grouped_matmul_grad{kGroupedGrad},
    combine{kCombine}, combine_grad{kCombineGrad};

}  // namespace ds::ref
