// Learning-rate schedules: DeepSpeed's five and torch's, with their state.
//
// A schedule owns the current rate of every parameter group. Its constructor leaves the rate of the first update; step() moves on to the
// next one. Not thread-safe. Semantics: deepspeed/runtime/lr_schedules.py and torch/optim/lr_scheduler.py.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/status.h"

namespace ds {

// What a schedule starts from: the rate of each parameter group as the optimizer's settings give it, and its momentum (the first beta).
struct ScheduleGroups {
    std::vector<double> lr;
    std::vector<double> momentum;  // empty = the optimizer has none
    bool has_betas = false;        // only such optimizers have their momentum cycled
};

class Schedule {
public:
    explicit Schedule(ScheduleGroups groups) : base_(groups.lr), lr_(std::move(groups.lr)), momentum_(std::move(groups.momentum)) {}
    virtual ~Schedule() = default;

    size_t groups() const { return lr_.size(); }
    double lr(size_t group) const { return lr_[group]; }  // of the next update
    double momentum(size_t group) const { return group < momentum_.size() ? momentum_[group] : 0; }
    std::optional<double> second_beta() const { return second_beta_; }  // set by schedules that force it, and the momentum
    int64_t iteration() const { return iteration_; }                    // DeepSpeed's last_batch_iteration, torch's last_epoch
    const std::vector<std::string>& warnings() const { return warnings_; }

    void step() {  // after an update that was applied
        ++iteration_;
        advance();
    }
    // A host's own rate: it holds from the next update on, and is what relative schedules scale from now on.
    void set_lr(size_t group, double lr) { base_[group] = lr_[group] = lr; }
    // Goes on where another of its type is, by its own settings.
    Status follow(const Schedule& other) {
        DS_CHECK(restore(other.state()));
        place();
        return ok();
    }

    Json state() const;
    Status restore(const Json& state);

protected:
    virtual void advance() { place(); }  // sets lr_ (and momentum_) for iteration_
    virtual void place() {}              // the same, in schedules that need no rate before it for that
    virtual void save(Json&) const {}
    virtual Status load(const Json&) { return ok(); }

    std::vector<double> base_;  // the rates of the optimizer's settings
    std::vector<double> lr_;
    std::vector<double> momentum_;
    std::optional<double> second_beta_;
    std::vector<std::string> warnings_;
    int64_t iteration_ = -1;
};

// type "" keeps the rate constant. params: the config's scheduler.params. E_CONFIG names the parameter, its value and what would do.
Result<std::unique_ptr<Schedule>> make_schedule(const std::string& type, const Json& params, ScheduleGroups groups);
std::vector<std::string> schedule_types();

}  // namespace ds
