// ds_opt: runs text cases of graphs, passes, memory plans, kernels and gradients. An internal tool, linked with the library's own folders.
//
//   ds_opt [--bless] [--coverage] [--device=cuda] FILE.ir...
//
// A file holds cases, each
//   # run: WHAT[, WHAT...] key=value...
//   graph ...
//   # expect
//   the text that must come out
// WHAT is a pass of passes.def, or
//   parse      nothing: the graph as printed, or "error: " and the message (what every other WHAT prints too when it fails)
//   passes     all passes in order
//   cache      attention over a cache instead
//   bind       rows and length replaced by rows=N length=N
//   memory     the memory plan instead of the graph
//   gradient   results' gradients by every param, from the gradient rules on the reference kernels, against central differences: "ok"
//   same       outputs, and their gradients by every param, after the passes named behind it as without them: "ok"
//   kernels    every result of the cpu kernels against the reference kernels', by 1 and by 3 threads: "ok"
// key: tensor=R/N (rank R of N tensor ranks) regions=on known=none (no parameter is cut at rest) sequence=R/N tokens=N attention=ring
// (likewise, of a stream of N tokens)
//      stage=S/1,2 (stage S, where others begin after boundaries 1 and 2) split=1 data=N
//      zero=R/N (of N data ranks, which share gradients in buckets of bucket=N elements, and weights with weights=1;
//      live=N and reuse=N bound what is gathered) train=1 accumulate=1 recompute=N blocks=N (the first N whatever the level) precision=bf16
//      rule=GLOB:f32 cache=POOL/CAPACITY[/fresh] seeds=loss,y boundary=h (values that blocks begin with) coded=NAME:BITS[/2] (a weight in
//      few bits, with two levels of scales), NAME:8/o ([in, out], a scale an output) or NAME:BITS/sN ([in, out], N values that are not
//      zero) ids=N (integer operands are drawn from 0..N-1) NAME=1,2,3 (an operand's values) tolerance=X step=X (of gradients' differences)
// --device=cuda runs the "kernels" cases, and no others, on that device: three times each, the last two as a recorded graph, with the same
// bits.
// --bless writes what came out as what is expected. --coverage fails for ops of ops.def that no case ran.
#include <cstdio>
#include <random>
#include <set>

#include "base/file.h"
#include "ir/text.h"
#include "passes/cache.h"
#include "passes/pass.h"
#include "support/memory_check.h"
#include "support/run_graph.h"

using namespace ds;
using test::GraphRunner;

namespace {

struct Case {
    std::string header, graph, expected;
    std::vector<std::string> steps;
    std::map<std::string, std::string> keys;
};

struct Coverage {
    std::set<std::string_view> inferred, refused, differentiated, compared;
};

std::vector<std::string> split_text(std::string_view text, char by) {
    std::vector<std::string> parts;
    for (size_t at = 0; at <= text.size();) {
        const size_t end = std::min(text.find(by, at), text.size());
        if (end > at) parts.emplace_back(text.substr(at, end - at));
        at = end + 1;
    }
    return parts;
}

std::vector<Case> read_cases(const std::string& text) {
    std::vector<Case> cases;
    bool expects = false;
    for (size_t at = 0; at < text.size();) {
        const size_t end = std::min(text.find('\n', at), text.size() - 1) + 1;
        const std::string line = text.substr(at, end - at);
        at = end;
        if (line.starts_with("# run:")) {
            cases.push_back({.header = line});
            expects = false;
            for (const std::string& word : split_text(std::string_view(line).substr(6, line.size() - 7), ' ')) {
                const size_t equals = word.find('=');
                if (equals == std::string::npos) cases.back().steps.push_back(word.substr(0, word.find(',')));
                else cases.back().keys[word.substr(0, equals)] = word.substr(equals + 1);
            }
        } else if (line == "# expect\n") expects = true;
        else if (!cases.empty()) (expects ? cases.back().expected : cases.back().graph) += line;
    }
    for (Case& c : cases)  // an empty line before the next case is for the eye
        while (c.expected.ends_with("\n\n")) c.expected.pop_back();
    return cases;
}

class CaseRunner {
public:
    CaseRunner(const Case& c, Workers& one, Workers& three, Coverage& coverage, Device* device)
        : case_(c), one_(one), three_(three), coverage_(coverage), device_(device), rng_(5) {}

