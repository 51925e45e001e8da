#include "lr/loss_scale.h"

#include <algorithm>
#include <cmath>

namespace ds {

void LossScaler::update(bool overflow) {
    if (options_.dynamic) {
        if (overflow) {
            if (options_.hysteresis == 1 || left_ == 1) scale_ = std::max(scale_ / 2, options_.minimum);
            else --left_;
            last_overflow_ = iteration_;
        } else {
            if (options_.consecutive_hysteresis) left_ = options_.hysteresis;
            const int64_t clean = iteration_ - last_overflow_ - 1;
            if (options_.window > 0 && clean > 0 && clean % options_.window == 0) {
                if (!options_.consecutive_hysteresis) left_ = options_.hysteresis;
                scale_ *= 2;
            }
        }
    }
    ++iteration_;
}

Json LossScaler::state() const {
    return {{"scale", scale_}, {"hysteresis", left_}, {"iteration", iteration_}, {"last_overflow", last_overflow_}};
}

Status LossScaler::restore(const Json& state) {
    for (const char* name : {"scale", "hysteresis", "iteration", "last_overflow"})
        if (!state.is_object() || !state.contains(name) || !state[name].is_number() || (name[0] != 's' && !state[name].is_number_integer()))
            return fail(Code::E_CORRUPT, "loss scale state: {} must be a number", name);
    const double scale = state["scale"];
    if (!(scale > 0) || !std::isfinite(scale)) return fail(Code::E_CORRUPT, "loss scale state: scale must be above 0, is {}", scale);
    scale_ = scale;
    left_ = state["hysteresis"], iteration_ = state["iteration"], last_overflow_ = state["last_overflow"];
    return ok();
}

}  // namespace ds
