// What a run shows of its steps: the curves of loss and learning rate, and the timeline of one step.
//
// Curves are thinned as they grow: every stride-th step is kept, and the stride doubles when the list is full, so a long run costs no more
// than a short one and a resumed run, which finds them in its checkpoint, continues them.
#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

#include "base/json.h"
#include "exec/plan.h"

namespace ds {

class RunRecord {
public:
    using Time = std::chrono::steady_clock::time_point;
    struct Point {
        int64_t step;
        double loss, lr;
    };

    int64_t step() const { return steps_; }                                        // the one under way, counted since the engine was made
    bool wants_step() const;                                                       // its timeline is kept
    double microseconds(Time time) const;                                          // since it began
    void add_spans(const Plan& plan, const std::vector<Span>& spans, Time began);  // spans: counted from there
    void add_span(const char* name, Time begin, Time end);                         // what the engine does beside plans
    double end_step(int64_t step, double loss, double lr);                         // its seconds; step: its number in the curves

    Json save_curves() const;
    void restore_curves(const Json& saved);

    void forget_plan() { plan_ = nullptr; }
    const std::vector<Point>& curves() const { return curves_; }
    const std::vector<Span>& timeline() const { return timeline_; }
    const Plan* plan() const { return plan_.get(); }  // of the timeline; null: there is none yet

private:
    std::vector<Point> curves_;
    int64_t stride_ = 1, steps_ = 0, recorded_ = -1;
    std::vector<Span> timeline_;  // of the step recorded_
    std::shared_ptr<const Plan> plan_;
    Time began_ = std::chrono::steady_clock::now();
};

}  // namespace ds
