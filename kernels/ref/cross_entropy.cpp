// cross_entropy: loss = mean over rows with a label of  log sum_j exp(logits_j) - logits_label;  and linear_cross_entropy, whose logits are
// x @ weight^T + bias; with their gradients, (softmax - [j = label]) dloss / number of labelled rows. Logits are kept for one row at a
// time.
#include <vector>

#include "kernels/ref/ref.h"
#include "ops/attrs.h"

namespace ds::ref {
namespace {

int64_t label_of(const Tensor& labels, int64_t row) { return static_cast<int64_t>(get(labels, row)); }

double labelled(const Call& call, const Tensor& labels) {
    double n = 0;
    for (int64_t i = 0; i < labels.count(); ++i) n += label_of(labels, i) != call.attr<CrossEntropy>().ignore;
    return n;
}

double log_sum_exp(const std::vector<double>& row) {
    double most = -INFINITY, total = 0;
    for (const double x : row) most = std::max(most, x);
    for (const double x : row) total += std::exp(x - most);
    return most + std::log(total);
}

// logits_of(row, logits) fills a row. outputs: loss, lse.
template <class F>
void losses(const Call& call, const Tensor& labels, const F& logits_of) {
    std::vector<double> logits;
    double sum = 0;
    for (int64_t i = 0; i < labels.count(); ++i) {
        logits_of(i, logits);
        const double lse = log_sum_exp(logits);
        set(call.out[1], i, lse);
        const int64_t label = label_of(labels, i);
        if (label != call.attr<CrossEntropy>().ignore) sum += lse - (label < 0 ? 0 : logits[static_cast<size_t>(label)]);
    }
    const double n = labelled(call, labels);
    set(call.out[0], 0, n > 0 ? sum / n : 0);
}

// Turns logits into their gradient; false where the row is ignored. A label below 0 is a word of another rank's.
bool gradient(const Call& call, const Tensor& labels, const Tensor& lse_of, double scale, int64_t row, std::vector<double>& logits) {
    const int64_t label = label_of(labels, row);
    if (label == call.attr<CrossEntropy>().ignore) return false;
    const double lse = get(lse_of, row);
    for (double& x : logits) x = std::exp(x - lse) * scale;
    if (label >= 0) logits[static_cast<size_t>(label)] -= scale;
    return true;
}

double scale_of(const Call& call, const Tensor& labels) {
    const double n = labelled(call, labels);
    return n > 0 ? get(call.in[0], 0) / n : 0;
}

auto rows_of(const Tensor& logits) {
    return [&](int64_t row, std::vector<double>& to) {
        to.resize(static_cast<size_t>(logits.columns()));
        for (int64_t j = 0; j < logits.columns(); ++j) to[static_cast<size_t>(j)] = get(logits, row * logits.columns() + j);
    };
}

auto products_of(const Tensor& x, const Tensor& weight, const Tensor& bias) {
    return [&bias, size = weight.columns(), vocabulary = weight.dims[0], rows = values_of(x), words = values_of(weight)](
               int64_t row, std::vector<double>& to) {
        to.resize(static_cast<size_t>(vocabulary));
        for (int64_t j = 0; j < vocabulary; ++j) {
            double sum = get_if(bias, j);
            for (int64_t c = 0; c < size; ++c) sum += rows[static_cast<size_t>(row * size + c)] * words[static_cast<size_t>(j * size + c)];
            to[static_cast<size_t>(j)] = sum;
        }
    };
}

void forward(const Call& call) { losses(call, call.in[1], rows_of(call.in[0])); }

void backward(const Call& call) {
    const Tensor &logits = call.in[1], &labels = call.in[2];
    const auto fill = rows_of(logits);
    const double scale = scale_of(call, labels);
    std::vector<double> row;
    for (int64_t i = 0; i < labels.count(); ++i) {
        fill(i, row);
        if (!gradient(call, labels, call.in[3], scale, i, row)) row.assign(row.size(), 0);
        for (int64_t j = 0; j < logits.columns(); ++j) set(call.out[0], i * logits.columns() + j, row[static_cast<size_t>(j)]);
    }
}

void linear_forward(const Call& call) { losses(call, call.in[3], products_of(call.in[0], call.in[1], call.in[2])); }

void linear_backward(const Call& call) {
    const Tensor &x = call.in[1], &weight = call.in[2], &bias = call.in[3], &labels = call.in[4];
    const int64_t vocabulary = weight.dims[0], size = weight.columns();
    const auto fill = products_of(x, weight, bias);
    const double scale = scale_of(call, labels);
    const std::vector<double> rows = values_of(x), words = values_of(weight);
    std::vector<double> row, dx(static_cast<size_t>(x.count())), dweight(static_cast<size_t>(weight.count())),
        dbias(static_cast<size_t>(vocabulary));
    for (int64_t i = 0; i < labels.count(); ++i) {
        fill(i, row);
        if (!gradient(call, labels, call.in[5], scale, i, row)) continue;
        for (int64_t j = 0; j < vocabulary; ++j) {
            const double g = row[static_cast<size_t>(j)];
            dbias[static_cast<size_t>(j)] += g;
            for (int64_t c = 0; c < size; ++c) {
                dx[static_cast<size_t>(i * size + c)] += g * words[static_cast<size_t>(j * size + c)];
                dweight[static_cast<size_t>(j * size + c)] += g * rows[static_cast<size_t>(i * size + c)];
            }
        }
    }
    for (int64_t i = 0; i < x.count(); ++i) set(call.out[0], i, dx[static_cast<size_t>(i)]);
    if (call.out[1].present)
        for (int64_t i = 0; i < weight.count(); ++i) set(call.out[1], i, dweight[static_cast<size_t>(i)] + get_if(call.in[6], i));
    if (bias.present)
        for (int64_t i = 0; i < vocabulary; ++i) set(call.out[2], i, dbias[static_cast<size_t>(i)] + get_if(call.in[7], i));
}

constexpr KernelImpl kCrossEntropy[] = {plain<forward>()};
constexpr KernelImpl kCrossEntropyGrad[] = {plain<backward>()};
constexpr KernelImpl kLinear[] = {rounding<linear_forward>()};
constexpr KernelImpl kLinearGrad[] = {rounding<linear_backward>()};

}  // namespace

const KernelList cross_entropy{kCrossEntropy};
const KernelList cross_entropy_grad{kCrossEntropyGrad};
const KernelList linear_cross_entropy{kLinear};
const KernelList linear_cross_entropy_grad{kLinearGrad};

}  // namespace ds::ref
