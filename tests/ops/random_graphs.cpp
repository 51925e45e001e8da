// Random small graphs of every differentiable op, as training steps: cpu kernels against the reference kernels in f32 and bf16, the memory
// plan against an independent reading of it (support/memory_check.h), and the text form against itself.
//
//   random_graphs [COUNT [FIRST_SEED]]     1,000 graphs; 100,000 with DSRT_FULL=1
//
// Bounds follow the graph: what the reference's own numbers move by when every operand is moved by a rounding error of the type computed
// in.
#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>

#include "ir/builder.h"
#include "ir/text.h"
#include "passes/pass.h"
#include "support/memory_check.h"
#include "support/run_graph.h"

using namespace ds;
using test::GraphRunner;

namespace {

using Values = std::map<std::string, std::vector<double>>;

class Generator {
public:
    explicit Generator(uint64_t seed) : rng_(seed), b_(graph_) {}

    Result<Graph> run() {
        graph_.name = "random";
        for (int i = 0; i < 2; ++i) add(b_.input(fmt::format("x{}", i), DType::f32, {pick(1, 4), pick(1, 5), 2 * pick(1, 6)}));
        add(param({2 * pick(1, 6), 2 * pick(1, 8)}));
        const int64_t ops = pick(2, 12);
        for (int i = 0; i < ops && b_.status().ok(); ++i) step();
        // Some results, the last among them; a loss of all of them.
        ValueId loss = kNone;
        for (size_t i = 0; i < pool_.size(); ++i) {
            const ValueId id = pool_[i];
            if (graph_.value(id).kind != Kind::computed || (i + 1 < pool_.size() && pick(0, 3) != 0)) continue;
            graph_.outputs.emplace_back(fmt::format("y{}", graph_.outputs.size()), id);
            const ValueId weight = b_.input(fmt::format("weight{}", graph_.outputs.size()), DType::f32, shape(id));
            const ValueId part = b_.call("sum", {b_.mul(id, weight)});
            loss = loss == kNone ? part : b_.add(loss, part);
        }
        graph_.loss = loss;
        DS_CHECK(b_.status());
        return std::move(graph_);
    }

private:
    int64_t pick(int64_t least, int64_t most) { return std::uniform_int_distribution<int64_t>(least, most)(rng_); }
    bool chance() { return pick(0, 1) == 1; }
    Shape shape(ValueId id) const { return graph_.type(id).shape; }
    void add(ValueId id) {
        if (id != kNone) pool_.push_back(id);
    }
    ValueId any() {
        return pool_[static_cast<size_t>(
            pick(std::max<int64_t>(0, static_cast<int64_t>(pool_.size()) - 5), static_cast<int64_t>(pool_.size()) - 1))];
    }
    ValueId param(Shape s) { return b_.param(fmt::format("w{}", params_++), std::move(s), {Init::Type::normal, 0.5}); }
    ValueId ids(Shape s) { return b_.input(fmt::format("ids{}", ids_++), DType::i32, std::move(s)); }
    ValueId of_rank_two_or_more() {
        const ValueId x = any();
        return shape(x).size() >= 2 ? x : b_.reshape(x, {1, std::max<int64_t>(elements(shape(x)), 1)});
    }
    ValueId matrix() {
        const ValueId x = any();
        const int64_t columns = shape(x).empty() ? 1 : shape(x).back();
        return b_.reshape(x, {elements(shape(x)) / columns, columns});
    }
    ValueId positive(ValueId x) { return b_.call("exp", {b_.call("tanh", {x})}); }
    // Rows wide enough that a norm of them is not one of rounding errors.
    bool wide(ValueId x) const { return !shape(x).empty() && shape(x).back() >= 4; }

