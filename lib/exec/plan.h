// A plan: what one rank runs for one graph, a flat list of kernel calls with every address fixed.
//
// Compiled once for each batch shape and kept. Memory comes in two parts: an arena that the plans of an engine share, and buffers that the engine owns
// (weights, their shadows, gradients). `place` fills in addresses when either moves; running allocates nothing.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/cancel.h"
#include "exec/memory.h"
#include "exec/workers.h"
#include "ir/graph.h"
#include "kernels/kernel.h"

namespace ds {

enum class Backend { cpu, ref };

struct Span {  // of the timeline: what a thread did when, in microseconds since the run began
    int thread = 0;
    const char* name = "";
    double start_us = 0, end_us = 0;
};

class Plan {
public:
    // Chooses kernels for as many threads as `workers` has, and plans memory.
    static Result<std::unique_ptr<Plan>> compile(Graph graph, Backend backend, const Workers& workers);

    const Graph& graph() const { return graph_; }
    const MemoryPlan& memory() const { return memory_; }
    int64_t arena_bytes() const { return memory_.arena_bytes; }

    // buffer_of: the engine's memory of a param's weight, a shadow or a param's gradient.
    void place(std::byte* arena, const std::function<void*(Kind, ValueId)>& buffer_of);
    // Memory of a graph operand or result, after place. Dense.
    void* address(ValueId id) const;

    enum class Part { forward, backward };
    // Runs one part; DS_E_CANCELLED when the flag was raised meanwhile (null: can't be cancelled).
    Status run(Part part, const Runtime& runtime, Workers& workers, const CancelFlag* cancel, std::vector<Span>* timeline = nullptr);

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
    };
    Status choose_kernels(Backend backend, int threads);
    Status choose_kernel(Step& step, Backend backend, int threads);
    Tensor tensor_of(ValueId id) const;
    void work(Part part, const Runtime& runtime, Team team, Barrier& barrier, const CancelFlag* cancel, std::vector<Span>* timeline);

    Graph graph_;
    MemoryPlan memory_;
    std::vector<Step> steps_;
    size_t first_backward_ = 0;
    std::byte* arena_ = nullptr;
    std::vector<void*> bases_;  // by group
    std::unique_ptr<std::atomic<int64_t>[]> tickets_;
    int ticket_count_ = 0;
    std::atomic<int> stopped_{0};
    double flops_ = 0;
};

// The kernels of an op, best first; null when the backend has none.
const KernelList* kernels_of(std::string_view op, Backend backend);

}  // namespace ds
