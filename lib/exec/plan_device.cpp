// A plan on a device: this thread queues every kernel; nothing waits until somebody reads a result. From the second run on, a part whose addresses stay
// is replayed as recorded graphs: one, or those between exchanges with other devices, which are not recorded (graphs of several devices with NCCL in them may
// wait for each other for ever).
#include <algorithm>
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
    for (const auto& [first, graph] : graphs_) device_->forget(graph);
    graphs_.clear();
    std::fill(std::begin(runs_), std::end(runs_), 0);
}

Status Plan::run_on_device(Part part, const Runtime& given, const CancelFlag* cancel, std::vector<Span>* timeline) {
    Runtime runtime = given;
    runtime.queue = device_->queue();
    DS_CHECK(device_->begin(runtime.seed, runtime.step));
    const size_t end = end_of(part);
    if (timeline || runs_[static_cast<size_t>(part)]++ == 0) return queue_steps(first_of(part), end, runtime, cancel, timeline);  // a shape that comes once isn't worth a graph
    for (size_t begin = first_of(part); begin < end;) {
        if (cancel && cancel->on()) return Status(Code::E_CANCELLED, "the call was cancelled before the kernels ran");
        size_t until = begin;
        while (until < end && !steps_[until].kernel->exchanges) ++until;
        DS_CHECK(until == begin ? queue_steps(begin, ++until, runtime, nullptr, nullptr) : replay_steps(begin, until, runtime));
        begin = until;
    }
    return ok();
}

Status Plan::replay_steps(size_t begin, size_t end, const Runtime& runtime) {
    if (const auto known = graphs_.find(begin); known != graphs_.end()) return device_->replay(known->second);
    DS_CHECK(device_->record());
    Status status = queue_steps(begin, end, runtime, nullptr, nullptr);
    auto graph = device_->recorded();
    DS_CHECK(status);
    if (!graph.ok()) return std::move(graph).status();
    return device_->replay(graphs_[begin] = *graph);
}

Status Plan::queue_steps(size_t begin, size_t end, const Runtime& runtime, const CancelFlag* cancel, std::vector<Span>* timeline) {
    const auto start = Clock::now();
    for (size_t i = begin; i < end; ++i) {
        if (cancel && cancel->on()) return Status(Code::E_CANCELLED, "the call was cancelled between two kernels");
        const Step& step = steps_[i];
        const Call call = call_of(step, runtime);
        const auto from = timeline ? Clock::now() : start;
        if (runtime.links) {
            const ValueId id = step.node->in.empty() || step.node->in.front() == kNone ? step.node->out.front() : step.node->in.front();
            device_->label(step.node->op->name, graph_.value(id).name);
        }
        for (const Phase phase : step.prepared.phases) phase(call, Team{0, 1});
        if (timeline) {  // times are true at the price of waiting
            DS_CHECK(device_->finish());
            timeline->push_back({0, step.node->op->name.data(), microseconds(start, from), microseconds(start, Clock::now())});
        }
    }
    device_->label({});
    return device_->status();
}

}  // namespace ds