    void step() {
        static constexpr void (Generator::*kinds[])() = {
            &Generator::binary,  &Generator::binary, &Generator::unary, &Generator::unary,   &Generator::linear, &Generator::linear,
            &Generator::batched, &Generator::move,   &Generator::cut,   &Generator::reduce,  &Generator::norm,   &Generator::attend,
            &Generator::look_up, &Generator::rotate, &Generator::lose,  &Generator::residual};
        (this->*kinds[pick(0, std::size(kinds) - 1)])();
    }
    void binary() {
        const ValueId a = any();
        Shape s = shape(a);
        if (chance() && !s.empty()) s.erase(s.begin(), s.begin() + pick(0, static_cast<int64_t>(s.size())));
        for (int64_t& d : s)
            if (pick(0, 3) == 0) d = 1;
        const ValueId other = shape(pool_.back()) == shape(a) ? pool_.back() : param(s);
        switch (pick(0, 3)) {
        case 0: return add(b_.add(a, other));
        case 1: return add(b_.sub(other, a));
        case 2: return add(b_.mul(b_.call("tanh", {a}), other));
        default: return add(b_.div(a, positive(other)));
        }
    }
    void unary() {
        const ValueId x = any();
        switch (pick(0, 9)) {
        case 0: return add(b_.call("gelu", {x}, Gelu{chance()}));
        case 1: return add(b_.call("silu", {x}));
        case 2: return add(b_.call("tanh", {x}));
        case 3: return add(b_.call("relu", {x}));
        case 4: return add(positive(x));
        case 5: return add(b_.call("log", {positive(x)}));
        case 6: return add(b_.call("sqrt", {positive(x)}));
        case 7: return add(b_.scale(x, 0.25 * static_cast<double>(pick(-4, 4))));
        case 8: return add(b_.call("dropout", {x}, Dropout{0.3, pick(0, 99)}));
        default: return add(b_.call("softmax", {x}));
        }
    }
    void linear() {
        const ValueId x = chance() ? matrix() : of_rank_two_or_more();
        const int64_t n = 2 * pick(1, 10), k = shape(x).back();
        const bool transposed = chance();
        const ValueId w = param(transposed ? Shape{n, k} : Shape{k, n});
        add(b_.call("matmul", {x, w, chance() ? param({n}) : kNone}, Matmul{.transpose_b = transposed}));
    }
    void batched() {
        const ValueId a = of_rank_two_or_more();
        Shape s = shape(a);
        const bool ta = chance(), tb = chance();
        const int64_t k = ta ? s[s.size() - 2] : s.back(), n = pick(1, 7);
        s[s.size() - 2] = tb ? n : k, s.back() = tb ? k : n;
        add(b_.call("matmul", {b_.call("tanh", {a}), param(s)}, Matmul{.transpose_a = ta, .transpose_b = tb}));
    }
    void residual() {
        const ValueId x = matrix();
        const int64_t d = shape(x)[1];
        add(b_.add(x, b_.call("matmul", {b_.call("gelu", {x}), param({d, d})}, Matmul{.transpose_b = true})));
    }
    void move() {
        const ValueId x = any();
        if (chance()) {
            std::vector<int64_t> perm(shape(x).size());
            for (size_t i = 0; i < perm.size(); ++i) perm[i] = static_cast<int64_t>(i);
            std::shuffle(perm.begin(), perm.end(), rng_);
            return add(b_.call("transpose", {x}, Permute{perm}));
        }
        if (chance()) return add(b_.reshape(x, {elements(shape(x))}));
        Shape s = shape(x);
        if (elements(s) > 200) return add(b_.call("copy", {x}));
        s.insert(s.begin(), pick(1, 3));
        add(b_.call("broadcast", {x}, Reshape{s}));
    }
    void cut() {
        const ValueId x = of_rank_two_or_more();
        const int64_t axis = pick(0, static_cast<int64_t>(shape(x).size()) - 1), n = shape(x)[static_cast<size_t>(axis)];
        if (n < 2 || chance())
            return add(b_.call("concat",
                               chance() ? std::vector{x, b_.call("copy", {x})}
                                        : std::vector{b_.call("copy", {x}), b_.call("rope", {b_.call("copy", {paired(x)})})},
                               Axis{axis_for(x, axis)}));
        const int64_t at = pick(1, n - 1);
        if (chance()) return add(b_.call("slice", {x}, Slice{axis, at, n}));
        const auto parts = b_.call_all("split", {x}, Split{axis, {at, n - at}});
        add(parts[0]);
        if (chance()) add(parts[1]);
    }
    ValueId paired(ValueId x) { return shape(x).back() % 2 ? b_.call("concat", {x, x}, Axis{-1}) : x; }
    int64_t axis_for(ValueId x, int64_t axis) const { return shape(x).back() % 2 ? -1 : axis; }
    void reduce() {
        const ValueId x = any();
        Reduce r{{}, chance()};
        for (size_t i = 0; i < shape(x).size(); ++i)
            if (chance()) r.axes.push_back(static_cast<int64_t>(i));
        if (r.axes.empty()) return add(b_.call("mean", {x}, Reduce{{}, true}));
        add(b_.call(chance() ? "sum" : "mean", {x}, r));
    }
    void norm() {
        const ValueId x = any();
        if (!wide(x)) return unary();
        const Shape features{shape(x).back()};
        if (chance()) add(b_.call("layernorm", {x, param(features), param(features)}, Norm{.eps = 0.1}));
        else add(b_.call("rmsnorm", {x, param(features)}, Norm{.eps = 0.1}));
    }
    void attend() {
        const int64_t heads = pick(1, 3), kv = heads % 2 == 0 && chance() ? heads / 2 : heads, size = 2 * pick(1, 4);
        // Small scores: the gradient of a saturated softmax is a difference of rounded numbers in any bf16 implementation.
        const ValueId x = b_.call("tanh", {matrix()});
        const int64_t rows = shape(x)[0], k = shape(x)[1], width = (heads + 2 * kv) * size;
        const ValueId qkv = b_.call("matmul", {x, param({width, k})}, Matmul{.transpose_b = true});
        const auto parts = b_.call_all("split", {qkv}, Split{-1, {heads * size, kv * size, kv * size}});
        const ValueId segments = b_.input(fmt::format("segments{}", ids_++), DType::i32, {pick(1, 3) + 1});
        ValueId q = parts[0];
        if (chance()) q = b_.call("rope", {q}, Rope{.head_dim = size});
        add(b_.call("attention", {q, parts[1], parts[2], segments},
                    Attention{.heads = heads,
                              .kv_heads = kv,
                              .causal = chance(),
                              .window = chance() ? pick(1, rows) : 0,
                              .dropout = chance() ? 0.2 : 0,
                              .salt = pick(0, 9)}));
    }
    void look_up() { add(b_.call("embedding", {param({5, 2 * pick(1, 5)}), ids({pick(1, 6)})})); }
    void rotate() {
        const ValueId x = paired(matrix());
        const ValueId angles =
            b_.call("rope_angles", {ids({shape(x)[0]})}, RopeAngles{std::vector<double>(static_cast<size_t>(shape(x)[1] / 2), 0.7)});
        add(b_.call("rope", {x, angles}, Rope{.interleaved = chance()}));
    }
    void lose() {
        const ValueId x = matrix();
        if (shape(x)[1] < 2) return linear();
        const ValueId labels = b_.input(fmt::format("labels{}", ids_++), DType::i32, {shape(x)[0]});
        if (chance())
            return add(b_.call("cross_entropy", {b_.call("matmul", {x, param({5, shape(x)[1]})}, Matmul{.transpose_b = true}), labels}));
        add(b_.call("linear_cross_entropy", {x, param({5, shape(x)[1]}), chance() ? param({5}) : kNone, labels}));
    }

