// Adam (Kingma, Ba 2014, arXiv 1412.6980) and AdamW (Loshchilov, Hutter 2017, arXiv 1711.05101).
//   m = b1 m + (1-b1) g,  v = b2 v + (1-b2) g^2,  w -= lr (m / (1-b1^t) / (sqrt(v / (1-b2^t)) + eps) + weight_decay w)
// Without decoupling the decay goes into the gradient: g += weight_decay w. As in DeepSpeed, "Adam" is decoupled unless adam_w_mode is
// false.
#include "optim/factories.h"
#include "optim/sweep.h"

namespace ds {

std::vector<StateDef> adam_states(const ParamTraits& traits) {
    return {{"exp_avg", Moment::first, traits.shape}, {"exp_avg_sq", Moment::second, traits.shape}};
}

void adam_update(const AdamConfig& config, const ParamView& view, const Hyper& hyper, Team team) {
    const double beta1 = hyper.momentum.value_or(config.beta1), beta2 = hyper.beta2.value_or(config.beta2),
                 t = static_cast<double>(hyper.step);
    const double correction1 = config.bias_correction ? 1 - std::pow(beta1, t) : 1,
                 correction2 = config.bias_correction ? 1 - std::pow(beta2, t) : 1;
    const double decay = hyper.weight_decay;
    const float constants[] = {grad_factor(hyper),
                               grad_bound(hyper),
                               static_cast<float>(beta1),
                               static_cast<float>(1 - beta1),
                               static_cast<float>(beta2),
                               static_cast<float>(1 - beta2),
                               static_cast<float>(1 / std::sqrt(correction2)),
                               static_cast<float>(config.eps),
                               static_cast<float>(hyper.lr / correction1),
                               static_cast<float>(config.decoupled ? 1 - hyper.lr * decay : 1),
                               static_cast<float>(config.decoupled ? 0 : decay)};
    sweep(SweepRule::adam, constants, view, view.state, 2, team);
}

namespace {

class Adam final : public Optimizer {
public:
    explicit Adam(const AdamConfig& config) : config_(config) {}
    Defaults defaults(const ParamTraits&) const override { return {config_.lr, config_.weight_decay, config_.beta1, config_.beta2}; }
    std::vector<StateDef> states(const ParamTraits& traits) const override { return adam_states(traits); }
    void update(int, const ParamTraits&, const ParamView& view, const Hyper& hyper, std::byte*, Team team) const override {
        adam_update(config_, view, hyper, team);
    }

private:
    AdamConfig config_;
};

AdamConfig read(OptimizerParams& p) {
    AdamConfig c;
    c.lr = p.number("lr", c.lr);
    std::tie(c.beta1, c.beta2) = p.betas(c.beta1, c.beta2);
    c.eps = p.number("eps", c.eps);
    c.weight_decay = p.number("weight_decay", c.weight_decay);
    c.bias_correction = p.flag("bias_correction", true);
    c.decoupled = p.flag("adam_w_mode", true);
    p.flag("torch_adam", false);  // chooses among DeepSpeed's implementations of one rule
    p.only("amsgrad", false, "the maximum of past second moments is not kept");
    p.only("fp32_optimizer_states", true, "moments are kept in f32");
    return c;
}

}  // namespace

Result<std::unique_ptr<Optimizer>> make_adam(OptimizerParams& params) {
    const AdamConfig config = read(params);
    return finished<Adam>(params, config);
}

Result<std::unique_ptr<Optimizer>> make_adamw(OptimizerParams& params) {
    AdamConfig config = read(params);
    config.decoupled = true;  // whatever adam_w_mode says
    return finished<Adam>(params, config);
}

}  // namespace ds
