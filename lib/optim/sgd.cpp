// SGD with momentum (torch.optim.SGD):  g += weight_decay w;  b = momentum b + (1 - dampening) g (the first b is g);  w -= lr b,
// or lr (g + momentum b) with nesterov (Sutskever et al. 2013).
#include "optim/factories.h"
#include "optim/sweep.h"

namespace ds {
namespace {

struct Config {
    double lr, momentum, dampening, weight_decay;
    bool nesterov, maximize;
};

class Sgd final : public Optimizer {
public:
    explicit Sgd(const Config& config) : config_(config) {}
    Defaults defaults(const ParamTraits&) const override { return {config_.lr, config_.weight_decay, config_.momentum, {}}; }
    std::vector<StateDef> states(const ParamTraits& traits) const override {
        if (config_.momentum == 0) return {};
        return {{"momentum_buffer", Moment::first, traits.shape}};
    }
    void update(int, const ParamTraits&, const ParamView& view, const Hyper& hyper, std::byte*, Team team) const override {
        const double rest = hyper.step == 1 ? 1 : 1 - config_.dampening;
        const float constants[] = {grad_factor(hyper, config_.maximize),
                                   grad_bound(hyper),
                                   static_cast<float>(hyper.lr),
                                   static_cast<float>(hyper.momentum.value_or(config_.momentum)),
                                   static_cast<float>(rest),
                                   static_cast<float>(hyper.weight_decay),
                                   config_.nesterov ? 1.0f : 0.0f};
        sweep(SweepRule::sgd, constants, view, view.state, config_.momentum == 0 ? 0 : 1, team);
    }

private:
    Config config_;
};

}  // namespace

Result<std::unique_ptr<Optimizer>> make_sgd(OptimizerParams& p) {
    const Config c{p.number("lr", 1e-3),        p.number("momentum", 0),   p.number("dampening", 0),
                   p.number("weight_decay", 0), p.flag("nesterov", false), p.flag("maximize", false)};
    if (c.nesterov && (c.momentum <= 0 || c.dampening != 0)) p.complain("nesterov", "needs a momentum above 0 and no dampening");
    return finished<Sgd>(p, c);
}

}  // namespace ds
