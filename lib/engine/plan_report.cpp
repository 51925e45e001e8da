// What a run of a config would need, without running it: the JSON of ds_plan.
#include <algorithm>

#include "engine/pipeline.h"

namespace ds {
namespace {

OrderedJson told(const OffloadConfig& where, int64_t bytes) {
    if (where.device == "cpu") return "in host memory, where the cpu backend keeps it anyway";
    if (where.on_disk()) return {{"bytes_on_disk", bytes}};
    return nullptr;
}

}  // namespace

OrderedJson Engine::RankMemory::told() const {
    return {{"weights", weights},           {"gradients", gradients}, {"optimizer_state", state},
            {"low_precision_weights", low}, {"working", working},     {"total", total()}};
}

// The micro-batch that a plan is made for: full rows, every token labelled.
Packed Engine::planned_micro_batch() const {
    const int64_t rows = config_.batch.micro;
    int64_t length = config_.max_seq_length.value_or(128);
    if (model_ && model_->max_positions) length = std::min(length, model_->max_positions);
    Packed packed;
    packed.shape = {
        .tokens = rows * length,
        .rows = rows,
        .length = length,
        .labelled = rows * length,
        .labels = computes_loss(),
        .source_tokens = model_ && model_->encoder_decoder ? rows * length : 0,
    };
    if (model_) packed.shape.row_loss = model_->row_loss.value_or(RowLoss::cross_entropy);
    return packed;
}

Result<std::string> Engine::plan_of(std::optional<std::string_view> text, const HostOptions& options) {
    DS_TRY(auto engine, prepare(text, options));
    MeshSizes& sizes = engine->config_.mesh;  // a plan is of all ranks, wherever they will run
    sizes.local_ranks = sizes.tensor * sizes.pipeline * sizes.sequence * sizes.data;
    engine->config_.processes = 1;
    DS_CHECK(engine->make_ranks());
    DS_CHECK(engine->make_optimizer_parts());
    DS_CHECK(engine->check_memory_limit());
    return engine->plan_report();
}

Result<std::string> Engine::plan_report() {
    const Packed packed = planned_micro_batch();
    const bool labels = packed.shape.labels;
    Rank& rank = rank_with_most_experts();
    Pass pass;
    pass.packed.assign(static_cast<size_t>(ranks_->extent(MeshAxis::data)), packed);
    pass.train = true;
    pass.updates = config_.optimizer_in_backward;
    set_keys(pass, [&](const Packed& part, const PlanKey&) { return key_of(part, labels, true); });
    DS_CHECK(choose_recomputation(pass));
    const PlanKey key = pass.key();
    DS_TRY(const std::shared_ptr<Plan> plan, plan_for(rank, key));
    const RankMemory memory = memory_of(rank, plan.get());
    int64_t updated = 0;
    for (const Param& p : rank.params->all()) updated += p.trainable ? p.own.size() : 0;
    OrderedJson report;
    report["rows"] = packed.shape.rows;
    report["length"] = packed.shape.length;
    report["parameters"] = parameter_elements();
    report["trained_parameters"] = trained_elements();
    report["updated_parameters"] = updated;
    report["memory_bytes"] = memory.told();
    report["recompute"] = {{"level", key.recompute}, {"blocks", key.recompute_blocks}};
    if (const int64_t limit = memory_limit()) report["recompute"]["memory_limit"] = limit;
    if (!recomputation_.empty()) report["recompute"]["chosen"] = recomputation_;
    if (const OrderedJson state = told(config_.zero.offload_optimizer, memory.state_on_disk); !state.is_null())
        report["offload"]["optimizer_state"] = state;
    if (const OrderedJson weights = told(config_.zero.offload_param, rank.params->bytes_on_disk()); !weights.is_null())
        report["offload"]["weights"] = weights;
    report["working_lower_bound_bytes"] = plan->memory().lower_bound_bytes;
    report["flops_per_micro_batch"] = plan->flops();
    report["traffic"] = planned_traffic(rank, {plan});
    report["ranks"] = ranks_->mesh().ranks();
    report["choices"] = rank.plans.at(key).choices;
    report["timetable"] = timetable_report();
    if (pipeline_) {
        DS_TRY(report["stages"], stages_report(key));
        const auto& stages = report["stages"];
        const auto most = [&](const char* what, const char* sum) {
            return (*std::max_element(stages.begin(), stages.end(),
                                      [&](const auto& a, const auto& b) { return a[what][sum] < b[what][sum]; }))[what];
        };
        report["memory_bytes"] = most("memory_bytes", "total");
        report["traffic"] = most("traffic", "bytes");
    }
    report["traffic_bytes_per_step"] = report["traffic"]["bytes"];
    report["kernels"] = plan->describe();
    return report.dump(1);
}

}  // namespace ds
