// Lamb (You et al. 2019, arXiv 1904.00962) as DeepSpeed's FusedLamb has it:  m, v as Adam's, u = m / (sqrt(v) + eps) + weight_decay w,
// trust = |w| / |u| between min_coeff and max_coeff (1 where a norm is 0),  w -= lr sqrt(1-b2^t) / (1-b1^t) trust u.
#include <algorithm>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/optim.h"
#include "optim/factories.h"

namespace ds {
namespace {

struct Config {
    double lr, beta1, beta2, eps, weight_decay, max_coeff, min_coeff;
    bool bias_correction, eps_inside;
};

class Lamb final : public Optimizer {
public:
    explicit Lamb(const Config& config) : config_(config) {}
    Defaults defaults(const ParamTraits&) const override { return {config_.lr, config_.weight_decay, config_.beta1, config_.beta2}; }
    std::vector<StateDef> states(const ParamTraits& traits) const override { return adam_states(traits); }
    bool elementwise(const ParamTraits&) const override { return false; }
    int phases(const ParamTraits&) const override { return 2; }
    int64_t scratch_bytes(const ParamTraits& traits, int) const override { return 2 * cpu::squares_blocks(elements(traits.shape)) * 8; }

    void update(int phase, const ParamTraits&, const ParamView& view, const Hyper& hyper, std::byte* scratch, Team team) const override {
        const double beta1 = hyper.momentum.value_or(config_.beta1), beta2 = hyper.beta2.value_or(config_.beta2),
                     t = static_cast<double>(hyper.step);
        const cpu::LambConstants constants{grad_factor(hyper),
                                           grad_bound(hyper),
                                           static_cast<float>(beta1),
                                           static_cast<float>(1 - beta1),
                                           static_cast<float>(beta2),
                                           static_cast<float>(1 - beta2),
                                           static_cast<float>(config_.eps),
                                           static_cast<float>(hyper.weight_decay),
                                           config_.eps_inside};
        const int64_t blocks = cpu::squares_blocks(view.count);
        double *weights = reinterpret_cast<double*>(scratch), *moves = weights + blocks;  // sums of squares of every block
        if (phase == 0) {
            const auto [begin, end] = team.part(blocks);
            for (int64_t block = begin; block < end; ++block) moments(constants, view, block, weights + block, moves + block);
            return;
        }
        const double size = norm(weights, blocks), move = norm(moves, blocks);
        const double trust = size > 0 && move > 0 ? std::clamp(size / move, config_.min_coeff, config_.max_coeff) : 1;
        const double correction = config_.bias_correction ? std::sqrt(1 - std::pow(beta2, t)) / (1 - std::pow(beta1, t)) : 1;
        const auto [begin, end] = team.part(view.count, cpu::kBlock);
        for (int64_t i = begin; i < end; i += cpu::kBlock) {
            const int64_t n = std::min(cpu::kBlock, end - i);
            cpu::lamb_apply(constants, static_cast<float>(hyper.lr * correction * trust), view.weight + i, view.state[0] + i,
                            view.state[1] + i, n);
            if (view.low) cpu::write_low(view.weight + i, i, n, view.low, view.low_type, view.rounding);
        }
    }

private:
    static void moments(const cpu::LambConstants& constants, const ParamView& view, int64_t block, double* weight, double* move) {
        const int64_t first = block * cpu::kSquaresBlock, last = std::min(view.count, first + cpu::kSquaresBlock);
        *weight = *move = 0;
        for (int64_t i = first; i < last; i += cpu::kBlock)  // short runs, since each sums in f32
            cpu::lamb_moments(constants, view.weight + i, view.gradient + i, view.state[0] + i, view.state[1] + i,
                              std::min(cpu::kBlock, last - i), weight, move);
    }
    static double norm(const double* squares, int64_t n) {
        double sum = 0;
        for (int64_t i = 0; i < n; ++i) sum += squares[i];
        return std::sqrt(sum);
    }

    Config config_;
};

}  // namespace

Result<std::unique_ptr<Optimizer>> make_lamb(OptimizerParams& p) {
    Config c{};
    c.lr = p.number("lr", 1e-3);
    std::tie(c.beta1, c.beta2) = p.betas(0.9, 0.999);
    c.eps = p.number("eps", 1e-8);
    c.weight_decay = p.number("weight_decay", 0);
    c.max_coeff = p.number("max_coeff", 10);
    c.min_coeff = p.number("min_coeff", 0.01);
    c.bias_correction = p.flag("bias_correction", true);
    c.eps_inside = p.flag("eps_inside_sqrt", false);
    p.only("amsgrad", false, "the maximum of past second moments is not kept");
    if (p.has("min_coeff") && c.min_coeff > c.max_coeff) p.complain("min_coeff", fmt::format("must not exceed max_coeff, {}", c.max_coeff));
    return finished<Lamb>(p, c);
}

}  // namespace ds
