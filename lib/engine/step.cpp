// The boundary: gradients are normalised, unscaled, checked and clipped, parameters updated and their low copies refreshed in one sweep.
// Order of events as DeepSpeed's step(): clip, update, zero, overflow accounting, schedule, counters.
#include <algorithm>
#include <cmath>

#include "base/log.h"
#include "engine/engine.h"
#include "kernels/cpu/optim.h"
#include "lr/clip.h"

namespace ds {
namespace {

constexpr int64_t kAlignElements = 32;  // parameters lie at least this close

Status scale_gradients(Rank& rank, float factor) {
    ParamStore& params = *rank.params;
    if (rank.device) return rank.device->scale(params.grads(), params.grad_elements(), factor);
    return rank.run([&](Team team) {
        cpu::scale_in_place(params.grads(), params.grad_elements(), factor, team);
        return ok();
    });
}

}  // namespace

Result<double> Engine::squares_of(Rank& rank, const float* x, int64_t n) {
    if (rank.device) return rank.device->squares(x, n);
    std::vector<double> partial(static_cast<size_t>(cpu::squares_blocks(n)), 0.0);
    DS_CHECK(rank.run([&](Team team) {
        cpu::squares(x, n, partial.data(), team);
        return ok();
    }));
    double sum = 0;
    for (const double block : partial) sum += block;
    return sum;
}

double Engine::final_factor() const {
    if (open_.normalised) return 1;
    const double scale = (scaler_ ? scaler_->scale() : 1) / (config_.sum_over_ranks ? ranks_->extent(MeshAxis::data) : 1);
    if (config_.loss_normalization != "batch")
        return 1 / (scale * static_cast<double>(open_.partial ? open_.partial : config_.batch.accumulation));
    // A micro-batch with a loss of the host's own weighs as the first one with labels.
    const int64_t first = std::max<int64_t>(open_.first_labels, 1), all = std::max<int64_t>(open_.labels + open_.from_host * first, 1);
    return static_cast<double>(first) / (scale * static_cast<double>(all));
}

Status Engine::normalise_gradients() {
    DS_CHECK(settle());
    DS_CHECK(reduce_gradients());
    const auto factor = static_cast<float>(final_factor());
    DS_CHECK(ranks_->each([&](Rank& rank) { return scale_gradients(rank, factor); }));
    open_.normalised = true;
    return ok();
}

// All gradients lie in one piece, with zeros between them. Every element is counted once.
Result<double> Engine::gradient_norm(double factor) {
    std::vector<std::pair<int, double>> sums;
    for (const auto& rank : *ranks_) sums.emplace_back(rank->index, 0.0);
    const Status status = ranks_->each([&](Rank& rank) -> Status {
        const ParamStore& params = *rank.params;
        std::vector<Interval> pieces;  // of the memory of gradients
        for (const Param& p : params.all()) {
            if (!rank.counts(p) || p.share.size() == 0) continue;
            const Interval piece{p.grad.at(p.share.begin), p.grad.at(p.share.end)};
            if (!pieces.empty() && piece.begin >= pieces.back().end && piece.begin - pieces.back().end < kAlignElements)
                pieces.back().end = piece.end;
            else pieces.push_back(piece);
        }
        for (const Interval& piece : pieces) {
            DS_TRY(const double sum, squares_of(rank, params.grads() + piece.begin, piece.size()));
            sums[static_cast<size_t>(rank.index - sums.front().first)].second += sum;
        }
        return ok();
    });
    DS_CHECK(status);
    DS_TRY(const std::vector<double> all, job_.of_all("ds_step", sums, static_cast<size_t>(ranks_->mesh().ranks())));
    double sum = 0;
    for (const double rank : all) sum += rank;
    return std::sqrt(sum) * factor;
}

Hyper Engine::hyper_of(size_t group, double factor, double clip_value) const {
    Hyper hyper;
    hyper.lr = lr_of(group);
    hyper.weight_decay = params_->groups()[group].defaults.weight_decay;
    hyper.beta2 = schedule_->second_beta();
    if (hyper.beta2) hyper.momentum = schedule_->momentum(group);
    hyper.step = next_update();
    hyper.grad_scale = factor;
    hyper.clip_value = clip_value;
    return hyper;
}

Status Engine::update(double factor, double clip_value) {
    round_lows(counters_.updates + 1);
    if (last_ && !last_->train) last_.reset();  // its outputs may lie where optimizers work
    if (options_.optimizer) {
        for (const auto& rank : *ranks_)
            if (Status status = update_by_host(*rank, factor, clip_value); !status.ok()) {
                job_.abort(status);  // the others must not go on without this update
                return status;
            }
        DS_CHECK(copy_tied_weights());
    }
    Status status = ranks_->each([&](Rank& rank) -> Status {
        if (!options_.optimizer) DS_CHECK(update(rank, factor, clip_value));
        if (!updates_are_dealt_out()) return ok();
        DS_CHECK(gather_weights(rank));
        return rank.device ? rank.device->finish() : ok();  // an update that not everybody has must be known now
    });
    broken_ |= !status.ok();  // some elements are new, others not
    return status;
}

// A callback sees final gradients and runs on the calling thread.
Status Engine::update_by_host(Rank& rank, double factor, double clip_value) {
    ParamStore& params = *rank.params;
    DS_CHECK(scale_gradients(rank, static_cast<float>(factor)));
    if (clip_value > 0 && !rank.device)
        clip_values({params.grads(), static_cast<size_t>(params.grad_elements())}, static_cast<float>(clip_value));
    std::vector<float> weights, gradients, states;  // of one parameter, where it lies on a device
    const auto host = [&](std::vector<float>& copy, float* home, int64_t n) -> Result<float*> {
        if (!rank.device || !home) return home;
        copy.resize(static_cast<size_t>(n));
        DS_CHECK(rank.device->download(copy.data(), home, copy.size() * 4));
        return copy.data();
    };
    for (Param& p : params.all()) {
        if (!p.trainable || !p.counted || p.own.size() == 0) continue;
        float* state_home = p.state.empty() ? nullptr : p.state[0];
        DS_TRY(float* weight, host(weights, params.weight(p), p.count));
        DS_TRY(float* gradient, host(gradients, params.grad(p), p.count));
        DS_TRY(float* state, host(states, state_home, p.state.empty() ? 0 : params.state_count(p, 0)));
        if (clip_value > 0 && rank.device) clip_values({gradient, static_cast<size_t>(p.count)}, static_cast<float>(clip_value));
        Status status = options_.optimizer->update(p.name.c_str(), next_update(), lr_of(p.group), weight, gradient, state,
                                                   static_cast<size_t>(p.count));
        if (status.ok() && rank.device) status = rank.device->upload(params.weight(p), weight, static_cast<size_t>(p.count) * 4);
        if (status.ok() && rank.device && state) status = rank.device->upload(state_home, state, states.size() * 4);
        if (status.ok()) status = params.refresh_low(p);
        if (!status.ok()) {
            broken_ = true;
            return status;
        }
    }
    return ok();
}

Status Engine::step() {
    DS_CHECK(usable());
    if (job_.alone()) DS_CHECK(background_save_.failure());  // one of several processes must not stop alone: ds_save and ds_load tell them
    if (!schedule_) return fail(Code::E_STATE, "ds_step: the config has no optimizer, so there is nothing to update with");
    if (open_.micros == 0)
        return fail(Code::E_STATE, "ds_step: no backward was counted since the last update; call ds_forward and ds_backward first");
    if (open_.micros < config_.batch.accumulation && !open_.partial) return Status(Code::PENDING);
    DS_CHECK(settle());
    if (pending_) pending_.reset();
    if (last_ && last_->train) last_.reset();
    DS_CHECK(ranks_->each([](Rank& rank) { return rank.params->need_state(); }));
    if (open_.updated) {
        count_update();
        last_norm_ = swept_norm(1);
        finish_step(false);
        return ok();
    }
    if (!open_.reduced) DS_CHECK(measure_ranks());
    DS_CHECK(reduce_gradients());
    const double factor = final_factor();
    const bool swept = sweep_measures_norm();
    if (!swept) { DS_TRY(last_norm_, gradient_norm(factor)); }
    const bool overflow = config_.skip_on_overflow && !std::isfinite(last_norm_);
    if (!overflow) {
        const double clipped = swept ? factor : factor * clip_factor(last_norm_, config_.clipping.norm);
        const auto begin = std::chrono::steady_clock::now();
        DS_CHECK(update(clipped, config_.clipping.value));
        record_.add_span("update", begin, std::chrono::steady_clock::now());
        count_update();
        if (swept) last_norm_ = swept_norm(factor);
    }
    finish_step(overflow);
    return Status(overflow ? Code::SKIPPED : Code::OK);
}

void Engine::count_update() {
    ++counters_.updates;
    if (adapters_) ++adapters_->updates;
}

double Engine::swept_norm(double factor) const {
    double squares = 0;
    for (const auto& rank : *ranks_) squares += rank->swept_squares;
    return std::sqrt(squares) * factor;
}

void Engine::finish_step(bool skipped) {
    const double seconds = record_.end_step(counters_.global_steps, open_.mean_loss(), lr_of(params_->groups().size() - 1));
    if (scaler_) scaler_->update(skipped);
    if (skipped) ++counters_.skipped_steps;
    else schedule_->step();
    ++counters_.global_steps;
    counters_.global_samples += open_.samples;
    let_batch_grow(skipped);
    follow_compression();
    metrics_.put("tokens_per_second", seconds > 0 ? static_cast<double>(open_.tokens) / seconds : 0);
    metrics_.put("step_seconds", seconds);
    if (config_.steps_per_print && counters_.global_steps % *config_.steps_per_print == 0)
        log(Level::info, "train", "step {}: loss {:.6g}, lr {:.6g}, skipped {}", counters_.global_steps, open_.mean_loss(),
            lr_of(params_->groups().size() - 1), counters_.skipped_steps);
    clear_gradients();
    grow_batch();
    publish();
    publish_traffic();
}

void Engine::clear_gradients() {
    open_ = {};  // the buffers themselves are overwritten by the next backward
    for (const auto& rank : *ranks_) rank->backwards = 0;
    if (pipeline_) drop_enqueued();
    first_noise_.reset();
}

Status Engine::zero_grad() {
    DS_CHECK(usable());
    // A forward that waits for its backward was planned to add to what is there; a pipeline plans it anew.
    if (pending_ && !pipeline_) DS_CHECK(ranks_->each([](Rank& rank) { return rank.backwards == 0 ? ok() : rank.params->clear_grads(); }));
    clear_gradients();
    return ok();
}

Status Engine::train_batch(DataSource& data, float* loss) {
    DS_CHECK(usable());
    if (job_.alone()) DS_CHECK(background_save_.failure());
    if (open_.micros > 0)
        return fail(Code::E_STATE, "ds_train_batch: {} micro-batches were accumulated by ds_backward; call ds_step or ds_zero_grad first",
                    open_.micros);
    DS_TRY(const Json cursor, data.save());
    if (const auto end = std::exchange(data_end_, std::nullopt); end && (!end->data || end->data == &data) && end->cursor == cursor)
        return Status(Code::END);
    // A batch that fails or is cancelled leaves nothing behind: the next try reads the same rows and draws the same random numbers.
    const auto undo = [&, draws = counters_.draws, micro_steps = counters_.micro_steps, tokens = counters_.tokens](Status status) {
        clear_gradients();
        counters_.draws = draws, counters_.micro_steps = micro_steps, counters_.tokens = tokens;
        if (const Status back = data.restore(cursor); !back.ok()) return back;
        return status;
    };
    for (int64_t i = 0; i < config_.batch.accumulation; ++i) {
        Batch batch;
        Status next = data.next(batch);
        if (!job_.alone()) {
            if (Status all = job_.agree("ds_train_batch", next); !all.ok()) return undo(std::move(all));
        }
        if (!next.ok()) return undo(next);
        if (next.code() == Code::END) {
            if (i == 0) return next;
            open_.partial = i;  // the epoch's last, smaller step
            break;
        }
        if (Status status = forward(batch, nullptr, config_.optimizer_in_backward); !status.ok()) return undo(std::move(status));
        if (Status status = backward(); !status.ok()) return undo(std::move(status));
    }
    if (Status status = settle(); !status.ok()) return undo(std::move(status));
    if (loss) *loss = open_.loss_weight > 0 ? static_cast<float>(open_.mean_loss()) : 0;
    if (open_.partial) {
        DS_TRY(Json next_epoch, data.save());
        data_end_ = DataEnd{&data, std::move(next_epoch)};
    }
    return step();
}

}  // namespace ds
