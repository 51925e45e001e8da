// StepLR: the rate is multiplied by gamma after every step_size steps. torch/optim/lr_scheduler.py.
#include "lr/factories.h"

namespace ds {
namespace {

class StepLR final : public Schedule {
public:
    StepLR(Params& params, ScheduleGroups groups)
        : Schedule(std::move(groups)), size_(params.integer("step_size", std::nullopt, kFromOne)), gamma_(params.number("gamma", 0.1)) {
        iteration_ = 0;
    }
    void advance() override {
        if (iteration_ % size_ == 0)
            for (double& lr : lr_) lr *= gamma_;
    }

private:
    int64_t size_;
    double gamma_;
};

}  // namespace

std::unique_ptr<Schedule> make_step_lr(Params& params, ScheduleGroups groups) {
    return std::make_unique<StepLR>(params, std::move(groups));
}

}  // namespace ds
