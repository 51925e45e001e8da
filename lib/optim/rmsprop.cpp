// RMSprop (Hinton's lecture 6e; torch.optim.RMSprop):  g += weight_decay w;  v = alpha v + (1-alpha) g^2;  centred: v -= (mean of g)^2
// where it divides; b = momentum b + g / (sqrt(v) + eps);  w -= lr b.
#include "optim/factories.h"
#include "optim/sweep.h"

namespace ds {
namespace {

struct Config {
    double lr, alpha, eps, weight_decay, momentum;
    bool centred, maximize;
};

class RmsProp final : public Optimizer {
public:
    explicit RmsProp(const Config& config) : config_(config) {}
    Defaults defaults(const ParamTraits&) const override { return {config_.lr, config_.weight_decay, config_.momentum, {}}; }
    std::vector<StateDef> states(const ParamTraits& traits) const override {
        std::vector<StateDef> defs = {{"square_avg", Moment::second, traits.shape}};
        if (config_.momentum > 0) defs.push_back({"momentum_buffer", Moment::first, traits.shape});
        if (config_.centred) defs.push_back({"grad_avg", Moment::none, traits.shape});
        return defs;
    }
    void update(int, const ParamTraits&, const ParamView& view, const Hyper& hyper, std::byte*, Team team) const override {
        const float constants[] = {grad_factor(hyper, config_.maximize),   grad_bound(hyper),
                                   static_cast<float>(hyper.lr),           static_cast<float>(config_.alpha),
                                   static_cast<float>(1 - config_.alpha),  static_cast<float>(config_.eps),
                                   static_cast<float>(hyper.weight_decay), static_cast<float>(hyper.momentum.value_or(config_.momentum))};
        const int given = config_.momentum > 0 ? 1 : 0;
        float* state[3] = {view.state[0], given ? view.state[1] : nullptr, config_.centred ? view.state[1 + given] : nullptr};
        sweep(SweepRule::rmsprop, constants, view, state, 3, team);
    }

private:
    Config config_;
};

}  // namespace

Result<std::unique_ptr<Optimizer>> make_rmsprop(OptimizerParams& p) {
    const Config c{p.number("lr", 1e-2),    p.number("alpha", 0.99),   p.number("eps", 1e-8),    p.number("weight_decay", 0),
                   p.number("momentum", 0), p.flag("centered", false), p.flag("maximize", false)};
    return finished<RmsProp>(p, c);
}

}  // namespace ds
