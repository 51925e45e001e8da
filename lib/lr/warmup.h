// The warm-up that three of DeepSpeed's schedules share:
//   gamma(i) = ln(i+1) / ln(w)  (log, the default)  or  i / w  (linear),  for i < w = max(2, warmup_num_steps).
#pragma once

#include <cmath>
#include <string>

#include "lr/params.h"

namespace ds {

struct Warmup {
    int64_t steps;
    bool linear;
    double inverse_log;
    std::string warning;  // an unknown warmup_type means log, as in DeepSpeed

    explicit Warmup(Params& params) {
        steps = std::max<int64_t>(2, params.integer("warmup_num_steps", 1000, kAboveZero));
        const std::string type = params.text("warmup_type", "log");
        linear = type == "linear";
        if (!linear && type != "log")
            warning = fmt::format("config: scheduler.params.warmup_type: {} is unknown and taken for log; accepted: log, linear", type);
        inverse_log = 1.0 / std::log(static_cast<double>(steps));
    }
    bool covers(int64_t i) const { return i < steps; }
    double gamma(int64_t i) const {
        return linear ? static_cast<double>(i) / static_cast<double>(steps) : inverse_log * std::log(static_cast<double>(i + 1));
    }
};

// Where a schedule starts: -1 (from the beginning), or the number of the last step done by a run that this one continues.
inline int64_t last_iteration(Params& params) { return params.integer("last_batch_iteration", -1, Bounds{-1, true, "of at least -1"}); }

}  // namespace ds
