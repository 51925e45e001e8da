// ExponentialLR: every step multiplies the rate by gamma. torch/optim/lr_scheduler.py.
#include "lr/factories.h"

namespace ds {
namespace {

class ExponentialLR final : public Schedule {
public:
    ExponentialLR(Params& params, ScheduleGroups groups) : Schedule(std::move(groups)), gamma_(params.number("gamma", std::nullopt)) {
        iteration_ = 0;
    }
    void advance() override {
        for (double& lr : lr_) lr *= gamma_;
    }

private:
    double gamma_;
};

}  // namespace

std::unique_ptr<Schedule> make_exponential_lr(Params& params, ScheduleGroups groups) {
    return std::make_unique<ExponentialLR>(params, std::move(groups));
}

}  // namespace ds
