// A layer of long short-term memory, token after token (ops/lstm.cpp has the formulas), and its gradient back through time.
#include <algorithm>
#include <vector>

#include "kernels/ref/ref.h"
#include "ops/attrs.h"

namespace ds::ref {
namespace {

double logistic(double x) { return 1 / (1 + std::exp(-x)); }

// f(row, row before it in time or -1, whether it is the last) over each sequence in time's order, or back.
template <class F>
void each_step(const Tensor& segments, int64_t rows, int64_t length, bool reverse, bool back, const F& f) {
    const int64_t sequences = segments.present ? segments.count() - 1 : rows / length;
    for (int64_t s = 0; s < sequences; ++s) {
        const int64_t first = segments.present ? static_cast<int64_t>(get(segments, s)) : s * length,
                      end = segments.present ? static_cast<int64_t>(get(segments, s + 1)) : first + length;
        for (int64_t i = 0; i < end - first; ++i) {
            const int64_t time = back ? end - first - 1 - i : i, row = reverse ? end - 1 - time : first + time,
                          before = reverse ? row + 1 : row - 1;
            f(row, time == 0 ? -1 : before, time == end - first - 1);
        }
    }
}

int64_t length_of(const Tensor& x) { return x.rank == 3 ? x.dims[1] : 1; }

void forward(const Call& c) {
    const Tensor &x = c.in[0], &w = c.in[1], &y = c.out[0], &cells = c.out[1], &gates = c.out[2];
    const int64_t h = y.columns();
    for (const Tensor* t : {&y, &cells, &gates})
        for (int64_t i = 0; i < t->count(); ++i) set(*t, i, 0);
    each_step(c.in[2], x.rows(), length_of(x), c.attr<Lstm>().reverse, false, [&](int64_t row, int64_t before, bool) {
        for (int64_t j = 0; j < 4 * h; ++j) {
            double a = get(x, row * 4 * h + j);
            for (int64_t i = 0; i < h && before >= 0; ++i) a += get(w, j * h + i) * get(y, before * h + i);
            set(gates, row * 4 * h + j, j / h == 2 ? std::tanh(a) : logistic(a));
        }
        for (int64_t j = 0; j < h; ++j) {
            const auto gate = [&](int64_t k) { return get(gates, row * 4 * h + k * h + j); };
            const double cell = gate(0) * gate(2) + (before < 0 ? 0 : gate(1) * get(cells, before * h + j));
            set(cells, row * h + j, cell);
            set(y, row * h + j, gate(3) * std::tanh(cell));
        }
    });
}

void backward(const Call& c) {
    const Tensor &dy = c.in[0], &y = c.in[1], &cells = c.in[2], &gates = c.in[3], &w = c.in[4], &dx = c.out[0], &dw = c.out[1];
    const int64_t h = y.columns();
    std::vector<double> da(static_cast<size_t>(gates.count())), weights(static_cast<size_t>(w.count())), dh(static_cast<size_t>(h)),
        dcell(dh.size());
    each_step(c.in[5], y.rows(), length_of(gates), c.attr<Lstm>().reverse, true, [&](int64_t row, int64_t before, bool last) {
        if (last) dh.assign(dh.size(), 0), dcell.assign(dcell.size(), 0);
        double* a = da.data() + row * 4 * h;
        for (int64_t j = 0; j < h; ++j) {
            const auto gate = [&](int64_t k) { return get(gates, row * 4 * h + k * h + j); };
            const auto at = static_cast<size_t>(j);
            const double t = std::tanh(get(cells, row * h + j)), d = get(dy, row * h + j) + dh[at],
                         dc = d * gate(3) * (1 - t * t) + dcell[at];
            a[j] = dc * gate(2) * gate(0) * (1 - gate(0));
            a[h + j] = before < 0 ? 0 : dc * get(cells, before * h + j) * gate(1) * (1 - gate(1));
            a[2 * h + j] = dc * gate(0) * (1 - gate(2) * gate(2));
            a[3 * h + j] = d * t * gate(3) * (1 - gate(3));
            dcell[at] = dc * gate(1);
        }
        dh.assign(dh.size(), 0);
        for (int64_t j = 0; j < 4 * h && before >= 0; ++j)
            for (int64_t i = 0; i < h; ++i) {
                dh[static_cast<size_t>(i)] += a[j] * get(w, j * h + i);
                weights[static_cast<size_t>(j * h + i)] += a[j] * get(y, before * h + i);
            }
    });
    for (int64_t i = 0; i < dx.count(); ++i) set(dx, i, da[static_cast<size_t>(i)]);
    for (int64_t i = 0; i < dw.count(); ++i) set(dw, i, weights[static_cast<size_t>(i)]);
}

constexpr KernelImpl kLstm[] = {plain<forward>()}, kLstmGrad[] = {plain<backward>()};

}  // namespace

const KernelList lstm{kLstm}, lstm_grad{kLstmGrad};

}  // namespace ds::ref