    std::string run() {
        auto text = steps();
        if (!text.ok()) {
            for (const OpDef* op : all_ops())
                if (text.status().message().find(" " + std::string(op->name) + ": ") != std::string::npos)
                    coverage_.refused.insert(op->name);
            return "error: " + text.status().message() + "\n";
        }
        return std::move(text).value();
    }

private:
    std::string key(const std::string& name, const std::string& fallback = "") const {
        const auto found = case_.keys.find(name);
        return found == case_.keys.end() ? fallback : found->second;
    }

    // As an engine deals parameters out, without gaps for alignment.
    void share(const Graph& graph, int rank, int ranks) {
        zero_ = {.rank = rank, .max_live = std::stoll(key("live", "1000000")), .max_reuse = std::stoll(key("reuse", "0"))};
        const auto ends = [&](int64_t n) {
            std::vector<int64_t> list;
            for (int r = 0; r < ranks; ++r) list.push_back(near_even(n, r, ranks).end);
            return list;
        };
        const int64_t limit = std::stoll(key("bucket", "1000000"));
        std::vector<int64_t> sizes;
        for (const ValueId id : graph.inputs) {
            const Value& v = graph.value(id);
            if (v.kind != Kind::param) continue;
            const int64_t n = elements(v.type.shape);
            if (key("weights") == "1") zero_.params[v.name] = {ends(n), true, true};
            if (!v.trainable) continue;
            if (zero_.buckets.empty() || sizes.back() + n > limit) zero_.buckets.emplace_back(), sizes.push_back(0);
            zero_.buckets.back().params.push_back(v.name);
            zero_.buckets.back().starts.push_back(sizes.back());
            sizes.back() += n;
        }
        for (size_t i = 0; i < sizes.size(); ++i) zero_.buckets[i].ends = ends(sizes[i]);
    }

    Result<PassOptions> options(const Graph& graph) {
        PassOptions o{.train = key("train") == "1",
                      .accumulate = key("accumulate") == "1",
                      .recompute = std::stoi(key("recompute", "0")),
                      .recompute_blocks = std::stoi(key("blocks", "0"))};
        const auto type = dtype_named(key("precision", "f32"));
        DS_REQUIRE(type, "precision={} is no element type", key("precision"));
        o.precision = *type;
        if (const auto rule = split_text(key("rule"), ':'); rule.size() == 2) o.precision_rules.push_back({rule[0], *dtype_named(rule[1])});
        if (const auto place = split_text(key("tensor"), '/'); place.size() == 2) {
            tensor_ = {std::stoi(place[0]), std::stoi(place[1]), case_.keys.count("known") ? &known_ : nullptr};
            if (key("regions") == "on") tensor_.regions = TensorLayout::Regions::on;
            o.tensor = &tensor_;
        }
        if (const auto place = split_text(key("stage"), '/'); place.size() == 2) {
            for (const std::string& end : split_text(place[1], ',')) stage_.ends.push_back(std::stoi(end));
            stage_.stage = std::stoi(place[0]);
            o.stage = &stage_;
        }
        o.split_weights = key("split") == "1";
        if (const auto place = split_text(key("sequence"), '/'); place.size() == 2) {
            using Way = SequenceLayout::Attention;
            const std::string way = key("attention", "auto");
            sequence_ = {std::stoi(place[0]), std::stoi(place[1]), std::stoll(key("tokens", "0")),
                         way == "ring"      ? Way::ring
                         : way == "ulysses" ? Way::ulysses
                                            : Way::cheapest,
                         case_.keys.count("tensor") ? tensor_.ranks : 1};
            o.sequence = &sequence_;
        }
        if (const auto place = split_text(key("zero"), '/'); place.size() == 2) {
            share(graph, std::stoi(place[0]), std::stoi(place[1]));
            o.zero = &zero_;
        }
        if (const auto weight = split_text(key("coded"), ':'); weight.size() == 2) {
            const size_t sparse = weight[1].find("/s");
            coded_[weight[0]] = {.bits = std::stoll(weight[1]),
                                 .two_levels = weight[1].ends_with("/2"),
                                 .by_output = weight[1].ends_with("/o"),
                                 .out_first = false,
                                 .sparse = sparse != std::string::npos,
                                 .nonzeros = sparse != std::string::npos ? std::stoll(weight[1].substr(sparse + 2)) : 0};
            o.coded = &coded_;
        }
        o.gather_ahead = std::stoll(key("gather_ahead", "0"));
        o.data_ranks = std::stoi(key("data", "1"));
        o.epilogues = key("epilogues") == "1";
        for (const std::string& op : split_text(key("rounding"), ',')) rounding_.insert(op);
        o.rounding = &rounding_;
        for (const std::string& weight : split_text(key("fp8"), ',')) fp8_.insert(weight);
        o.fp8 = &fp8_;
        if (case_.keys.count("seeds")) o.seeds = split_text(key("seeds"), ',');
        return o;
    }

