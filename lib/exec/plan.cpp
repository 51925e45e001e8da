#include "exec/plan.h"

#include <algorithm>
#include <chrono>

#include "base/log.h"
#include "comm/communicator.h"
#include "ir/host_op.h"
#include "ir/op.h"

namespace ds {
namespace {

using Clock = std::chrono::steady_clock;
double microseconds(Clock::time_point begin, Clock::time_point end) {
    return std::chrono::duration<double, std::micro>(end - begin).count();
}

}  // namespace

Result<std::unique_ptr<Plan>> Plan::compile(Graph graph, Backend backend, const Workers& workers, Device* device, Gradients gradients) {
    auto plan = std::make_unique<Plan>();
    plan->graph_ = std::move(graph);
    plan->device_ = device;
    plan->memory_ = group_values(plan->graph_, gradients);
    DS_CHECK(plan->choose_kernels(backend, workers.size()));
    for (size_t i = 0; i < plan->memory_.complete.size(); ++i) plan->ripe_[plan->steps_up_to(plan->memory_.complete[i])].push_back(i);
    std::vector<int64_t> scratch(plan->graph_.nodes.size(), 0);
    for (const Step& step : plan->steps_) scratch[static_cast<size_t>(step.node_index)] = step.prepared.scratch_bytes;
    if (device) plan->keep_for_exchanges(plan->graph_);
    place_groups(plan->graph_, scratch, plan->memory_);
    plan->tickets_ = std::make_unique<std::atomic<int64_t>[]>(static_cast<size_t>(plan->ticket_count_) + 1);
    return plan;
}

Tensor Plan::tensor_of(ValueId id) const {
    Tensor t;
    if (id == kNone || memory_.of[static_cast<size_t>(id)].group < 0) return t;
    const Type& type = graph_.type(id);
    t.dtype = type.dtype;
    if (graph_.value(id).kind == Kind::rounded) t.rounded = std::exchange(t.dtype, DType::f32);
    t.rank = static_cast<int32_t>(type.shape.size());
    std::copy(type.shape.begin(), type.shape.end(), t.dims);
    t.row_stride = memory_.of[static_cast<size_t>(id)].row_stride;
    t.present = true;
    return t;
}

Status Plan::choose_kernels(Backend backend, int threads) {
    steps_.reserve(graph_.nodes.size());
    const std::vector<int> uses = use_counts(graph_);
    bool in_backward = false, in_weights = false;
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
        const Node& node = graph_.nodes[i];
        if (node.backward && !in_backward) {
            in_backward = true;
            first_backward_ = steps_.size();
        }
        if (node.weights && !in_weights) {
            in_weights = true;
            first_weights_ = steps_.size();
        }
        flops_ += cost_of(graph_, node, uses).flops;
        if (memory_.skipped[i]) continue;
        Step step{.node = &node, .node_index = static_cast<int>(i), .first_ticket = ticket_count_};
        for (const ValueId id : node.in) step.in.push_back(tensor_of(id));
        if (!node.op->has_variadic_inputs()) step.in.resize(node.op->inputs.size());
        for (const ValueId id : node.out) step.out.push_back(tensor_of(id));
        if (!node.op->has_variadic_outputs()) step.out.resize(std::max(step.out.size(), node.op->outputs.size()));
        if (host_op(node)) host_steps_.push_back(steps_.size());
        else DS_CHECK(choose_kernel(step, backend, threads));
        ticket_count_ += static_cast<int>(step.prepared.phases.size());
        steps_.push_back(std::move(step));
    }
    if (!in_backward) first_backward_ = steps_.size();
    if (!in_weights) first_weights_ = steps_.size();
    return ok();
}

const KernelList* Plan::kernels(std::string_view op, Backend backend) const {
    if (!device_) return kernels_of(op, backend);
    return backend == Backend::device ? device_->kernels(op) : nullptr;  // the oracle can't read a device's memory
}

// The backend's kernels, best first, then the oracle: slow, but it serves every shape and type.
Status Plan::choose_kernel(Step& step, Backend backend, int threads) {
    const Node& node = *step.node;
    const Request request{step.in, step.out, node.attrs.get(), threads, device_ ? device_->queue() : nullptr};
    std::string reasons;
    for (const Backend from : {backend, Backend::ref}) {
        const KernelList* list = kernels(node.op->name, from);
        if (!list) continue;
        for (const KernelImpl& kernel : *list) {
            if (const char* why_not = kernel.why_not(request)) {
                reasons += fmt::format("{}{}: {}", reasons.empty() ? "" : "; ", kernel.name, why_not);
                continue;
            }
            auto prepared = kernel.prepare(request);
            if (!prepared.ok()) return std::move(std::move(prepared).status()).within(node.op->name);
            step.kernel = &kernel;
            step.prepared = std::move(prepared).value();
            if (!reasons.empty()) log(Level::trace, "dispatch", "{}: {} ({})", node.op->name, kernel.name, reasons);
            return ok();
        }
    }
    return fail(Code::E_UNSUPPORTED, "{}: no kernel {}serves these shapes and types ({})", node.op->name, device_ ? "of the device " : "",
                reasons.empty() ? "there is none" : reasons);
}

