// CosineAnnealingWarmRestarts: half a cosine from the group's rate to eta_min, then anew, each period T_mult times as long as the last.
//   lr = eta_min + (base - eta_min) (1 + cos(pi t / T)) / 2.
// Loshchilov, Hutter 2017 (arXiv 1608.03983); torch/optim/lr_scheduler.py.
#include <cmath>
#include <numbers>

#include "lr/factories.h"

namespace ds {
namespace {

class CosineAnnealingWarmRestarts final : public Schedule {
public:
    CosineAnnealingWarmRestarts(Params& params, ScheduleGroups groups) : Schedule(std::move(groups)) {
        period_ = params.integer("T_0", std::nullopt, kFromOne);
        factor_ = params.integer("T_mult", 1, kFromOne);
        eta_min_ = params.number("eta_min", 0.0);
        iteration_ = 0;
    }

    void advance() override {
        if (++since_restart_ >= period_) {
            since_restart_ -= period_;
            // A period past all reach stays as it is.
            if (period_ < (int64_t{1} << 52) / factor_) period_ *= factor_;
        }
        place();
    }
    void place() override {
        const double t = static_cast<double>(since_restart_), period = static_cast<double>(period_);
        for (size_t k = 0; k < lr_.size(); ++k)
            lr_[k] = eta_min_ + (base_[k] - eta_min_) * (1 + std::cos(std::numbers::pi * t / period)) / 2;
    }

private:
    void save(Json& state) const override {
        state["T_cur"] = since_restart_;
        state["T_i"] = period_;
    }
    Status load(const Json& state) override {
        const auto t = state.find("T_cur"), period = state.find("T_i");
        if (t == state.end() || period == state.end() || !t->is_number_integer() || !period->is_number_integer() || *t < 0 || *period < 1)
            return fail(Code::E_CORRUPT, "schedule state: CosineAnnealingWarmRestarts needs T_cur of at least 0 and T_i of at least 1");
        since_restart_ = *t, period_ = *period;
        return ok();
    }

    int64_t period_, factor_, since_restart_ = 0;
    double eta_min_;
};

}  // namespace

std::unique_ptr<Schedule> make_cosine_annealing_warm_restarts(Params& params, ScheduleGroups groups) {
    return std::make_unique<CosineAnnealingWarmRestarts>(params, std::move(groups));
}

}  // namespace ds