    Result<std::string> steps() {
        DS_TRY(Graph graph, parse_graph(case_.graph));
        for (const Node& node : graph.nodes) coverage_.inferred.insert(node.op->name);
        DS_TRY(const PassOptions o, options(graph));
        int32_t boundaries = 0;
        for (const std::string& name : split_text(key("boundary"), ',')) {
            DS_REQUIRE(graph.find(name) != kNone, "boundary={} is no value", name);
            graph.value(graph.find(name)).boundary = ++boundaries;
        }
        if (case_.keys.count("rows")) { DS_TRY(graph, bind(graph, std::stoll(key("rows")), std::stoll(key("length", "1")))); }
        for (const std::string& step : case_.steps) {
            if (step == "parse" || step == "bind") continue;
            if (step == "memory") return memory(graph);
            if (step == "gradient") return gradient(graph);
            if (step == "kernels") return kernels(graph);
            if (step == "same") return same(graph, o);
            if (step == "cache") {
                const auto shape = split_text(key("cache"), '/');
                DS_REQUIRE(shape.size() == 2 || shape.size() == 3 || shape.size() == 5,
                           "cache=POOL/CAPACITY is missing, or behind it /fresh or /step, and /POOL/CAPACITY of sources");
                CacheShape cache{std::stoll(shape[0]), std::stoll(shape[1]), shape.size() > 2 && shape[2] == "fresh"};
                if (shape.size() == 5) cache.source_pool = std::stoll(shape[3]), cache.source_capacity = std::stoll(shape[4]);
                DS_CHECK(add_cache(graph, cache, o.precision));
                continue;
            }
            if (step == "passes") {
                DS_CHECK(run_passes(graph, o));
                continue;
            }
            const Pass* pass = find_pass(step);
            DS_REQUIRE(pass, "there is no pass {}", step);
            DS_CHECK(pass->run(graph, o));
        }
        DS_CHECK(verify(graph));
        std::string text = print(graph);
        DS_TRY(const Graph again, parse_graph(text));
        DS_REQUIRE(print(again) == text, "the graph prints as\n{}and, parsed again, as\n{}", text, print(again));
        return text;
    }

    Result<std::string> memory(const Graph& graph) {
        DS_TRY(auto plan, Plan::compile(graph, Backend::ref, one_));
        const MemoryPlan& m = plan->memory();
        const std::vector<int64_t> none(graph.nodes.size(), 0);
        if (const std::string wrong = test::MemoryChecker(plan->graph(), m, none).run(); !wrong.empty())
            return fail(Code::E_INTERNAL, "{}", wrong);
        std::string text;
        for (size_t i = 0; i < graph.nodes.size(); ++i) {
            text += m.skipped[i] ? "named " : "run   ";
            for (const ValueId id : graph.nodes[i].out) {
                const Placement& p = m.of[static_cast<size_t>(id)];
                if (p.group < 0) text += fmt::format("%{} left out; ", graph.value(id).name);
                else
                    text += fmt::format("%{} in {} +{} stride {}; ", graph.value(id).name, m.groups[static_cast<size_t>(p.group)].name,
                                        p.offset, p.row_stride);
            }
            text.erase(text.size() - 2);
            text += "\n";
        }
        return text + memory_table(graph, m);
    }