    std::mt19937_64 rng_;
    Graph graph_;
    Builder b_;
    std::vector<ValueId> pool_;
    int params_ = 0, ids_ = 0;
};

Values draw(const Graph& graph, std::mt19937_64& rng) {
    Values values;
    std::normal_distribution<double> normal(0, 0.7);
    for (const ValueId id : graph.inputs) {
        const Value& v = graph.value(id);
        auto& list = values[v.name];
        list.resize(static_cast<size_t>(elements(v.type.shape)));
        for (size_t i = 0; i < list.size(); ++i)
            if (is_float(v.type.dtype)) list[i] = static_cast<double>(static_cast<float>(normal(rng)));
            else if (v.name.starts_with("segments"))
                list[i] = i == 0 ? 0 : i + 1 == list.size() ? 1e6 : list[i - 1] + static_cast<double>(rng() % 3);
            else list[i] = v.name.starts_with("labels") && rng() % 5 == 0 ? -100 : static_cast<double>(rng() % 5);
    }
    return values;
}

// The last segment ends where the rows of q do.
void end_segments(const Graph& graph, Values& values) {
    for (const Node& node : graph.nodes) {
        if (node.op->name != "attention" || node.in.size() < 4 || node.in[3] == kNone) continue;
        auto& ends = values[graph.value(node.in[3]).name];
        const auto rows = static_cast<double>(graph.type(node.in[0]).shape[0]);
        for (double& end : ends) end = std::min(end, rows);
        ends.back() = rows;
    }
}

using Results = std::vector<std::pair<std::string, std::vector<double>>>;

Result<Results> results(const Graph& graph, Backend backend, Workers& workers, const Values& values, double nudge, uint64_t seed) {
    DS_TRY(auto runner, GraphRunner::make(graph, backend, workers));
    std::mt19937_64 rng(seed);
    for (const ValueId id : graph.inputs) {
        const Value& v = graph.value(id);
        if (v.kind == Kind::shadow || v.kind == Kind::rounded) continue;
        std::vector<double> list = v.name == "loss.grad"  ? std::vector<double>{0.5}
                                   : v.kind == Kind::grad ? values.at(graph.value(v.of).name)
                                                          : values.at(v.name);
        if (is_float(v.type.dtype))
            for (double& x : list) x *= 1 + (rng() % 2 ? nudge : -nudge);
        runner->set(id, list);
    }
    DS_CHECK(runner->run());
    Results found;
    for (const auto& [name, id] : graph.outputs) found.emplace_back(name, runner->get(id));
    found.emplace_back("loss", runner->get(graph.loss));
    for (const auto& [param, grad] : graph.grads) found.emplace_back("gradient of " + graph.value(param).name, runner->get(grad));
    return found;
}

class Checker {
public:
    Checker() : one_(1), two_(2) {}

