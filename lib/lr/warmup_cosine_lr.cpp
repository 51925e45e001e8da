// WarmupCosineLR: a share r of each group's rate, from m to 1 over w steps, then along half a cosine to c at step T.
//   r(i) = m + (1 - m) gamma(i),  later  c + (1 - c) (1 + cos(pi q)) / 2  with  q = min(1, (i - w + 1) / max(1, T - w)).
// Before the first step the rate is 0, not m. deepspeed/runtime/lr_schedules.py.
#include <numbers>

#include "lr/factories.h"
#include "lr/warmup.h"

namespace ds {
namespace {

class WarmupCosineLR final : public Schedule {
public:
    WarmupCosineLR(Params& params, ScheduleGroups groups) : Schedule(std::move(groups)), warmup_(params) {
        total_ = params.integer("total_num_steps", std::nullopt);
        warmup_min_ = params.number("warmup_min_ratio", 0.0);
        cos_min_ = params.number("cos_min_ratio", 0.0001);
        iteration_ = last_iteration(params);
        if (!warmup_.warning.empty()) warnings_.push_back(warmup_.warning);
        if (total_ < warmup_.steps)
            warnings_.push_back(
                fmt::format("config: scheduler.params.total_num_steps: {} is less than warmup_num_steps {}", total_, warmup_.steps));
        if (iteration_ == -1) lr_.assign(lr_.size(), 0.0);
    }

    void place() override {
        const double r = ratio(iteration_);
        for (size_t k = 0; k < lr_.size(); ++k) lr_[k] = base_[k] * r;
    }

private:
    double ratio(int64_t i) const {
        if (warmup_.covers(i)) return warmup_min_ + warmup_.gamma(i) * (1.0 - warmup_min_);
        const double window = static_cast<double>(std::max<int64_t>(1, total_ - warmup_.steps));
        const double q = std::min(1.0, static_cast<double>(i - warmup_.steps + 1) / window);
        return std::max(0.0, cos_min_ + (1.0 - cos_min_) * ((1 + std::cos(std::numbers::pi * q)) / 2));
    }

    Warmup warmup_;
    int64_t total_;
    double warmup_min_, cos_min_;
};

}  // namespace

std::unique_ptr<Schedule> make_warmup_cosine_lr(Params& params, ScheduleGroups groups) {
    return std::make_unique<WarmupCosineLR>(params, std::move(groups));
}

}  // namespace ds
