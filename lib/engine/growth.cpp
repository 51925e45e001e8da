// batch_growth in an engine: the rows of the next update, and what the gradient's noise scale is measured from.
#include <numeric>

#include "engine/engine.h"

namespace ds {

Status Engine::make_growth() {
    const EfficiencyConfig& given = config_.efficiency;
    if (given.batch_growth.is_null()) return ok();
    const auto refuse = [](const char* key, const char* what) { return fail(Code::E_CONFIG, "config: {}: {}", key, what); };
    if (!given.dynamic_batching.is_null())
        return refuse("batch_growth", "excludes data_efficiency.data_sampling.dynamic_batching, which sets an update's rows too");
    if (!given.sampling.is_null())
        return refuse("batch_growth",
                      "excludes data_efficiency.data_sampling.curriculum_learning, whose difficulties go by updates of one size");
    DS_TRY(growth_, BatchGrowth::make(given.batch_growth, config_.batch.train, config_.batch.train / config_.batch.accumulation));
    if (growth_->wants_noise() && (config_.mesh.sequence > 1 || config_.mesh.pipeline > 1 || config_.mesh.expert > 1))
        return fail(Code::E_UNSUPPORTED,
                    "config: batch_growth.by: noise_scale is not built for parallel.sequence, parallel.pipeline and parallel.expert, where "
                    "no rank has a part of the batch to itself");
    if (growth_->wants_noise() && config_.batch.accumulation == 1 && (config_.mesh.data == 1 || gradients_leave_at_once()))
        return refuse("batch_growth.by",
                      "noise_scale compares the first micro-batch with the whole batch: with these ranks it needs "
                      "gradient_accumulation_steps above 1");
    grow_batch();
    return ok();
}

// More rows are more micro-batches: no plan, no layout and no memory changes.
void Engine::grow_batch() {
    if (!growth_) return;
    const int64_t unit = config_.batch.train / config_.batch.accumulation;
    config_.batch.train = growth_->rows();
    config_.batch.accumulation = growth_->rows() / unit;
    config_.effective["train_batch_size"] = config_.batch.train;
    config_.effective["gradient_accumulation_steps"] = config_.batch.accumulation;
}

// With ZeRO 2 and 3 a rank has sums over data ranks at once.
bool Engine::gradients_leave_at_once() const { return config_.zero_stage >= 2 && config_.mesh.data > 1; }

// The mean over data ranks of what each rank's own gradients have as squares.
Result<double> Engine::own_squares() {
    std::vector<std::pair<int, double>> sums;
    for (const auto& rank : *ranks_) sums.emplace_back(rank->index, 0.0);
    const Status status = ranks_->each([&](Rank& rank) -> Status {
        for (const Param& p : rank.params->all()) {
            if (!p.trainable || (p.cut.whole() && rank.at(MeshAxis::tensor) != 0)) continue;
            const Interval held = gradients_leave_at_once() ? p.share : p.grad.elements;
            if (held.size() == 0 || rank.backwards == 0) continue;
            DS_TRY(const double sum, squares_of(rank, rank.params->grad(p, held.begin), held.size()));
            sums[static_cast<size_t>(rank.index - sums.front().first)].second += sum;
        }
        return ok();
    });
    DS_CHECK(status);
    DS_TRY(const std::vector<double> all, job_.of_all("noise_scale", sums, static_cast<size_t>(ranks_->mesh().ranks())));
    return std::accumulate(all.begin(), all.end(), 0.0);
}

// After the first backward of an update. Where one micro-batch is all, data ranks are compared instead (measure_ranks).
Status Engine::measure_first() {
    if (!growth_ || !growth_->wants_noise() || config_.batch.accumulation == 1 || open_.micros != 1) return ok();
    const int ranks = ranks_->extent(MeshAxis::data);
    const double scale = (scaler_ ? scaler_->scale() : 1) / (config_.sum_over_ranks ? ranks : 1);
    DS_TRY(const double squares, own_squares());
    // A rank's gradient is that of its rows, which count for a rank's share of the whole; its mean over rows is `ranks` times as large.
    const bool summed = ranks == 1 || gradients_leave_at_once();
    const double factor = summed ? 1 : static_cast<double>(ranks);
    first_noise_ = NoiseSample{static_cast<double>(open_.samples) / (summed ? 1 : ranks), squares * factor / (scale * scale), 0, 0};
    return ok();
}

// Before data ranks' gradients are added up.
Status Engine::measure_ranks() {
    if (!growth_ || !growth_->wants_noise() || config_.batch.accumulation > 1) return ok();
    const int ranks = ranks_->extent(MeshAxis::data);
    DS_TRY(const double squares, own_squares());
    const double factor = final_factor();
    first_noise_ = NoiseSample{static_cast<double>(open_.samples) / ranks, squares * ranks * factor * factor, 0, 0};
    return ok();
}

void Engine::let_batch_grow(bool skipped) {
    if (!growth_) return;
    StepFacts facts{counters_.global_steps, counters_.tokens, std::nullopt, std::nullopt};
    if (!skipped) {
        if (open_.loss_weight > 0) facts.loss = open_.mean_loss();
        if (first_noise_) {
            facts.noise = first_noise_;
            facts.noise->rows = static_cast<double>(open_.samples);
            facts.noise->squares = last_norm_ * last_norm_;
        }
    }
    first_noise_.reset();
    growth_->step(facts);
    if (growth_->wants_noise()) metrics_.put("noise_scale", growth_->noise_scale());
}

Json Engine::save_growth() const {
    Json state = Json::object();
    if (growth_) state["batch_growth"] = growth_->state();
    return state;
}

Status Engine::restore_growth(const Json& state) {
    if (growth_ && state.contains("batch_growth")) DS_CHECK(growth_->restore(state["batch_growth"]));
    grow_batch();
    return ok();
}

}  // namespace ds