    std::string check(uint64_t seed) {
        auto made = Generator(seed).run();
        if (!made.ok()) return "the generator: " + made.status().message();
        std::mt19937_64 rng(seed);
        Values values = draw(*made, rng);
        end_segments(*made, values);
        const std::string text = print(*made);
        auto again = parse_graph(text);
        if (!again.ok()) return again.status().message();
        if (print(*again) != text) return "printed and parsed, it prints otherwise";
        for (const DType precision : {DType::f32, DType::bf16}) {
            PassOptions options;
            options.precision = precision;
            options.train = true;
            options.rounding = &ops_that_round(Backend::ref);
            options.accumulate = seed % 3 == 0;
            options.recompute = seed % 4 == 0 ? 1 : seed % 7 == 0 ? 2 : 0;
            if (std::string wrong = step(*made, options, values, seed); !wrong.empty())
                return fmt::format("{}: {}", name_of(precision), wrong);
        }
        return "";
    }

private:
    std::string step(Graph graph, const PassOptions& options, const Values& values, uint64_t seed) {
        if (Status status = run_passes(graph, options); !status.ok()) return status.message();
        const std::string text = print(graph);
        if (auto again = parse_graph(text); !again.ok() || print(*again) != text)
            return "the training step does not round-trip: " + (again.ok() ? text : again.status().message());
        for (const Gradients gradients : {Gradients::kept, Gradients::consumed})
            if (std::string wrong = memory(graph, gradients); !wrong.empty()) return wrong;
        const double rounding = options.precision == DType::f32 ? 3e-7 : 4e-3;
        auto exact = results(graph, Backend::ref, one_, values, 0, seed);
        // Teams are what costs on a busy machine; kernels' own tests try them at length.
        auto plain = results(graph, Backend::cpu, one_, values, 0, seed),
             found = seed % 5 == 0 ? results(graph, Backend::cpu, two_, values, 0, seed) : plain;
        for (auto* r : {&exact, &found, &plain})
            if (!r->ok()) return r->status().message();
        std::vector<double> moves(exact->size(), 0);
        for (uint64_t draw = 0; draw < 4; ++draw) {
            auto moved = results(graph, Backend::ref, one_, values, rounding, seed + draw * 1000003);
            if (!moved.ok()) return moved.status().message();
            for (size_t i = 0; i < moves.size(); ++i) moves[i] = std::max(moves[i], test::distance((*moved)[i].second, (*exact)[i].second));
        }
        for (size_t i = 0; i < exact->size(); ++i) {
            const auto& [name, wanted] = (*exact)[i];
            if ((*found)[i].second != (*plain)[i].second && !same_bits((*found)[i].second, (*plain)[i].second))
                return name + ": two threads give other numbers than one";
            const double scale = test::norm(wanted), error = test::distance((*found)[i].second, wanted);
            double bound = 20 * moves[i] + 20 * rounding * (scale + 1e-2 * std::sqrt(static_cast<double>(wanted.size())));
            // Cancellation inside a graph costs bf16 as much, in units of its rounding, as it cost f32 a moment ago.
            if (options.precision == DType::f32) f32_errors_[name] = error;
            else if (const auto in_f32 = f32_errors_.find(name); in_f32 != f32_errors_.end())
                bound = std::max(bound, in_f32->second * 0x1p-8 / 0x1p-24);
            if (!(error <= bound)) return fmt::format("{}: {:.3g} off, bound {:.3g}, norm {:.3g}", name, error, bound, scale);
        }
        return "";
    }

