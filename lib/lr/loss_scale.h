// The loss scale of fp16: the loss is multiplied by S so that small gradients survive f16, and gradients are divided by it again.
//
// Dynamic: an overflow halves S once `hysteresis` of them have come; `window` clean steps after the last overflow double it. At the minimum
// the scale stays and steps go on being skipped; it never raises. Static: S is fixed, and an overflow still skips its step.
// The rule is deepspeed/runtime/fp16/loss_scaler.py's DynamicLossScaler, here for every ZeRO stage.
#pragma once

#include "base/json.h"
#include "base/status.h"

namespace ds {

struct LossScaleOptions {
    bool dynamic = true;
    double initial = 65536;  // the static scale, or the first dynamic one
    int64_t window = 1000;
    int64_t hysteresis = 2;
    bool consecutive_hysteresis = false;  // every clean step restores the hysteresis
    double minimum = 1;
};

class LossScaler {
public:
    explicit LossScaler(LossScaleOptions options) : options_(options), scale_(options.initial), left_(options.hysteresis) {}

    double scale() const { return scale_; }  // S of the coming step: read it before update(), for scaling and unscaling alike
    void update(bool overflow);              // once a step, applied or skipped

    Json state() const;
    Status restore(const Json& state);

private:
    LossScaleOptions options_;
    double scale_;
    int64_t left_;  // overflows until the scale is halved
    int64_t iteration_ = 0;
    int64_t last_overflow_ = -1;
};

}  // namespace ds
