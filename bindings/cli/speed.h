// How fast this machine is at the work of a training step, measured in a fraction of a second by a small engine.
#pragma once

#include "command.h"

namespace dsrt::cli {

struct Speed {
    double flops_a_second;       // products forward and backward, all threads, in the config's precision
    double parameters_a_second;  // updates by the config's optimizer
};

Speed measure_speed(const Json& config);

// What a step of a plan's report would take at that speed. Ranks are threads of this machine, so they share it.
Json predicted_time(const Json& report, const Speed& speed);

}  // namespace dsrt::cli
