// LinearLR: a share of the group's rate that moves in a line from start_factor to end_factor over total_iters steps, then stays.
// Torch's chained form:  lr(0) = base start,  lr(i) = lr(i-1) (1 + (end - start) / (n start + (i-1) (end - start)))  for i <= n.
// torch/optim/lr_scheduler.py.
#include "lr/factories.h"

namespace ds {
namespace {

class LinearLR final : public Schedule {
public:
    LinearLR(Params& params, ScheduleGroups groups) : Schedule(std::move(groups)) {
        start_ = params.number("start_factor", 1.0 / 3, kAboveZero);
        end_ = params.number("end_factor", 1.0, kFromZero);
        total_ = params.integer("total_iters", 5, kFromZero);
        if (start_ > 1) params.reject("start_factor", "a number above 0 and at most 1");
        if (end_ > 1) params.reject("end_factor", "a number from 0 to 1");
        iteration_ = 0;
        for (double& lr : lr_) lr *= start_;
    }
    void advance() override {
        if (iteration_ > total_) return;
        const double slope = end_ - start_;
        const double growth = 1 + slope / (static_cast<double>(total_) * start_ + static_cast<double>(iteration_ - 1) * slope);
        for (double& lr : lr_) lr *= growth;
    }

private:
    double start_, end_;
    int64_t total_;
};

}  // namespace

std::unique_ptr<Schedule> make_linear_lr(Params& params, ScheduleGroups groups) {
    return std::make_unique<LinearLR>(params, std::move(groups));
}

}  // namespace ds
