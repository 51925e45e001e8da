// Rows of a table by id, and the table's gradient (+ into). An id outside the table is a row of zeros, and its gradient goes nowhere.
#include <algorithm>

#include "kernels/ref/ref.h"
#include "ops/attrs.h"

namespace ds::ref {
namespace {

bool inside(int32_t id, const Tensor& table) { return id >= 0 && id < table.dims[0]; }

void forward(const Call& c) {
    const Tensor &table = c.in[0], &y = c.out[0];
    const int32_t* ids = c.in[1].as<int32_t>();
    const int64_t n = y.columns();
    for (int64_t i = 0; i < y.count(); ++i) set(y, i, inside(ids[i / n], table) ? get(table, ids[i / n] * n + i % n) : 0);
}

void backward(const Call& c) {
    const Tensor &dy = c.in[0], &y = c.out[0];
    const int32_t* ids = c.in[1].as<int32_t>();
    const int64_t n = y.columns();
    std::vector<double> sums(static_cast<size_t>(y.count()));
    for (int64_t i = 0; i < y.count(); ++i) sums[static_cast<size_t>(i)] = get_if(c.in[2], i);
    for (int64_t i = 0; i < dy.count(); ++i)
        if (inside(ids[i / n], y) && ids[i / n] != c.attr<Rows>().padding) sums[static_cast<size_t>(ids[i / n] * n + i % n)] += get(dy, i);
    for (int64_t i = 0; i < y.count(); ++i) set(y, i, sums[static_cast<size_t>(i)]);
}

void inverse(const Call& c) {
    const Tensor &ids = c.in[0], &y = c.out[0];
    std::fill_n(y.as<int32_t>(), y.count(), -1);
    for (int64_t i = ids.count(); i-- > 0;)
        if (const int32_t id = ids.as<int32_t>()[i]; id >= 0 && id < y.count()) y.as<int32_t>()[id] = static_cast<int32_t>(i);
}

constexpr KernelImpl kInverse[] = {plain<inverse>()};
constexpr KernelImpl kEmbedding[] = {plain<forward>()}, kEmbeddingGrad[] = {plain<backward>()};

}  // namespace

const KernelList embedding{kEmbedding}, embedding_grad{kEmbeddingGrad}, inverse_rows{kInverse};

}  // namespace ds::ref
