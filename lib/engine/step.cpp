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

constexpr int64_t kChunk = 1 << 16;  // elements a thread takes at a time: large enough for the prefetcher, small enough to balance

}  // namespace

double Engine::final_factor() const {
    if (normalised_) return 1;
    const double scale = scaler_ ? scaler_->scale() : 1;
    if (config_.loss_normalization != "batch") return 1 / (scale * static_cast<double>(partial_ ? partial_ : config_.batch.accumulation));
    const auto first = static_cast<double>(std::max<int64_t>(first_labels_, 1)), all = static_cast<double>(std::max<int64_t>(labels_in_step_, 1));
    return first / (scale * all);
}

void Engine::normalise_gradients() {
    const auto factor = static_cast<float>(final_factor());
    float* grads = params_->grad(params_->all().front());
    workers_->run([&](Team team) { cpu::scale_in_place(grads, params_->total_elements(), factor, team); });
    normalised_ = true;
}

// All gradients lie in one piece, with zeros between them.
double Engine::gradient_norm(double factor) {
    const int64_t n = params_->total_elements();
    std::vector<double> partial(static_cast<size_t>(cpu::squares_blocks(n)), 0.0);
    const float* grads = params_->grad(params_->all().front());
    workers_->run([&](Team team) { cpu::squares(grads, n, partial.data(), team); });
    double sum = 0;
    for (const double block : partial) sum += block;
    return std::sqrt(sum) * factor;
}

Hyper Engine::hyper_of(size_t group, double factor, double clip_value) const {
    Hyper hyper;
    hyper.lr = schedule_->lr(group);
    hyper.weight_decay = params_->groups()[group].defaults.weight_decay;
    if (params_->groups()[group].defaults.momentum && schedule_->momentum(group) != *params_->groups()[group].defaults.momentum) hyper.momentum = schedule_->momentum(group);
    hyper.beta2 = schedule_->second_beta();
    hyper.step = updates_ + 1;
    hyper.grad_scale = factor;
    hyper.clip_value = clip_value;
    return hyper;
}

Status Engine::update(double factor, double clip_value) {
    if (options_.optimizer) return update_by_host(factor, clip_value);
    std::vector<Hyper> hypers;
    for (size_t g = 0; g < params_->groups().size(); ++g) hypers.push_back(hyper_of(g, factor, clip_value));
    struct Piece { const Param* param; int64_t begin, end; };
    std::vector<Piece> pieces;
    std::vector<const Param*> whole;
    size_t scratch_bytes = 0;
    for (const Param& p : params_->all()) {
        if (!p.trainable) continue;
        const Optimizer& optimizer = *params_->groups()[p.group].optimizer;
        if (optimizer.elementwise(p.traits))
            for (int64_t at = 0; at < p.count; at += kChunk) pieces.push_back({&p, at, std::min(at + kChunk, p.count)});
        else whole.push_back(&p), scratch_bytes = std::max(scratch_bytes, static_cast<size_t>(optimizer.scratch_bytes(p.traits, workers_->size())));
    }
    const auto view_of = [&](const Param& p, int64_t begin, int64_t end, std::vector<float*>& state) {
        state.clear();
        for (float* s : p.state) state.push_back(s + begin);
        ParamView view{params_->weight(p) + begin, params_->grad(p) + begin, state.data(), end - begin};
        if (p.low_type) view.low = static_cast<char*>(params_->low(p)) + 2 * begin, view.low_type = *p.low_type;
        return view;
    };
    DS_CHECK(other_arena_.reserve(scratch_bytes));
    if (last_ && scratch_bytes) last_.reset();  // its outputs lay there
    std::atomic<size_t> next{0};
    workers_->run([&](Team team) {
        std::vector<float*> state;
        for (size_t i = next.fetch_add(1); i < pieces.size(); i = next.fetch_add(1)) {
            const Piece& piece = pieces[i];
            params_->groups()[piece.param->group].optimizer->update(0, piece.param->traits, view_of(*piece.param, piece.begin, piece.end, state), hypers[piece.param->group], nullptr, Team{0, 1});
        }
        for (const Param* p : whole) {
            const Optimizer& optimizer = *params_->groups()[p->group].optimizer;
            for (int phase = 0; phase < optimizer.phases(p->traits); ++phase) {
                optimizer.update(phase, p->traits, view_of(*p, 0, p->count, state), hypers[p->group], other_arena_.data(), team);
                workers_->barrier().arrive_and_wait();
            }
        }
    });
    return ok();
}

