// A plan on a device: this thread queues every kernel; nothing waits until somebody reads a result. From the second run on, a part whose addresses stay
// is replayed as one recorded graph.
#include <chrono>

#include "comm/communicator.h"
#include "exec/plan.h"
#include "ir/op.h"

namespace ds {
namespace {

using Clock = std::chrono::steady_clock;
double microseconds(Clock::time_point begin, Clock::time_point end) { return std::chrono::duration<double, std::micro>(end - begin).count(); }

}  // namespace

Plan::~Plan() { forget_recordings(); }

void Plan::forget_recordings() {
    for (Recording& r : recordings_) {
        if (r.graph) device_->forget(r.graph);
        r = {};
    }
}

Status Plan::run_on_device(Part part, const Runtime& given, const CancelFlag* cancel, std::vector<Span>* timeline) {
    Runtime runtime = given;
    runtime.queue = device_->queue();
    DS_CHECK(device_->begin(runtime.seed, runtime.step));
    Recording& recording = recordings_[static_cast<size_t>(part)];
    if (timeline || !records_) return queue_steps(part, runtime, cancel, timeline);
    if (!recording.graph) {
        if (recording.runs++ == 0) return queue_steps(part, runtime, cancel, nullptr);  // a shape that comes once isn't worth it
        DS_CHECK(device_->record());
        Status status = queue_steps(part, runtime, cancel, nullptr);
        auto graph = device_->recorded();
        DS_CHECK(status);
        if (!graph.ok()) return std::move(graph).status();
        recording.graph = *graph;
    }
    if (cancel && cancel->on()) return Status(Code::E_CANCELLED, "the call was cancelled before the kernels ran");
    return device_->replay(recording.graph);
}

Status Plan::queue_steps(Part part, const Runtime& runtime, const CancelFlag* cancel, std::vector<Span>* timeline) {
    const auto start = Clock::now();
    for (size_t i = first_of(part); i < end_of(part); ++i) {
        if (cancel && cancel->on()) return Status(Code::E_CANCELLED, "the call was cancelled between two kernels");
        const Step& step = steps_[i];
        const Call call = call_of(step, runtime);
        const auto from = timeline ? Clock::now() : start;
        for (const Phase phase : step.prepared.phases) phase(call, Team{0, 1});
        if (timeline) {  // times are true at the price of waiting
            DS_CHECK(device_->finish());
            timeline->push_back({0, step.node->op->name.data(), microseconds(start, from), microseconds(start, Clock::now())});
        }
    }
    return device_->status();
}

}  // namespace ds
