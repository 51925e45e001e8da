#include "optim/sweep.h"

#include "kernels/cpu/optim.h"

namespace ds {
namespace {

cpu::Rule cpu_rule(SweepRule rule) {
    switch (rule) {
    case SweepRule::adam: return cpu::adam_rule();
    case SweepRule::sgd: return cpu::sgd_rule();
    case SweepRule::adagrad: return cpu::adagrad_rule();
    case SweepRule::rmsprop: return cpu::rmsprop_rule();
    case SweepRule::lion: return cpu::lion_rule();
    case SweepRule::keep: break;  // the host converts without a sweep
    }
    return nullptr;
}

}  // namespace

void sweep(SweepRule rule, std::span<const float> constants, const ParamView& view, float* const* state, int states, Team team) {
    if (view.device) {
        if (team.rank != 0) return;
        BackendSweep call{
            .rule = rule,
            .constants = constants.data(),
            .constant_count = static_cast<int32_t>(constants.size()),
            .states = states,
            .weight = view.weight,
            .gradient = view.gradient,
            .count = view.count,
            .low = view.low,
            .low_dtype = static_cast<int32_t>(view.low_type),
            .rounding = view.rounding,
        };
        for (int i = 0; i < states; ++i) call.state[i] = state[i];
        return (*view.device)(call);
    }
    const auto [begin, end] = team.part(view.count, 1024);
    cpu::sweep(cpu_rule(rule), constants.data(), view.weight, view.gradient, state, states, begin, end, view.low, view.low_type,
               view.rounding);
}

}  // namespace ds
