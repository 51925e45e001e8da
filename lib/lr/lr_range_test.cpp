// LRRangeTest: the rate grows in a line to find where training breaks:  lr = min (1 + rate t),  t = (i+1) / size, floored with staircase.
// Smith 2018 (arXiv 1803.09820); deepspeed/runtime/lr_schedules.py.
#include <cmath>

#include "lr/factories.h"
#include "lr/warmup.h"

namespace ds {
namespace {

class LRRangeTest final : public Schedule {
public:
    LRRangeTest(Params& params, ScheduleGroups groups) : Schedule(std::move(groups)) {
        const size_t n = base_.size();
        min_ = params.per_group("lr_range_test_min_lr", std::vector<double>(n, 1e-3), n);
        size_ = static_cast<double>(params.integer("lr_range_test_step_size", 2000, kAboveZero));
        rate_ = params.number("lr_range_test_step_rate", 1.0);
        staircase_ = params.flag("lr_range_test_staircase", false);
        iteration_ = last_iteration(params);
        if (iteration_ == -1) lr_ = min_;
    }

    void place() override {
        const double t = static_cast<double>(iteration_ + 1) / size_;
        for (size_t k = 0; k < lr_.size(); ++k) lr_[k] = min_[k] * (1 + rate_ * (staircase_ ? std::floor(t) : t));
    }

private:
    std::vector<double> min_;
    double size_, rate_;
    bool staircase_;
};

}  // namespace

std::unique_ptr<Schedule> make_lr_range_test(Params& params, ScheduleGroups groups) {
    return std::make_unique<LRRangeTest>(params, std::move(groups));
}

}  // namespace ds
