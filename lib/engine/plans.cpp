// Plans by shape: the graph of a rank, what the passes are told about its place, and the plan that comes out.
#include <algorithm>

#include "base/file.h"
#include "base/log.h"
#include "engine/engine.h"
#include "engine/pipeline.h"
#include "ir/builder.h"
#include "parallel/partition.h"

namespace ds {
namespace {

// Few enough that plans stay small beside what they are for (one of a model with 24 layers takes about a megabyte), enough that training
// on rows of any length, which comes with some hundred shapes, rarely makes one anew; that takes milliseconds.
constexpr size_t kMostPlans = 256;

DType low_type(PrecisionMode mode) {
    return mode == PrecisionMode::bf16 ? DType::bf16 : mode == PrecisionMode::f16 ? DType::f16 : DType::f32;
}

}  // namespace

// A weight that no asked-for result needs, an untied head's say, has a gradient all the same: zero, in place of what its memory holds from
// before.
void Engine::declare_unused(const Rank& rank, Graph& graph) const {
    Builder b(graph);
    const auto elsewhere = [&](const Param& p) {
        return config_.mesh.expert > 1 && rank.params && !rank.params->find(p.name);
    };  // an expert of another rank
    for (const Param& p : params_->all())
        if (p.trainable && graph.find(p.name) == kNone && !elsewhere(p)) b.param(p.name, p.shape, p.init);
}

// The graph of one rank, before the passes that every graph goes through.
Result<Graph> Engine::graph_of(const Rank& rank, const PlanKey& key) const {
    DS_TRY(Graph graph, program_->build(key.shape, key.outputs));
    DS_CHECK(compression_.add_to(graph, key.train));
    if (teacher_ && (key.train || !compression_.is_followed())) DS_CHECK(teacher_->add_to(graph, key.shape));
    if (key.train && !key.seeds.empty()) declare_unused(rank, graph);
    for (const ValueId id : graph.inputs) {
        Value& v = graph.value(id);
        if (v.kind == Kind::param) v.trainable = params_->find(v.name)->trainable;
    }
    DS_CHECK(route_blocks(graph, key.routing));
    if (pipeline_) number_boundaries(graph, pipeline_->stages());
    if (key.cache.pool) DS_CHECK(add_cache(graph, key.cache, config_.precision == PrecisionMode::bf16 ? DType::bf16 : DType::f32));
    if (key.cache.fresh) {  // of a prompt only the last token's output counts; pass trim_rows drops the rest
        Builder b(graph);
        ValueId& output = graph.outputs.front().second;
        output = b.call("embedding", {output, b.input("last_rows", DType::i32, {key.shape.rows})}, Embedding{.inside = true}, "last");
        DS_CHECK(b.status());
    }
    return graph;
}

PassOptions Engine::pass_options(const Rank& rank, const PlanKey& key) const {
    PassOptions options;
    options.precision = low_type(config_.precision);
    options.precision_rules = config_.precision_rules;
    options.train = key.train;
    options.accumulate = key.accumulate;
    options.seeds.assign(key.seeds.begin(), key.seeds.end());
    options.recompute = key.recompute;
    options.recompute_blocks = key.recompute_blocks;
    options.zero = rank.zero ? &*rank.zero : nullptr;
    options.coded = coded_.empty() ? nullptr : &coded_;
    options.gather_ahead = rank.device ? config_.zero.prefetch : 0;
    options.fp8 = key.cache.pool ? nullptr : &in_fp8_;  // what is generated does not depend on what else is in the batch
    options.epilogues = rank.device && rank.device->kernels("matmul_gelu");
    // Where weights are trained, copies cost memory and a part of the update. Generation reads weights at the speed of memory: it has them.
    if (schedule_ && !rank.device && !updates_are_dealt_out() && !weights_leave_memory() && !config_.stochastic_rounding && !key.cache.pool)
        options.rounding = &ops_that_round(backend_);
    return options;
}

Result<std::shared_ptr<Plan>> Engine::plan_for(Rank& rank, const PlanKey& key) {
    const int64_t now = ++rank.plans_asked;
    if (const auto known = rank.plans.find(key); known != rank.plans.end()) {
        known->second.asked = now;
        return known->second.plan;
    }
    const auto began = std::chrono::steady_clock::now();
    DS_TRY(Graph graph, graph_of(rank, key));
    PassOptions options = pass_options(rank, key);
    using Regions = TensorLayout::Regions;
    // Which weights are gathered and which gradients summed, and in which order, must not follow from the rows that a data rank happens to
    // have.
    const bool off = config_.sequence_regions == "off" || (config_.zero_stage >= 2 && ranks_->extent(MeshAxis::data) > 1);
    const Regions regions = off ? Regions::off : config_.sequence_regions == "on" ? Regions::on : Regions::cheapest;
    const TensorLayout tensor{rank.at(MeshAxis::tensor), ranks_->extent(MeshAxis::tensor), &rank.cuts, regions};
    options.tensor = &tensor;
    const SequenceLayout sequence = sequence_layout(rank, key.shape);
    options.sequence = &sequence;
    std::string choices;
    options.choices = &choices;
    StageLayout stage{key.stage, {}, nullptr};
    if (pipeline_) {
        stage.ends = pipeline_->ends;
        stage.holders = &pipeline_->holders;
        options.stage = &stage;
        options.split_weights = pipeline_->splits;
    }
    const MoeConfig& moe = config_.moe;
    const ExpertLayout experts{rank.at(MeshAxis::data), config_.mesh.expert, std::max(key.shape.peer_tokens, key.shape.tokens),
                               moe.drop_tokens ? key.train ? moe.capacity_factor : moe.eval_capacity_factor : 0, moe.min_capacity};
    options.experts = &experts;
    const SparseBlocks sparse{config_.sparse_attention.block, key.shape.sparse_blocks, config_.sparse_attention.different_layout_per_head};
    options.sparse = &sparse;
    options.data_ranks = ranks_->extent(MeshAxis::data);
    if (!dump_dir_.empty()) {
        options.dump = dump_dir_;
        if (ranks_->mesh().ranks() > 1) graph.name += fmt::format(".rank{}", rank.index);
        graph.name += fmt::format(".{}", rank.plans_made);
    }
    if (key.train && key.seeds.empty()) graph.loss = kNone;  // outputs only; dropout stays on
    DS_CHECK(run_passes(graph, options));
    const auto passed = std::chrono::steady_clock::now();
    DS_TRY(std::shared_ptr<Plan> plan, Plan::compile(std::move(graph), rank.device ? Backend::device : backend_, rank.workers,
                                                     rank.device.get(), key.consumes ? Gradients::consumed : Gradients::kept));
    if (!dump_dir_.empty()) dump(*plan, choices);
    const auto milliseconds = [](auto from, auto to) { return std::chrono::duration<double, std::milli>(to - from).count(); };
    log(Level::debug, "plan", "{}: {} tokens, {} rows: {} nodes, {} bytes of working memory, graph {:.1f} ms, plan {:.1f} ms",
        plan->graph().name, key.shape.tokens, key.shape.rows, plan->graph().nodes.size(), plan->arena_bytes(), milliseconds(began, passed),
        milliseconds(passed, std::chrono::steady_clock::now()));
    ++rank.plans_made;
    if (rank.plans.size() == kMostPlans)
        rank.plans.erase(std::min_element(rank.plans.begin(), rank.plans.end(),
                                          [](const auto& a, const auto& b) { return a.second.asked < b.second.asked; }));
    rank.plans[key] = {plan, std::move(choices), now};
    return plan;
}

SequenceLayout Engine::sequence_layout(const Rank& rank, const StreamShape& shape) const {
    using Way = SequenceLayout::Attention;
    const Way way = config_.sequence_attention == "ulysses" ? Way::ulysses
                    : config_.sequence_attention == "ring"  ? Way::ring
                                                            : Way::cheapest;
    return {rank.at(MeshAxis::sequence), ranks_->extent(MeshAxis::sequence),
            model_ && !model_->one_piece && shape.sparse_blocks == 0 ? shape.tokens : 0, way, ranks_->extent(MeshAxis::tensor)};
}

void Engine::dump(const Plan& plan, const std::string& choices) {
    const std::filesystem::path base = std::filesystem::path(dump_dir_) / plan.graph().name;
    for (const auto& [suffix, text] : {std::pair<std::string, std::string>{".memory.txt", memory_table(plan.graph(), plan.memory())},
                                       {".kernels.txt", plan.describe()},
                                       {".choices.txt", choices}})
        if (const Status status = write_file_atomically(base.string() + suffix, text); !status.ok())
            log(Level::warn, "dump", "{}", status.message());
}

}  // namespace ds
