// WarmupLR and WarmupDecayLR: from min to max over w steps, then constant, or falling in a line to 0 at step T.
//   lr(i) = min + (max - min) * g(i),   g = gamma(i) while i < w (warmup.h), later 1, or max(0, (T - i) / max(1, T - w)).
// deepspeed/runtime/lr_schedules.py.
#include <algorithm>

#include "lr/factories.h"
#include "lr/warmup.h"

namespace ds {
namespace {

class WarmupLR final : public Schedule {
public:
    WarmupLR(Params& params, ScheduleGroups groups, bool decay) : Schedule(std::move(groups)), warmup_(params) {
        const size_t n = base_.size();
        if (decay) total_ = params.integer("total_num_steps", std::nullopt);
        min_ = params.per_group("warmup_min_lr", std::vector<double>(n, 0.0), n);
        if (decay || params.has("warmup_max_lr")) max_ = params.per_group("warmup_max_lr", std::vector<double>(n, 0.001), n);
        if (decay && !params.has("warmup_max_lr") && std::any_of(base_.begin(), base_.end(), [](double lr) { return lr != 0.001; }))
            warnings_.push_back(
                "config: scheduler.params.warmup_max_lr: is not given, so WarmupDecayLR rises to 0.001 as DeepSpeed's does, "
                "not to optimizer.params.lr");
        iteration_ = last_iteration(params);
        if (!warmup_.warning.empty()) warnings_.push_back(warmup_.warning);
        if (total_ && *total_ < warmup_.steps)
            warnings_.push_back(
                fmt::format("config: scheduler.params.total_num_steps: {} is less than warmup_num_steps {}", *total_, warmup_.steps));
        if (iteration_ == -1) lr_ = min_;
    }

    void place() override {
        const double g = rise(iteration_);
        const std::vector<double>& max = max_.empty() ? base_ : max_;
        for (size_t k = 0; k < lr_.size(); ++k) lr_[k] = min_[k] + (max[k] - min_[k]) * g;
    }

private:
    double rise(int64_t i) const {
        if (warmup_.covers(i)) return warmup_.gamma(i);
        if (!total_) return 1;
        return std::max(0.0, static_cast<double>(*total_ - i) / std::max(1.0, static_cast<double>(*total_ - warmup_.steps)));
    }

    Warmup warmup_;
    std::optional<int64_t> total_;
    std::vector<double> min_, max_;  // without max_ up to the rates of the optimizer's settings
};

}  // namespace

std::unique_ptr<Schedule> make_warmup_lr(Params& params, ScheduleGroups groups) {
    return std::make_unique<WarmupLR>(params, std::move(groups), false);
}
std::unique_ptr<Schedule> make_warmup_decay_lr(Params& params, ScheduleGroups groups) {
    return std::make_unique<WarmupLR>(params, std::move(groups), true);
}

}  // namespace ds