    std::vector<double> draw(const Graph& graph, ValueId id) {
        const Value& v = graph.value(id);
        std::vector<double> values(static_cast<size_t>(elements(v.type.shape)));
        const auto given = split_text(key(v.name), ',');
        std::normal_distribution<double> normal(0, 0.7);
        for (size_t i = 0; i < values.size(); ++i) {
            if (!given.empty()) values[i] = std::stod(given[i % given.size()]);
            else if (is_float(v.type.dtype)) values[i] = static_cast<double>(static_cast<float>(normal(rng_)));
            else values[i] = static_cast<double>(rng_() % static_cast<uint64_t>(std::stoll(key("ids", "4"))));
        }
        return values;
    }

    // Every output gets a random gradient; those are what the differences are weighted with.
    Result<std::string> gradient(Graph graph) {
        PassOptions o{.train = true, .seeds = {}};
        for (const auto& [name, id] : graph.outputs) o.seeds.push_back(name);
        for (const Node& node : graph.nodes) coverage_.differentiated.insert(node.op->name);
        DS_CHECK(run_passes(graph, o));
        DS_TRY(auto runner, GraphRunner::make(graph, Backend::ref, one_));
        std::map<ValueId, std::vector<double>> operands;
        for (const ValueId id : graph.inputs) runner->set(id, operands[id] = draw(graph, id));
        DS_CHECK(runner->run());
        const auto weighted = [&]() -> Result<double> {
            for (const ValueId id : graph.inputs)  // their memory was used again
                if (graph.value(id).kind == Kind::input) runner->set(id, operands[id]);
            DS_CHECK(runner->run());
            double sum = 0;
            for (const auto& [name, id] : graph.outputs) {
                const auto y = runner->get(id), &weight = operands[graph.find(name + ".grad")];
                for (size_t i = 0; i < y.size(); ++i) sum += y[i] * weight[i];
            }
            return sum;
        };
        const double bound = std::stod(key("tolerance", "1e-3")), first_step = std::stod(key("step", "0.03125"));
        std::string text;
        for (const auto& [param, grad] : graph.grads) {
            const auto found = runner->get(grad);
            std::vector<double> values = operands[param], numeric(found.size());
            for (size_t i = 0; i < values.size(); ++i) {
                double slope[2];
                for (int k = 0; k < 2; ++k) {  // two steps, extrapolated (Richardson)
                    const double step = first_step / (1 << k), at = values[i];
                    double ends[2];
                    for (int side = 0; side < 2; ++side) {
                        values[i] = side ? at + step : at - step;
                        runner->set(param, values);
                        DS_TRY(ends[side], weighted());
                    }
                    values[i] = at;
                    slope[k] = (ends[1] - ends[0]) / (2 * step);
                }
                numeric[i] = (4 * slope[1] - slope[0]) / 3;
            }
            runner->set(param, values);
            DS_CHECK(weighted().status());
            const double error = test::distance(found, numeric) / std::max(test::norm(numeric), 1e-2);
            if (!(error <= bound))
                text += fmt::format("gradient of %{}: {:.3g} off (norm {:.3g})\n", graph.value(param).name, error, test::norm(numeric));
        }
        return text.empty() ? "ok\n" : text;
    }

