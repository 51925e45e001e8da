// Runs a graph from beginning to end on memory of the test's own: every operand is set by name, every result is read by name.
#pragma once

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "exec/plan.h"
#include "ir/op.h"
#include "passes/cache.h"

namespace ds::test {

class GraphRunner {
public:
    // device: whose memory and kernels; null: the host's.
    static Result<std::unique_ptr<GraphRunner>> make(Graph graph, Backend backend, Workers& workers, Device* device = nullptr) {
        auto runner = std::make_unique<GraphRunner>(workers);
        runner->device_ = device;
        DS_TRY(runner->plan_, Plan::compile(std::move(graph), backend, workers, device));
        const Graph& g = runner->plan_->graph();
        DS_TRY(std::byte * arena, runner->allocate(runner->plan_->arena_bytes()));
        if (!device)
            std::memset(arena, 0xFF, static_cast<size_t>(runner->plan_->arena_bytes()));  // NaN wherever it is read before it is written
        for (const ValueId id : g.inputs)
            if (g.value(id).kind != Kind::input)
                DS_CHECK(runner->buffer(g.value(id).kind, g.value(id).kind == Kind::grad ? g.value(id).of : id));
        for (const auto& [param, grad] : g.grads) DS_CHECK(runner->buffer(Kind::grad, param));
        runner->plan_->place(arena, [&](Kind kind, ValueId of) { return runner->buffers_.at({kind, of}); });
        return runner;
    }
    explicit GraphRunner(Workers& workers) : workers_(workers) {}
    ~GraphRunner() {
        plan_.reset();
        for (std::byte* memory : on_device_) device_->release(memory);
    }

    const Graph& graph() const { return plan_->graph(); }
    const Plan& plan() const { return *plan_; }

    // A graph's operand; shadows and what is rounded follow their param.
    void set(ValueId id, const std::vector<double>& values) {
        const Graph& g = graph();
        write(id, values);
        for (const ValueId other : g.inputs)
            if (other != id && &weight_of(g, other) == &g.value(id)) write(other, values);
    }
    Status run(uint64_t draw = 0) {
        const Runtime runtime{7, draw};
        DS_CHECK(failed_);
        DS_CHECK(plan_->run(Plan::Part::forward, runtime, workers_, nullptr));
        DS_CHECK(plan_->run(Plan::Part::backward, runtime, workers_, nullptr));
        return device_ ? device_->finish() : ok();
    }
    std::vector<double> get(ValueId id) const {
        const Type& t = graph().type(id);
        std::vector<double> values(static_cast<size_t>(elements(t.shape)));
        std::vector<std::byte> raw(static_cast<size_t>(bytes(t)));
        if (!to_host(device_, raw.data(), plan_->address(id), raw.size()).ok()) return std::vector<double>(values.size(), NAN);
        convert(raw.data(), t.dtype, values.data(), DType::f64, static_cast<int64_t>(values.size()));
        return values;
    }

private:
    struct alignas(64) Line {
        std::byte bytes[64];
    };

    void write(ValueId id, const std::vector<double>& values) {
        void* to = plan_->address(id);
        if (!to) return;
        const Value& v = graph().value(id);
        const DType held = v.kind == Kind::rounded ? DType::f32 : v.type.dtype;
        std::vector<std::byte> raw(values.size() * static_cast<size_t>(size_of(held)));
        convert(values.data(), DType::f64, raw.data(), held, static_cast<int64_t>(values.size()));
        if (Status status = to_device(device_, to, raw.data(), raw.size()); failed_.ok()) failed_ = std::move(status);
    }
    Result<std::byte*> allocate(int64_t bytes) {
        if (device_) {
            DS_TRY(std::byte * memory, device_->allocate(static_cast<size_t>(bytes) + 1));
            return on_device_.emplace_back(memory);
        }
        return reinterpret_cast<std::byte*>(on_host_.emplace_back(static_cast<size_t>(bytes) / 64 + 1).data());
    }
    Status buffer(Kind kind, ValueId of) {
        if (buffers_.count({kind, of})) return ok();
        DS_TRY((buffers_[{kind, of}]), allocate(elements(graph().type(of).shape) * 4));
        return ok();
    }

    Workers& workers_;
    Device* device_ = nullptr;
    Status failed_;  // of an operand
    std::unique_ptr<Plan> plan_;
    std::vector<std::vector<Line>> on_host_;
    std::vector<std::byte*> on_device_;
    std::map<std::pair<Kind, ValueId>, std::byte*> buffers_;
};

inline double norm(const std::vector<double>& x) {
    double sum = 0;
    for (const double v : x) sum += v * v;
    return std::sqrt(sum);
}
inline double distance(const std::vector<double>& a, const std::vector<double>& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
    return std::isnan(sum) ? INFINITY : std::sqrt(sum);
}

}  // namespace ds::test
