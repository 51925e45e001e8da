// Lion (Chen et al. 2023, arXiv 2302.06675):  c = b1 m + (1-b1) g;  w = w (1 - lr weight_decay) - lr sign(c);  m = b2 m + (1-b2) g.
// sign(0) = 0: a weight that never saw a gradient stays (DeepSpeed's kernels move it by lr one way or the other).
#include "optim/factories.h"
#include "optim/sweep.h"

namespace ds {
namespace {

struct Config {
    double lr, beta1, beta2, weight_decay;
};

class Lion final : public Optimizer {
public:
    explicit Lion(const Config& config) : config_(config) {}
    Defaults defaults(const ParamTraits&) const override { return {config_.lr, config_.weight_decay, config_.beta1, config_.beta2}; }
    std::vector<StateDef> states(const ParamTraits& traits) const override { return {{"exp_avg", Moment::first, traits.shape}}; }
    void update(int, const ParamTraits&, const ParamView& view, const Hyper& hyper, std::byte*, Team team) const override {
        const double beta1 = hyper.momentum.value_or(config_.beta1), beta2 = hyper.beta2.value_or(config_.beta2);
        const float constants[] = {grad_factor(hyper),           grad_bound(hyper),
                                   static_cast<float>(beta1),    static_cast<float>(1 - beta1),
                                   static_cast<float>(beta2),    static_cast<float>(1 - beta2),
                                   static_cast<float>(hyper.lr), static_cast<float>(1 - hyper.lr * hyper.weight_decay)};
        sweep(SweepRule::lion, constants, view, view.state, 1, team);
    }

private:
    Config config_;
};

}  // namespace

Result<std::unique_ptr<Optimizer>> make_lion(OptimizerParams& p) {
    const double lr = p.number("lr", 1e-3);
    const auto [beta1, beta2] = p.betas(0.9, 0.999);
    return finished<Lion>(p, Config{lr, beta1, beta2, p.number("weight_decay", 0)});
}

}  // namespace ds
