#include "engine/run_record.h"

#include <bit>
#include <cmath>

namespace ds {
namespace {

constexpr size_t kMostPoints = 4096;

}  // namespace

// Steps 2, 4, 8, 16 ...: a short run has one to show, and a long one shows its steady state.
bool RunRecord::wants_step() const { return steps_ > 0 && std::has_single_bit(static_cast<uint64_t>(steps_ + 1)); }

double RunRecord::microseconds(Time time) const { return std::chrono::duration<double, std::micro>(time - began_).count(); }

void RunRecord::add_spans(const Plan& plan, const std::vector<Span>& spans, Time began) {
    if (recorded_ != steps_) {
        timeline_.clear();
        recorded_ = steps_;
        plan_ = plan.shared_from_this();
    }
    for (Span span : spans) {
        span.start_us += microseconds(began);
        span.end_us += microseconds(began);
        timeline_.push_back(span);
    }
}

void RunRecord::add_span(const char* name, Time begin, Time end) {
    if (wants_step() && recorded_ == steps_) timeline_.push_back({0, name, microseconds(begin), microseconds(end)});
}

double RunRecord::end_step(int64_t step, double loss, double lr) {
    ++steps_;
    const Time now = std::chrono::steady_clock::now();
    const double seconds = std::chrono::duration<double>(now - std::exchange(began_, now)).count();
    if (step % stride_) return seconds;
    curves_.push_back({step, loss, lr});
    if (curves_.size() < kMostPoints) return seconds;
    stride_ *= 2;
    std::erase_if(curves_, [&](const Point& p) { return p.step % stride_ != 0; });
    return seconds;
}

Json RunRecord::save_curves() const {
    Json points = Json::array();
    for (const Point& p : curves_) points.push_back({p.step, std::isfinite(p.loss) ? Json(p.loss) : Json(), p.lr});
    return {{"stride", stride_}, {"points", std::move(points)}};
}

void RunRecord::restore_curves(const Json& saved) {
    curves_.clear();
    stride_ = saved.value("stride", int64_t{1});
    for (const Json& p : saved.value("points", Json::array()))
        curves_.push_back({p.at(0).get<int64_t>(), p.at(1).is_null() ? NAN : p.at(1).get<double>(), p.at(2).get<double>()});
}

}  // namespace ds
