// Runs a graph from beginning to end on memory of the test's own: every operand is set by name, every result is read by name.
#pragma once

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "exec/plan.h"
#include "ir/op.h"

namespace ds::test {

class GraphRunner {
public:
    static Result<std::unique_ptr<GraphRunner>> make(Graph graph, Backend backend, Workers& workers) {
        auto runner = std::make_unique<GraphRunner>(workers);
        DS_TRY(runner->plan_, Plan::compile(std::move(graph), backend, workers));
        const Graph& g = runner->plan_->graph();
        runner->arena_.resize(static_cast<size_t>(runner->plan_->arena_bytes()) / 64 + 1);
        std::memset(runner->arena_.data(), 0xFF, runner->arena_.size() * 64);  // NaN wherever it is read before it is written
        for (const ValueId id : g.inputs)
            if (g.value(id).kind != Kind::input) runner->buffer(g.value(id).kind, g.value(id).kind == Kind::grad ? g.value(id).of : id);
        for (const auto& [param, grad] : g.grads) runner->buffer(Kind::grad, param);
        runner->plan_->place(reinterpret_cast<std::byte*>(runner->arena_.data()), [&](Kind kind, ValueId of) { return runner->buffers_.at({kind, of}).data(); });
        return runner;
    }
    explicit GraphRunner(Workers& workers) : workers_(workers) {}

    const Graph& graph() const { return plan_->graph(); }
    const Plan& plan() const { return *plan_; }

    // A graph's operand; shadows follow their param.
    void set(ValueId id, const std::vector<double>& values) {
        const Graph& g = graph();
        write(id, values);
        for (const ValueId other : g.inputs)
            if (g.value(other).kind == Kind::shadow && g.value(other).of == id) write(other, values);
    }
    Status run(uint64_t draw = 0) {
        const Runtime runtime{7, draw};
        DS_CHECK(plan_->run(Plan::Part::forward, runtime, workers_, nullptr));
        return plan_->run(Plan::Part::backward, runtime, workers_, nullptr);
    }
    std::vector<double> get(ValueId id) const {
        const Type& t = graph().type(id);
        std::vector<double> values(static_cast<size_t>(elements(t.shape)));
        convert(plan_->address(id), t.dtype, values.data(), DType::f64, static_cast<int64_t>(values.size()));
        return values;
    }

private:
    struct alignas(64) Line { std::byte bytes[64]; };

    void write(ValueId id, const std::vector<double>& values) {
        if (void* to = plan_->address(id)) convert(values.data(), DType::f64, to, graph().type(id).dtype, static_cast<int64_t>(values.size()));
    }
    void buffer(Kind kind, ValueId of) { buffers_[{kind, of}].resize(static_cast<size_t>(elements(graph().type(of).shape)) * 4 / 64 + 1); }

    Workers& workers_;
    std::unique_ptr<Plan> plan_;
    std::vector<Line> arena_;
    std::map<std::pair<Kind, ValueId>, std::vector<Line>> buffers_;
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