void Plan::place(std::byte* arena, const std::function<void*(Kind, ValueId)>& buffer_of) {
    const auto before = std::move(bases_);
    const bool moved = std::exchange(arena_, arena) != arena;
    bases_.assign(memory_.groups.size(), nullptr);
    for (size_t i = 0; i < memory_.groups.size(); ++i) {
        const Group& g = memory_.groups[i];
        bases_[i] = in_arena(g) ? static_cast<void*>(arena + g.arena_offset) : buffer_of(g.kind, g.of);
    }
    if (!moved && bases_ == before) return;
    forget_recordings();
    place_steps();
}

void Plan::move_to(std::byte* arena) {
    if (arena == arena_) return;
    arena_ = arena;
    forget_recordings();
    for (size_t i = 0; i < memory_.groups.size(); ++i)
        if (const Group& g = memory_.groups[i]; in_arena(g)) bases_[i] = arena + g.arena_offset;
    place_steps();
}

void Plan::place_steps() {
    for (Step& step : steps_) {
        for (size_t i = 0; i < step.node->in.size(); ++i) step.in[i].data = step.node->in[i] == kNone ? nullptr : address(step.node->in[i]);
        for (size_t i = 0; i < step.node->out.size(); ++i) step.out[i].data = address(step.node->out[i]);
    }
    if (device_) order_exchanges();
}

void* Plan::address(ValueId id) const {
    const Placement& p = memory_.of[static_cast<size_t>(id)];
    return p.group < 0 ? nullptr : static_cast<std::byte*>(bases_[static_cast<size_t>(p.group)]) + p.offset;
}

Call Plan::call_of(const Step& step, const Runtime& runtime) const {
    return {step.in.data(),
            step.out.data(),
            step.node->attrs.get(),
            step.prepared.state.get(),
            arena_ + memory_.scratch[static_cast<size_t>(step.node_index)],
            &runtime,
            nullptr};
}

size_t Plan::steps_up_to(int node) const {
    return static_cast<size_t>(
        std::upper_bound(steps_.begin(), steps_.end(), node, [](int n, const Step& step) { return n < step.node_index; }) - steps_.begin());
}

void Plan::Watch::note(int thread, const char* name, Clock::time_point from) {
    spans[static_cast<size_t>(thread)].push_back({thread, name, microseconds(start, from), microseconds(start, Clock::now())});
}

Status Plan::run(Part part, const Runtime& runtime, Workers& workers, const CancelFlag* cancel, const Company& company) {
    if (device_) return run_on_device(part, runtime, cancel, company.timeline, company.beside);
    for (int i = 0; i <= ticket_count_; ++i) tickets_[static_cast<size_t>(i)].store(0, std::memory_order_relaxed);
    stopped_.store(0, std::memory_order_relaxed);
    failed_ = -1;
    Watch watch{.progress = company.progress};
    watch.spans.resize(company.timeline ? static_cast<size_t>(workers.size()) : 0);
    for (size_t begin = first_of(part), end = end_of(part); begin < end && !stopped_.load(std::memory_order_relaxed);) {
        const auto ripe = company.consumer ? ripe_.upper_bound(begin) : ripe_.end();
        const size_t until = ripe == ripe_.end() ? end : std::min(ripe->first, end);
        DS_CHECK(run_steps(begin, until, runtime, workers, cancel, watch));
        begin = until;
        if (ripe != ripe_.end() && ripe->first == until && !stopped_.load(std::memory_order_relaxed))
            DS_CHECK(consume(ripe->second, *company.consumer, watch));
    }
    for (auto& list : watch.spans) company.timeline->insert(company.timeline->end(), list.begin(), list.end());
    if (runtime.links && runtime.links->failed()) {
        Status status = runtime.links->status();
        if (failed_ < 0) return status;
        const Node& node = *steps_[static_cast<size_t>(failed_)].node;
        return std::move(status).within(
            fmt::format("{} of {}", node.op->name,
                        graph_.value(node.in.empty() || node.in.front() == kNone ? node.out.front() : node.in.front()).name));
    }
    return stopped_.load(std::memory_order_relaxed) ? Status(Code::E_CANCELLED, "the call was cancelled between two kernels") : ok();
}

