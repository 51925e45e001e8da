// CosineAnnealingLR: half a cosine from the group's rate to eta_min over T_max steps, back over the next T_max, and so on.
// Torch's chained form, each rate from the one before, so that a rate set by hand is carried on:
//   lr(i) = (1 + cos(pi i / T)) / (1 + cos(pi (i-1) / T)) (lr(i-1) - eta_min) + eta_min,
// but lr(i-1) + (base - eta_min) (1 - cos(pi / T)) / 2 on the first step up, where the quotient would be 0/0.
// Loshchilov, Hutter 2017 (arXiv 1608.03983), without restarts; torch/optim/lr_scheduler.py.
#include <cmath>
#include <numbers>

#include "lr/factories.h"

namespace ds {
namespace {

class CosineAnnealingLR final : public Schedule {
public:
    CosineAnnealingLR(Params& params, ScheduleGroups groups) : Schedule(std::move(groups)) {
        period_ = params.integer("T_max", std::nullopt, kFromOne);
        eta_min_ = params.number("eta_min", 0.0);
        iteration_ = 0;
    }

    void advance() override {
        const double pi = std::numbers::pi, t = static_cast<double>(period_), i = static_cast<double>(iteration_);
        const bool turns_up = iteration_ > period_ && (iteration_ - 1 - period_) % (2 * period_) == 0;
        for (size_t k = 0; k < lr_.size(); ++k) {
            if (turns_up) lr_[k] += (base_[k] - eta_min_) * (1 - std::cos(pi / t)) / 2;
            else lr_[k] = (1 + std::cos(pi * i / t)) / (1 + std::cos(pi * (i - 1) / t)) * (lr_[k] - eta_min_) + eta_min_;
        }
    }

private:
    int64_t period_;
    double eta_min_;
};

}  // namespace

std::unique_ptr<Schedule> make_cosine_annealing_lr(Params& params, ScheduleGroups groups) {
    return std::make_unique<CosineAnnealingLR>(params, std::move(groups));
}

}  // namespace ds