    std::map<std::string, double> f32_errors_;  // by result, of the graph being checked

    static bool same_bits(const std::vector<double>& a, const std::vector<double>& b) {
        for (size_t i = 0; i < a.size(); ++i)
            if (a[i] != b[i] && !(std::isnan(a[i]) && std::isnan(b[i]))) return false;
        return true;
    }

    std::string memory(const Graph& graph, Gradients gradients) {
        MemoryPlan plan = group_values(graph, gradients);
        std::vector<int64_t> scratch(graph.nodes.size(), 0);
        for (size_t i = 0; i < scratch.size(); ++i) scratch[i] = i % 3 == 0 ? 64 * static_cast<int64_t>(i % 5) : 0;
        place_groups(graph, scratch, plan);
        if (plan.arena_bytes < plan.lower_bound_bytes) return "the arena is smaller than what lives at one time";
        return test::MemoryChecker(graph, plan, scratch).run();
    }

    Workers one_, two_;
};

}  // namespace

int main(int argc, char** argv) {
    const char* full = std::getenv("DSRT_FULL");
    const int count = argc > 1 ? std::atoi(argv[1]) : full && *full == '1' ? 100000 : 1000;
    const uint64_t first = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
    Checker checker;
    int failed = 0;
    for (int i = 0; i < count; ++i) {
        const uint64_t seed = first + static_cast<uint64_t>(i);
        const std::string wrong = checker.check(seed);
        if (wrong.empty()) continue;
        if (++failed <= 5)
            std::printf("FAILED seed %llu: %s\n%s", static_cast<unsigned long long>(seed), wrong.c_str(),
                        [&] {
                            auto g = Generator(seed).run();
                            return g.ok() ? print(*g) : std::string();
                        }()
                            .c_str());
    }
    std::printf("%d random graphs, seeds from %llu\n%d passed, %d failed\n", count, static_cast<unsigned long long>(first), count - failed,
                failed);
    return failed ? 1 : 0;
}
