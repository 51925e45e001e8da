// One elementwise sweep of an optimizer, where the memory is: on the host by kernels/cpu/optim.h, on a device by its backend.
#pragma once

#include <span>

#include "device/backend.h"
#include "optim/optimizer.h"

namespace ds {

// constants: as kernels/cpu/optim.cpp tells for each rule. state: null where the rule's has none.
void sweep(SweepRule rule, std::span<const float> constants, const ParamView& view, float* const* state, int states, Team team);

}  // namespace ds
