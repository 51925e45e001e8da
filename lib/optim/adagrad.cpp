// Adagrad (Duchi, Hazan, Singer 2011; torch.optim.Adagrad):  g += weight_decay w;  s += g^2;  w -= lr / (1 + (t-1) lr_decay) g / (sqrt(s) +
// eps). lr 0.01 and eps 1e-10 are torch's and DeepSpeedCPUAdagrad's defaults.
#include "optim/factories.h"
#include "optim/sweep.h"

namespace ds {
namespace {

struct Config {
    double lr, lr_decay, weight_decay, initial, eps;
    bool maximize;
};

class Adagrad final : public Optimizer {
public:
    explicit Adagrad(const Config& config) : config_(config) {}
    Defaults defaults(const ParamTraits&) const override { return {config_.lr, config_.weight_decay, {}, {}}; }
    std::vector<StateDef> states(const ParamTraits& traits) const override {
        return {{"sum", Moment::second, traits.shape, static_cast<float>(config_.initial)}};
    }
    void update(int, const ParamTraits&, const ParamView& view, const Hyper& hyper, std::byte*, Team team) const override {
        const double lr = hyper.lr / (1 + static_cast<double>(hyper.step - 1) * config_.lr_decay);
        const float constants[] = {grad_factor(hyper, config_.maximize), grad_bound(hyper), static_cast<float>(lr),
                                   static_cast<float>(config_.eps), static_cast<float>(hyper.weight_decay)};
        sweep(SweepRule::adagrad, constants, view, view.state, 1, team);
    }

private:
    Config config_;
};

}  // namespace

Result<std::unique_ptr<Optimizer>> make_adagrad(OptimizerParams& p) {
    const Config c{p.number("lr", 1e-2),   p.number("lr_decay", 0),  p.number("weight_decay", 0), p.number("initial_accumulator_value", 0),
                   p.number("eps", 1e-10), p.flag("maximize", false)};
    p.only("amsgrad", false, "DeepSpeed's Adagrad has no use for it either");
    return finished<Adagrad>(p, c);
}

}  // namespace ds