// The workers' steps, with the host's ops between them.
Status Plan::run_steps(size_t begin, size_t end, const Runtime& runtime, Workers& workers, const CancelFlag* cancel, Watch& watch) {
    while (begin < end && !stopped_.load(std::memory_order_relaxed)) {
        const auto op = std::lower_bound(host_steps_.begin(), host_steps_.end(), begin);
        const size_t until = op == host_steps_.end() ? end : std::min(*op, end);
        workers.run([&](Team team) { work(begin, until, runtime, team, workers.barrier(), cancel, watch); });
        if (until < end && !stopped_.load(std::memory_order_relaxed)) DS_CHECK(call_host(steps_[until]));
        begin = until + 1;
    }
    return ok();
}

void Plan::work(size_t begin, size_t end, const Runtime& runtime, Team team, Barrier& barrier, const CancelFlag* cancel, Watch& watch) {
    for (size_t i = begin; i < end; ++i) {
        const Step& step = steps_[i];
        if (team.rank == 0 && ((cancel && cancel->on()) || (runtime.links && runtime.links->failed())))
            stopped_.store(static_cast<int>(i) + 1, std::memory_order_relaxed);
        Call call = call_of(step, runtime);
        const auto from = watch.spans.empty() ? watch.start : Clock::now();
        for (size_t phase = 0; phase < step.prepared.phases.size(); ++phase) {
            call.ticket = &tickets_[static_cast<size_t>(step.first_ticket) + phase];
            step.prepared.phases[phase](call, team);
            if (!watch.spans.empty() && phase + 1 == step.prepared.phases.size()) watch.note(team.rank, step.node->op->name.data(), from);
            barrier.arrive_and_wait();
        }
        if (watch.progress && team.rank == 0) watch.progress->done(static_cast<int64_t>(i) + 1);
        if (team.rank == 0 && failed_ < 0 && runtime.links && runtime.links->failed()) failed_ = static_cast<int>(i);
        // Set before the barrier that every thread has just passed, for this step or an earlier one: all leave together.
        const int stop = stopped_.load(std::memory_order_relaxed);
        if (stop && stop <= static_cast<int>(i) + 1) return;
    }
}

const std::map<std::string, int64_t>& Plan::gradient_steps() {
    if (!gradient_steps_.empty()) return gradient_steps_;
    std::map<ValueId, int> made;  // by which node
    for (size_t i = 0; i < graph_.nodes.size(); ++i)
        for (const ValueId id : graph_.nodes[i].out) made[id] = static_cast<int>(i);
    for (const auto& [param, gradient] : graph_.grads) {
        // Its node's step; a node without one is a view of what an earlier one made.
        const size_t before = steps_up_to(made.at(gradient) - 1);
        gradient_steps_[graph_.value(param).name] = static_cast<int64_t>(std::min(before + 1, steps_.size()));
    }
    return gradient_steps_;
}

Status Plan::consume(const std::vector<size_t>& gradients, const Consumer& consumer, Watch& watch) const {
    const auto from = Clock::now();
    for (const size_t i : gradients) {
        const auto& [param, gradient] = graph_.grads[i];
        DS_CHECK(consumer.take(graph_.value(param).name, static_cast<float*>(address(gradient))));
    }
    if (!watch.spans.empty()) watch.note(0, consumer.name, from);
    return ok();
}

// On the thread that called, as the host's other callbacks; the workers wait. Floats come as f32, whatever the products around the op have.
Status Plan::call_host(const Step& step) const {
    std::vector<std::vector<float>> copies;
    const auto view = [&](const Tensor& t, bool result) {
        HostValue v{t.data, t.dtype, Shape(t.dims, t.dims + t.rank)};
        if (!is_float(t.dtype) || t.dtype == DType::f32 || !t.data) return v;
        copies.emplace_back(static_cast<size_t>(t.count()));
        if (!result) convert(t.data, t.dtype, copies.back().data(), DType::f32, t.count());
        v.data = copies.back().data();
        v.dtype = DType::f32;
        return v;
    };
    copies.reserve(step.in.size() + step.out.size());
    std::vector<HostValue> in, out;
    for (const Tensor& t : step.in) in.push_back(view(t, false));
    for (const Tensor& t : step.out) out.push_back(view(t, true));
    DS_CHECK(host_op(*step.node)->run(step.node->attrs, in, out));
    for (size_t i = 0; i < out.size(); ++i)
        if (out[i].data != step.out[i].data) convert(out[i].data, DType::f32, step.out[i].data, step.out[i].dtype, step.out[i].count());
    return ok();
}

std::string Plan::describe() const {
    std::string text;
    for (const Step& step : steps_) {
        text += fmt::format("{} {} ->", step.node->op->name, step.kernel ? step.kernel->name : "of the host");
        for (const ValueId id : step.node->out) text += " " + to_string(graph_.type(id));
        text += step.node->backward ? " (backward)\n" : "\n";
    }
    return text;
}

}  // namespace ds
