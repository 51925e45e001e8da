// distillation_loss and its gradient. Rows are dealt out to the team; their losses are summed in the rows' order.
#include "kernels/ref/ref.h"
#include "ops/attrs_compress.h"

namespace ds::ref {
namespace {

bool counts(const Tensor& labels, int64_t row, const Distillation& a) { return static_cast<int64_t>(get(labels, row)) != a.ignore; }

double log_sum_exp(const Tensor& x, int64_t row, double temperature) {
    const int64_t n = x.columns();
    double most = -INFINITY, total = 0;
    for (int64_t j = 0; j < n; ++j) most = std::max(most, get(x, row * n + j) / temperature);
    for (int64_t j = 0; j < n; ++j) total += std::exp(get(x, row * n + j) / temperature - most);
    return most + std::log(total);
}

// Each row's loss goes to scratch.
void rows(const Call& call, Team team) {
    const auto& a = call.attr<Distillation>();
    const Tensor &logits = call.in[0], &teacher = call.in[1];
    auto* losses = reinterpret_cast<double*>(call.scratch);
    const int64_t n = logits.columns();
    const auto [first, last] = team.part(logits.rows());
    for (int64_t i = first; i < last; ++i) {
        const double lse = log_sum_exp(logits, i, a.temperature), taught = log_sum_exp(teacher, i, a.temperature);
        double sum = 0;
        for (int64_t j = 0; counts(call.in[2], i, a) && j < n; ++j) {
            const double log_p = get(teacher, i * n + j) / a.temperature - taught, log_q = get(logits, i * n + j) / a.temperature - lse;
            sum += std::exp(log_p) * (log_p - log_q);
        }
        losses[i] = sum;
        set(call.out[1], i, lse);
        set(call.out[2], i, taught);
    }
}

void mean(const Call& call, Team team) {
    if (team.rank != 0) return;
    const auto& a = call.attr<Distillation>();
    const auto* losses = reinterpret_cast<const double*>(call.scratch);
    double sum = 0, labelled = 0;
    for (int64_t i = 0; i < call.in[0].rows(); ++i)
        if (counts(call.in[2], i, a)) sum += losses[i], ++labelled;
    set(call.out[0], 0, labelled > 0 ? a.temperature * a.temperature * sum / labelled : 0);
}

void gradient(const Call& call, Team team) {
    const auto& a = call.attr<Distillation>();
    const Tensor &logits = call.in[1], &teacher = call.in[2], &labels = call.in[3];
    double labelled = 0;
    for (int64_t i = 0; i < labels.count(); ++i) labelled += counts(labels, i, a);
    const double scale = labelled > 0 ? a.temperature * get(call.in[0], 0) / labelled : 0;
    const int64_t n = logits.columns();
    const auto [first, last] = team.part(logits.rows());
    for (int64_t i = first; i < last; ++i) {
        const double lse = get(call.in[4], i), taught = get(call.in[5], i), by = counts(labels, i, a) ? scale : 0;
        for (int64_t j = i * n; j < (i + 1) * n; ++j)
            set(call.out[0], j, by * (std::exp(get(logits, j) / a.temperature - lse) - std::exp(get(teacher, j) / a.temperature - taught)));
    }
}

Result<Prepared> prepare(const Request& request) { return Prepared{{rows, mean}, nullptr, 8 * std::max<int64_t>(request.in[0].rows(), 1)}; }

constexpr KernelImpl kLoss[] = {{"ref", accepts_all, prepare}}, kGradient[] = {{"ref", accepts_all, simple<gradient>}};

}  // namespace

extern const KernelList distillation_loss = kLoss;
extern const KernelList distillation_loss_grad = kGradient;

}  // namespace ds::ref