    // Both on the reference kernels. Outputs must be equal, gradients may differ by the order of their sums.
    Result<std::string> same(const Graph& graph, PassOptions o) {
        o.train = true;
        o.seeds.clear();
        for (const auto& [name, id] : graph.outputs) o.seeds.push_back(name);
        std::unique_ptr<GraphRunner> runners[2];
        std::map<std::string, std::vector<double>> operands;
        for (int i = 0; i < 2; ++i) {
            Graph g = graph;
            for (const std::string& step : case_.steps)
                if (const Pass* pass = find_pass(step); pass && i == 1) DS_CHECK(pass->run(g, o));
            DS_REQUIRE(i == 0 || print(g) != print(graph), "the passes change nothing");
            DS_CHECK(find_pass("autodiff")->run(g, o));
            DS_CHECK(find_pass("decompose")->run(g, o));
            DS_CHECK(verify(g));
            DS_TRY(runners[i], GraphRunner::make(std::move(g), Backend::ref, one_));
            for (const ValueId id : runners[i]->graph().inputs) {
                const auto [known, fresh] = operands.emplace(runners[i]->graph().value(id).name, std::vector<double>());
                if (fresh) known->second = draw(runners[i]->graph(), id);
                runners[i]->set(id, known->second);
            }
            DS_CHECK(runners[i]->run());
        }
        const Graph &dense = runners[0]->graph(), &changed = runners[1]->graph();
        std::string text;
        for (size_t i = 0; i < dense.outputs.size(); ++i)
            if (runners[0]->get(dense.outputs[i].second) != runners[1]->get(changed.outputs[i].second))
                text += fmt::format("{} differs\n", dense.outputs[i].first);
        for (size_t i = 0; i < dense.grads.size(); ++i) {
            const auto wanted = runners[0]->get(dense.grads[i].second), found = runners[1]->get(changed.grads[i].second);
            if (!(test::norm(wanted) > 0)) text += fmt::format("gradient of {} is zero\n", dense.value(dense.grads[i].first).name);
            if (!(test::distance(found, wanted) <= 1e-6 * test::norm(wanted)))
                text += fmt::format("gradient of {} differs\n", dense.value(dense.grads[i].first).name);
        }
        return text.empty() ? "ok\n" : text;
    }

    Result<std::string> kernels(Graph graph) {
        for (const Node& node : graph.nodes) coverage_.compared.insert(node.op->name);
        DS_TRY(auto exact, GraphRunner::make(graph, Backend::ref, one_));
        std::map<ValueId, std::vector<double>> operands;
        for (const ValueId id : graph.inputs) exact->set(id, operands[id] = draw(graph, id));
        DS_CHECK(exact->run());
        const double bound = std::stod(key("tolerance", "1e-5"));
        if (device_) return on_device(graph, *exact, operands, bound);
        std::string text;
        std::map<ValueId, std::vector<double>> by_one;
        for (Workers* workers : {&one_, &three_}) {
            DS_TRY(auto runner, GraphRunner::make(graph, Backend::cpu, *workers));
            for (const auto& [id, values] : operands) runner->set(id, values);
            DS_CHECK(runner->run());
            for (const auto& [name, id] : graph.outputs) {
                const auto found = runner->get(id), wanted = exact->get(id);
                const double error = test::distance(found, wanted) / std::max(test::norm(wanted), 1e-30);
                if (!(error <= bound))
                    text += fmt::format("{} by {} threads: {:.3g} off (norm {:.3g})\n", name, workers->size(), error, test::norm(wanted));
                if (workers == &one_) by_one[id] = found;
                else if (by_one[id] != found) text += fmt::format("{}: 3 threads give other numbers than 1\n", name);
            }
        }
        return text.empty() ? "ok\n" : text;
    }

    Result<std::string> on_device(const Graph& graph, const GraphRunner& exact, const std::map<ValueId, std::vector<double>>& operands,
                                  double bound) {
        auto made = GraphRunner::make(graph, Backend::device, one_, device_);
        if (!made.ok() && made.status().code() == Code::E_UNSUPPORTED) return "skipped: " + made.status().message() + "\n";
        DS_TRY(auto runner, std::move(made));
        std::string text;
        std::map<ValueId, std::vector<double>> before;
        for (int round = 0; round < 3; ++round) {
            for (const auto& [id, values] : operands) runner->set(id, values);
            DS_CHECK(runner->run());
            for (const auto& [name, id] : graph.outputs) {
                const auto found = runner->get(id), wanted = exact.get(id);
                const double error = test::distance(found, wanted) / std::max(test::norm(wanted), 1e-30);
                if (!(error <= bound)) text += fmt::format("{} on the device: {:.3g} off (norm {:.3g})\n", name, error, test::norm(wanted));
                if (round > 0 && before[id] != found)
                    text += fmt::format("{}: run {} gives other numbers than the first\n", name, round + 1);
                before[id] = found;
            }
        }
        return text.empty() ? "ok\n" : text;
    }

