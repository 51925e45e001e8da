// OneCycle: the rate rises from min to max over f steps, falls back over s, then decays; momentum mirrors it.
//   k = b/f rising, (f+s-b)/s falling (b = i+1; with n stairs floor(k n)/n);  lr = min + (max-min) k;  momentum = max - (max-min) k.
//   After b = f+s:  t = (b - f - s) / decay_step_size;  lr = min / (1 + lr_rate t);  momentum = max (1 + mom_rate t).
// Smith 2018 (arXiv 1803.09820); deepspeed/runtime/lr_schedules.py. The momentum is the first beta, and the second is held at 0.99.
#include <cmath>

#include "lr/factories.h"
#include "lr/warmup.h"

namespace ds {
namespace {

class OneCycle final : public Schedule {
public:
    OneCycle(Params& params, ScheduleGroups groups) : Schedule(groups) {
        min_lr_ = params.number("cycle_min_lr", std::nullopt);
        max_lr_ = params.number("cycle_max_lr", std::nullopt);
        lr_rate_ = params.number("decay_lr_rate", 0.0);
        first_ = params.number("cycle_first_step_size", 2000.0, kAboveZero);
        second_ = params.number("cycle_second_step_size", first_, kFromZero);
        first_stairs_ = static_cast<double>(params.integer("cycle_first_stair_count", 0, kFromZero));
        second_stairs_ = static_cast<double>(params.integer("cycle_second_stair_count", static_cast<int64_t>(first_stairs_), kFromZero));
        decay_step_ = params.number("decay_step_size", 0.0, kFromZero);
        cycle_momentum_ = params.flag("cycle_momentum", true);
        min_momentum_ = params.number("cycle_min_mom", 0.8);
        max_momentum_ = params.number("cycle_max_mom", 0.9);
        momentum_rate_ = params.number("decay_mom_rate", 0.0);
        iteration_ = last_iteration(params);
        if (cycle_momentum_ && !groups.has_betas) {
            cycle_momentum_ = false;
            warnings_.push_back("config: scheduler.params.cycle_momentum: the optimizer has no betas, so its momentum isn't cycled");
        }
        if (iteration_ == -1) set(min_lr_, min_momentum_);
    }

    void place() override {
        const double total = first_ + second_;
        const double i = static_cast<double>(iteration_);
        if (i < total) {
            const double k = height(i + 1, total);
            return set(min_lr_ + (max_lr_ - min_lr_) * k, max_momentum_ - (max_momentum_ - min_momentum_) * k);
        }
        const double t = decay_step_ == 0 ? 0 : (i - total + 1) / decay_step_;
        set(min_lr_ / (1 + lr_rate_ * t), max_momentum_ * (1 + momentum_rate_ * t));
    }

private:
    void set(double lr, double momentum) {
        lr_.assign(lr_.size(), lr);
        if (!cycle_momentum_) return;
        momentum_.assign(momentum_.size(), momentum);
        second_beta_ = 0.99;
    }

    // The reference goes through the share of the whole cycle; its rounding is kept. Stairs are counted in steps instead, because a share
    // that rounds to just under a stair would lose it.
    double height(double b, double total) const {
        const double x = 1.0 + b / total - std::floor(1 + b / total), turn = first_ / total;
        const bool rising = x <= turn;
        const double stairs = rising ? first_stairs_ : second_stairs_;
        if (stairs == 0) return rising ? x / turn : (x - 1) / (turn - 1);
        const double at = std::fmod(b, total);
        return std::floor(at <= first_ ? at * stairs / first_ : (total - at) * stairs / second_) / stairs;
    }

    double min_lr_, max_lr_, lr_rate_, first_, second_, first_stairs_, second_stairs_, decay_step_, min_momentum_, max_momentum_,
        momentum_rate_;
    bool cycle_momentum_;
};

}  // namespace

std::unique_ptr<Schedule> make_one_cycle(Params& params, ScheduleGroups groups) {
    return std::make_unique<OneCycle>(params, std::move(groups));
}

}  // namespace ds
