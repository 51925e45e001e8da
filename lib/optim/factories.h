// One factory for each row of optim.def, and what most of them share.
#pragma once

#include "optim/optimizer.h"
#include "optim/params.h"

namespace ds {

using OptimizerFactory = Result<std::unique_ptr<Optimizer>> (*)(OptimizerParams& params);

#define DS_OPTIMIZER(name, factory, text) Result<std::unique_ptr<Optimizer>> factory(OptimizerParams& params);
#include "optim/optim.def"
#undef DS_OPTIMIZER

// The gradient's factor and bound as kernels take them.
inline float grad_factor(const Hyper& hyper, bool maximize = false) {
    return static_cast<float>(maximize ? -hyper.grad_scale : hyper.grad_scale);
}
inline float grad_bound(const Hyper& hyper) { return hyper.clip_value > 0 ? static_cast<float>(hyper.clip_value) : INFINITY; }

// A factory's end: the optimizer, unless a parameter was wrong.
template <class T, class... Args>
Result<std::unique_ptr<Optimizer>> finished(OptimizerParams& params, Args&&... args) {
    DS_CHECK(params.status());
    return std::unique_ptr<Optimizer>(std::make_unique<T>(std::forward<Args>(args)...));
}

// Adam's numbers, shared with Muon's inner Adam.
struct AdamConfig {
    double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
    bool bias_correction = true, decoupled = true;
};
std::vector<StateDef> adam_states(const ParamTraits& traits);
void adam_update(const AdamConfig& config, const ParamView& view, const Hyper& hyper, Team team);

}  // namespace ds
