// A plan: what one rank runs for one graph, a flat list of kernel calls with every address fixed.
//
// Compiled once for each batch shape and kept. Memory comes in two parts: an arena that the plans of an engine share, and buffers that the
// engine owns (weights, their shadows, gradients). `place` fills in addresses when either moves; running allocates nothing.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "base/cancel.h"
#include "device/device.h"
#include "exec/memory.h"
#include "exec/workers.h"
#include "ir/graph.h"
#include "kernels/kernel.h"

namespace ds {

enum class Backend { cpu, ref, device };

struct Span {  // of the timeline: what a thread did when, in microseconds since the run began
    int thread = 0;
    const char* name = "";
    double start_us = 0, end_us = 0;
};

// How far a run is, for a thread beside the workers that waits for results.
class Progress {
public:
    void done(int64_t steps) {
        steps_.store(steps, std::memory_order_release);
        steps_.notify_one();
    }
    // Nothing more will be done: all was, or the run has failed.
    void end(bool well) {
        failed_ = !well;
        done(INT64_MAX);
    }
    // Whether so many steps are done; waits for them.
    bool wait_for(int64_t steps) const {
        for (int64_t now = steps_.load(std::memory_order_acquire); now < steps; now = steps_.load(std::memory_order_acquire))
            steps_.wait(now, std::memory_order_acquire);
        return !failed_;
    }

private:
    std::atomic<int64_t> steps_{0};
    std::atomic<bool> failed_{false};
};

// Takes the complete gradient of a parameter, in f32, whose memory is used again when it returns; the workers wait. The time is told in the
// timeline under `name`.
struct Consumer {
    const char* name;
    std::function<Status(const std::string& param, float* gradient)> take;
};

// Work on a device that runs beside a plan's kernels, behind the first so many steps.
struct Beside {
    int64_t steps = 0;
    std::function<Status()> queue;
};

class Plan : public std::enable_shared_from_this<Plan> {
public:
    // Chooses kernels for as many threads as `workers` has, and plans memory. device: the one that runs it, with Backend::device; it
    // outlives the plan.
    static Result<std::unique_ptr<Plan>> compile(Graph graph, Backend backend, const Workers& workers, Device* device = nullptr,
                                                 Gradients gradients = Gradients::kept);
    Plan() = default;
    ~Plan();
    Plan(const Plan&) = delete;

    const Graph& graph() const { return graph_; }
    const MemoryPlan& memory() const { return memory_; }
    int64_t arena_bytes() const { return memory_.arena_bytes; }

    // buffer_of: the engine's memory of a param's weight, a shadow, what is rounded or a param's gradient.
    void place(std::byte* arena, const std::function<void*(Kind, ValueId)>& buffer_of);
    // Memory of a graph operand or result, after place. Dense.
    void* address(ValueId id) const;

    // From one arena to another of its size, after place: so that one plan serves several passes that are under way.
    void move_to(std::byte* arena);

    enum class Part { forward, backward, weights };  // weights: the backward pass's second part (Node::weights), where there is one
    struct Company {                                 // of a run; null: none
        std::vector<Span>* timeline = nullptr;
        Progress* progress = nullptr;                 // on the host
        const std::vector<Beside>* beside = nullptr;  // on a device, in order; when the part is over, all of it is
        const Consumer* consumer = nullptr;           // of gradients that are consumed; on the calling thread
    };
    // Runs one part; DS_E_CANCELLED when the flag was raised meanwhile (null: can't be cancelled).
    Status run(Part part, const Runtime& runtime, Workers& workers, const CancelFlag* cancel, const Company& company);
    Status run(Part part, const Runtime& runtime, Workers& workers, const CancelFlag* cancel) {
        return run(part, runtime, workers, cancel, Company());
    }
    // By parameter: after how many steps, as Progress counts them, its gradient is final.
    const std::map<std::string, int64_t>& gradient_steps();

    double flops() const { return flops_; }
    std::string describe() const;  // one line a call: op, kernel, shapes

private:
    struct Step {
        const Node* node = nullptr;
        const KernelImpl* kernel = nullptr;
        Prepared prepared;
        std::vector<Tensor> in, out;
        int node_index = 0;
        int first_ticket = 0;
        int await = -1;  // the last exchange beside which this step can not run, as they share memory; -1: none
    };
    Status choose_kernels(Backend backend, int threads);
    Status choose_kernel(Step& step, Backend backend, int threads);
    const KernelList* kernels(std::string_view op, Backend backend) const;
    size_t first_of(Part part) const { return part == Part::forward ? 0 : part == Part::backward ? first_backward_ : first_weights_; }
    size_t end_of(Part part) const {
        return part == Part::forward ? first_backward_ : part == Part::backward ? first_weights_ : steps_.size();
    }
    Call call_of(const Step& step, const Runtime& runtime) const;
    Tensor tensor_of(ValueId id) const;
    void place_steps();
    struct Watch {                             // of a run
        std::vector<std::vector<Span>> spans;  // by thread; empty: nobody asked
        std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
        Progress* progress = nullptr;
        void note(int thread, const char* name, std::chrono::steady_clock::time_point from);
    };
    size_t steps_up_to(int node) const;
    Status run_steps(size_t begin, size_t end, const Runtime& runtime, Workers& workers, const CancelFlag* cancel, Watch& watch);
    void work(size_t begin, size_t end, const Runtime& runtime, Team team, Barrier& barrier, const CancelFlag* cancel, Watch& watch);
    Status call_host(const Step& step) const;
    Status consume(const std::vector<size_t>& gradients, const Consumer& consumer, Watch& watch) const;

    // plan_device.cpp
    Status run_on_device(Part part, const Runtime& runtime, const CancelFlag* cancel, std::vector<Span>* timeline,
                         const std::vector<Beside>* beside);
    Status run_between(size_t begin, size_t end, const Runtime& runtime, const CancelFlag* cancel, std::vector<Span>* timeline,
                       bool records);
    Status run_beside(const std::function<Status()>& work, int64_t& mark);
    void keep_for_exchanges(const Graph& graph);
    void order_exchanges();
    Status queue_steps(size_t begin, size_t end, const Runtime& runtime, const CancelFlag* cancel, std::vector<Span>* timeline);
    Status replay_steps(size_t begin, size_t end, const Runtime& runtime);
    void forget_recordings();

    Graph graph_;
    MemoryPlan memory_;
    Device* device_ = nullptr;
    int64_t runs_[3] = {};                               // of the parts, at the addresses of now
    std::map<std::pair<size_t, size_t>, void*> graphs_;  // recorded steps, from one to before another
    std::map<int, int64_t> marks_;                       // of exchanges that this run has queued
    std::map<std::string, int64_t> gradient_steps_;      // empty: nobody has asked
    std::vector<Step> steps_;
    size_t first_backward_ = 0, first_weights_ = 0;
    std::vector<size_t> host_steps_;              // that the calling thread runs between those of the workers
    std::map<size_t, std::vector<size_t>> ripe_;  // behind so many steps: gradients that are consumed there
    std::byte* arena_ = nullptr;
    std::vector<void*> bases_;  // by group
    std::unique_ptr<std::atomic<int64_t>[]> tickets_;
    int ticket_count_ = 0;
    std::atomic<int> stopped_{0};
    int failed_ = -1;  // the step in which links failed
    double flops_ = 0;
};

// The kernels of an op on the host, best first; null when the backend has none.
const KernelList* kernels_of(std::string_view op, Backend backend);
// The ops that have a kernel here which serves operands that are Tensor::rounded.
const std::set<std::string, std::less<>>& ops_that_round(Backend backend);

}  // namespace ds