// A callback sees final gradients and runs on the calling thread.
Status Engine::update_by_host(double factor, double clip_value) {
    float* grads = params_->grad(params_->all().front());
    workers_->run([&](Team team) { cpu::scale_in_place(grads, params_->total_elements(), static_cast<float>(factor), team); });
    if (clip_value > 0) clip_values({grads, static_cast<size_t>(params_->total_elements())}, static_cast<float>(clip_value));
    for (Param& p : params_->all()) {
        if (!p.trainable) continue;
        const Status status = options_.optimizer->update(p.name.c_str(), updates_ + 1, schedule_->lr(p.group), params_->weight(p), params_->grad(p),
                                                         p.state.empty() ? nullptr : p.state[0], static_cast<size_t>(p.count));
        if (!status.ok()) {
            broken_ = true;
            return status;
        }
        params_->refresh_low(p);
    }
    return ok();
}

Status Engine::step() {
    DS_CHECK(usable());
    if (!schedule_) return fail(Code::E_STATE, "ds_step: the config has no optimizer, so there is nothing to update with");
    if (micro_in_step_ == 0) return fail(Code::E_STATE, "ds_step: no backward was counted since the last update; call ds_forward and ds_backward first");
    if (micro_in_step_ < config_.batch.accumulation && !partial_) return Status(Code::PENDING);
    if (pending_) pending_.reset();
    if (last_ && last_->train) last_.reset();
    DS_CHECK(params_->need_state());
    const double factor = final_factor(), norm = gradient_norm(factor);
    last_norm_ = norm;
    const bool overflow = config_.skip_on_overflow && !std::isfinite(norm);
    if (!overflow) {
        const double clipped = factor * clip_factor(norm, config_.clipping.norm);
        const auto begin = std::chrono::steady_clock::now();
        DS_CHECK(update(clipped, config_.clipping.value));
        if (records_this_step() && recorded_plan_) {
            const auto at = [&](auto time) { return std::chrono::duration<double, std::micro>(time - step_began_).count(); };
            record_spans(*recorded_plan_, {{0, "update", at(begin), at(std::chrono::steady_clock::now())}}, 0);
        }
        ++updates_;
    }
    finish_step(overflow);
    return Status(overflow ? Code::SKIPPED : Code::OK);
}

void Engine::finish_step(bool skipped) {
    record_point(step_loss_weight_ > 0 ? step_loss_sum_ / step_loss_weight_ : std::nan(""), schedule_->lr(params_->groups().size() - 1));
    if (scaler_) scaler_->update(skipped);
    if (skipped) ++skipped_steps_;
    else schedule_->step();
    ++global_steps_;
    global_samples_ += samples_in_step_;
    const auto now = std::chrono::steady_clock::now();
    const double seconds = std::chrono::duration<double>(now - std::exchange(step_began_, now)).count();
    put_metric("tokens_per_second", seconds > 0 ? static_cast<double>(tokens_in_step_) / seconds : 0);
    put_metric("step_seconds", seconds);
    if (config_.steps_per_print && global_steps_ % *config_.steps_per_print == 0)
        log(Level::info, "train", "step {}: loss {:.6g}, lr {:.6g}, skipped {}", global_steps_, step_loss_weight_ > 0 ? step_loss_sum_ / step_loss_weight_ : std::nan(""),
            schedule_->lr(params_->groups().size() - 1), skipped_steps_);
    clear_gradients();
    publish();
}

void Engine::clear_gradients() {
    micro_in_step_ = labels_in_step_ = first_labels_ = samples_in_step_ = tokens_in_step_ = partial_ = 0;
    step_loss_sum_ = step_loss_weight_ = 0;
    normalised_ = false;  // the buffers themselves are overwritten by the next backward
}

Status Engine::zero_grad() {
    DS_CHECK(usable());
    clear_gradients();
    return ok();
}

Status Engine::train_batch(DataSource& data, float* loss) {
    DS_CHECK(usable());
    if (micro_in_step_ > 0) return fail(Code::E_STATE, "ds_train_batch: {} micro-batches were accumulated by ds_backward; call ds_step or ds_zero_grad first", micro_in_step_);
    DS_TRY(const Json cursor, data.save());
    const auto undo = [&](Status status) {
        clear_gradients();
        if (const Status back = data.restore(cursor); !back.ok()) return back;
        return status;
    };
    double value = 0;
    for (int64_t i = 0; i < config_.batch.accumulation; ++i) {
        Batch batch;
        const Status next = data.next(batch);
        if (!next.ok()) return undo(next);
        if (next.code() == Code::END) {
            if (i == 0) return next;
            partial_ = i;  // the epoch's last, smaller step
            break;
        }
        if (Status status = forward(batch, nullptr); !status.ok()) return undo(std::move(status));
        if (Status status = backward(); !status.ok()) return undo(std::move(status));
        value = step_loss_weight_ > 0 ? step_loss_sum_ / step_loss_weight_ : 0;
    }
    if (loss) *loss = static_cast<float>(value);
    return step();
}

}  // namespace ds