    const Case& case_;
    Workers &one_, &three_;
    Coverage& coverage_;
    Device* device_;
    std::mt19937_64 rng_;
    TensorLayout tensor_;
    StageLayout stage_;
    const std::map<std::string, Cut, std::less<>> known_;  // all parameters are whole at rest
    SequenceLayout sequence_;
    ZeroLayout zero_;
    CodedWeights coded_;
    std::set<std::string> fp8_;
    std::set<std::string, std::less<>> rounding_;
};

int check_coverage(const Coverage& c) {
    int missing = 0;
    for (const OpDef* op : all_ops()) {
        const auto lacks = [&](const std::set<std::string_view>& list, const char* what) {
            if (list.count(op->name)) return;
            ++missing;
            std::printf("FAILED coverage: no case %s op %s\n", what, std::string(op->name).c_str());
        };
        lacks(c.inferred, "infers the shapes of");
        if (!op->inputs.empty()) lacks(c.refused, "sees a refusal of");
        // top_mask's gradient is no slope: it passes what comes (tests/train/compression.cpp sees that it does).
        if (op->gradient && !op->outputs.empty() && !op->inputs.empty() && op->name != "rope_angles" && op->name != "top_mask")
            lacks(c.differentiated, "differentiates");
        if (!op->view && !op->decompose) lacks(c.compared, "compares kernels of");
    }
    return missing;
}

}  // namespace

int main(int argc, char** argv) {
    bool bless = false, coverage_wanted = false;
    int passed = 0, failed = 0;
    Workers one(1), three(3);
    Coverage coverage;
    std::unique_ptr<Device> device;
    for (int i = 1; i < argc; ++i) {
        const std::string arg = argv[i];
        if (arg == "--bless") bless = true;
        else if (arg == "--coverage") coverage_wanted = true;
        else if (arg.starts_with("--device=")) {
            auto opened = Device::open(arg.substr(9), 0);
            if (!opened.ok()) {
                std::printf("FAILED %s\n0 passed, 1 failed\n", opened.status().message().c_str());
                return 1;
            }
            device = std::move(*opened);
        } else {
            auto text = read_file(arg);
            if (!text.ok()) {
                std::printf("FAILED %s\n", text.status().message().c_str());
                ++failed;
                continue;
            }
            std::string blessed;
            for (const Case& c : read_cases(*text)) {
                if (device && (c.steps.empty() || c.steps.back() != "kernels")) continue;
                const std::string found = CaseRunner(c, one, three, coverage, device.get()).run();
                if (found.starts_with("skipped: ")) {
                    std::printf("SKIPPED %s: %.*s: %s", arg.c_str(), static_cast<int>(c.header.size()) - 1, c.header.c_str(),
                                found.c_str() + 9);
                    continue;
                }
                blessed += (blessed.empty() ? "" : "\n") + c.header + c.graph + "# expect\n" + found;
                if (found == c.expected) ++passed;
                else if (!bless)
                    ++failed, std::printf("FAILED %s: %s--- expected\n%s--- found\n%s", arg.c_str(), c.header.c_str(), c.expected.c_str(),
                                          found.c_str());
            }
            if (bless && blessed != *text)
                if (const Status status = write_file_atomically(arg, blessed); !status.ok())
                    std::printf("FAILED %s\n", status.message().c_str()), ++failed;
        }
    }
    if (coverage_wanted) {
        const int missing = check_coverage(coverage);
        failed += missing;
        passed += missing == 0;
    }
    std::printf("%d passed, %d failed\n", passed, failed);
    return failed ? 1 : 0;
}
