// A plan on a device: this thread queues every kernel; nothing waits until somebody reads a result. From the second run on, a part whose
// addresses stay is replayed as recorded graphs: one, or those between exchanges with other devices, which are not recorded (graphs of
// several devices with NCCL in them may wait for each other for ever).
//
// An exchange runs beside the kernels behind it. The first of them that touches its memory waits for it: for what it writes, or writes what
// it reads.
#include <algorithm>
#include <chrono>
#include <numeric>

#include "comm/communicator.h"
#include "exec/plan.h"
#include "ir/op.h"

namespace ds {
namespace {

using Clock = std::chrono::steady_clock;
double microseconds(Clock::time_point begin, Clock::time_point end) {
    return std::chrono::duration<double, std::micro>(end - begin).count();
}

}  // namespace

Plan::~Plan() { forget_recordings(); }

void Plan::forget_recordings() {
    for (const auto& [steps, graph] : graphs_) device_->forget(graph);
    graphs_.clear();
    std::fill(std::begin(runs_), std::end(runs_), 0);
}

namespace {

struct Bytes {
    const std::byte *begin = nullptr, *end = nullptr;
    bool meets(const Bytes& other) const { return begin < other.end && other.begin < end; }
};

// What a step reads and writes; scratch is written.
struct Footprint {
    std::vector<Bytes> reads, writes;

    void add(std::vector<Bytes>& to, const Tensor& t) {
        if (!t.present || !t.data || t.count() == 0) return;
        const auto* at = static_cast<const std::byte*>(t.data);
        to.push_back({at, at + ((t.rows() - 1) * t.row_stride + t.columns()) * size_of(t.dtype)});
    }
    static bool meet(const std::vector<Bytes>& a, const std::vector<Bytes>& b) {
        return std::any_of(a.begin(), a.end(),
                           [&](const Bytes& x) { return std::any_of(b.begin(), b.end(), [&](const Bytes& y) { return x.meets(y); }); });
    }
    bool needs(const Footprint& earlier) const {
        return meet(writes, earlier.writes) || meet(reads, earlier.writes) || meet(writes, earlier.reads);
    }
};

}  // namespace

constexpr int kNoStep = -2;  // of work beside that is no step of the plan: no step awaits it, the end of the part does

// Exchanges run one behind the other, so that to wait for the last is to wait for all before it.
void Plan::order_exchanges() {
    std::vector<std::pair<int, Footprint>> under_way;
    for (size_t i = 0; i < steps_.size(); ++i) {
        Step& step = steps_[i];
        step.await = -1;
        if (i == first_backward_ || i == first_weights_) under_way.clear();
        if (under_way.empty() && !step.kernel->exchanges) continue;
        Footprint mine;
        for (const Tensor& t : step.in) mine.add(mine.reads, t);
        for (const Tensor& t : step.out) mine.add(mine.writes, t);
        const std::byte* scratch = arena_ + memory_.scratch[static_cast<size_t>(step.node_index)];
        if (step.prepared.scratch_bytes > 0) mine.writes.push_back({scratch, scratch + step.prepared.scratch_bytes});
        if (step.kernel->exchanges) {
            under_way.emplace_back(static_cast<int>(i), std::move(mine));
            continue;
        }
        for (const auto& [exchange, footprint] : under_way)
            if (mine.needs(footprint)) step.await = exchange;
        std::erase_if(under_way, [&](const auto& each) { return each.first <= step.await; });
    }
}

// A bucket of gradients lives until the next one leaves, so that its exchange can go on while that is filled.
void Plan::keep_for_exchanges(const Graph& graph) {
    std::vector<int>& scratch = memory_.scratch_last;
    scratch.resize(graph.nodes.size());
    std::iota(scratch.begin(), scratch.end(), 0);
    int before = -1;
    for (int i = 0; i < static_cast<int>(graph.nodes.size()); ++i) {
        if (graph.nodes[static_cast<size_t>(i)].op->name != "reduce_bucket") continue;
        if (before >= 0) {
            Group& bucket =
                memory_.groups[static_cast<size_t>(memory_.of[static_cast<size_t>(graph.nodes[static_cast<size_t>(before)].in[0])].group)];
            bucket.last = std::max(bucket.last, i);
            scratch[static_cast<size_t>(before)] = i;
        }
        before = i;
    }
}

Status Plan::run_on_device(Part part, const Runtime& given, const CancelFlag* cancel, std::vector<Span>* timeline,
                           const std::vector<Beside>* beside) {
    Runtime runtime = given;
    runtime.queue = device_->queue();
    DS_CHECK(device_->begin(runtime.seed, runtime.step));
    const bool records = !timeline && runs_[static_cast<size_t>(part)]++ > 0;  // a shape that comes once isn't worth a graph
    marks_.clear();
    Status status = [&]() -> Status {
        const size_t end = end_of(part);
        size_t begin = first_of(part);
        for (size_t i = 0; beside && i < beside->size(); ++i) {
            const size_t until = std::clamp(static_cast<size_t>((*beside)[i].steps), begin, end);
            DS_CHECK(run_between(begin, until, runtime, cancel, timeline, records));
            DS_CHECK(run_beside((*beside)[i].queue, marks_[kNoStep]));
            begin = until;
        }
        return run_between(begin, end, runtime, cancel, timeline, records);
    }();
    Status awaited = marks_.empty() ? ok() : device_->await(0);
    return status.ok() ? std::move(awaited) : std::move(status);
}

Status Plan::run_beside(const std::function<Status()>& work, int64_t& mark) {
    DS_CHECK(device_->begin_beside());
    Status status = work();
    auto ended = device_->end_beside();
    DS_CHECK(status);
    if (ended.ok()) mark = *ended;
    return std::move(ended).status();
}

// The steps between those that exchange, or that wait for an exchange.
Status Plan::run_between(size_t begin, size_t end, const Runtime& runtime, const CancelFlag* cancel, std::vector<Span>* timeline,
                         bool records) {
    while (begin < end) {
        if (cancel && cancel->on()) return Status(Code::E_CANCELLED, "the call was cancelled before the kernels ran");
        if (steps_[begin].kernel->exchanges) {
            const auto exchange = [&] { return queue_steps(begin, begin + 1, runtime, nullptr, timeline); };
            DS_CHECK(runtime.links ? run_beside(exchange, marks_[static_cast<int>(begin)]) : exchange());
            ++begin;
            continue;
        }
        if (const auto mark = marks_.find(steps_[begin].await); mark != marks_.end()) DS_CHECK(device_->await(mark->second));
        size_t until = begin + 1;
        while (until < end && !steps_[until].kernel->exchanges && steps_[until].await < 0) ++until;
        DS_CHECK(records ? replay_steps(begin, until, runtime) : queue_steps(begin, until, runtime, cancel, timeline));
        begin = until;
    }
    return ok();
}

Status Plan::replay_steps(size_t begin, size_t end, const Runtime& runtime) {
    if (const auto known = graphs_.find({begin, end}); known != graphs_.end()) return device_->replay(known->second);
    DS_CHECK(device_->record());
    Status status = queue_steps(begin, end, runtime, nullptr, nullptr);
    auto graph = device_->recorded();
    DS_CHECK(status);
    if (!graph.ok()) return std::move(graph).status();
    return device_->replay(graphs_[{begin, end}] = *graph);
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
