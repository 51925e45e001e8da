// What a host reads and changes between calls: settings, metrics, parameters.
#include <cmath>
#include <cstring>

#include "engine/engine.h"
#include "lr/clip.h"

namespace ds {

void Engine::put_metric(const std::string& name, double value) {
    std::lock_guard lock(metrics_mutex_);
    metrics_[name] = value;
}

void Engine::publish() {
    const double lr = schedule_ ? schedule_->lr(params_->groups().size() - 1) : 0, momentum = schedule_ ? schedule_->momentum(params_->groups().size() - 1) : 0;
    int64_t plan_bytes = 0, peak = 0;
    for (const auto& [key, plan] : plans_) plan_bytes = std::max(plan_bytes, plan->arena_bytes());
    for (const Param& p : params_->all()) {
        peak += p.count * (4 + (p.trainable && train_arena_.size() ? 4 : 0) + (p.low_type ? 2 : 0));
        for (const StateDef& def : p.state_defs) peak += params_->has_state() ? elements(def.shape) * 4 : 0;
    }
    peak += static_cast<int64_t>(train_arena_.size() + other_arena_.size());
    for (const auto& [name, value] : std::initializer_list<std::pair<const char*, double>>{
             {"lr", lr}, {"momentum", momentum}, {"loss_scale", scaler_ ? scaler_->scale() : 1}, {"grad_norm", last_norm_},
             {"global_steps", static_cast<double>(global_steps_)}, {"global_samples", static_cast<double>(global_samples_)},
             {"skipped_steps", static_cast<double>(skipped_steps_)}, {"micro_steps", static_cast<double>(micro_steps_)},
             {"tokens", static_cast<double>(total_tokens_)}, {"plans", static_cast<double>(plans_.size())},
             {"plan_bytes", static_cast<double>(plan_bytes)}, {"peak_bytes", static_cast<double>(peak)},
             {"parameters", static_cast<double>(params_->total_elements())}, {"threads", static_cast<double>(workers_->size())}})
        put_metric(name, value);
    std::lock_guard lock(metrics_mutex_);
    for (const char* name : {"loss", "tokens_per_second", "step_seconds", "data_wait_seconds", "steps_per_epoch"}) metrics_.try_emplace(name, 0.0);
    if (const auto data = data_.lock()) metrics_["data_wait_seconds"] = data->wait_seconds();
}

Result<double> Engine::metric(std::string_view name) const {
    std::lock_guard lock(metrics_mutex_);
    if (const auto found = metrics_.find(name); found != metrics_.end()) return found->second;
    std::string known;
    for (const auto& [key, value] : metrics_) known += (known.empty() ? "" : ", ") + key;
    return fail(Code::E_NOT_FOUND, "ds_metric: there is no metric {}; there are {}", name, known);
}

Status Engine::set(std::string_view key, std::string_view json) {
    DS_TRY(const Json value, parse_json(json, fmt::format("ds_engine_set: {}", key)));
    Config changed = config_;
    DS_CHECK(ds::set(changed, key, value));
    if (!schedule_) {
        config_ = std::move(changed);
        return ok();
    }
    const bool scheduler = key.starts_with("scheduler"), optimizer = key.starts_with("optimizer") || key.starts_with("param_groups");
    if (optimizer && !options_.optimizer) {
        DS_TRY(auto fresh, ParamStore::make_groups(changed, false));
        if (key == "optimizer.params.lr" && schedule_)
            for (size_t g = 0; g < fresh.size(); ++g) {
                if (fresh[g].defaults.lr != params_->groups()[g].defaults.lr) schedule_->set_lr(g, fresh[g].defaults.lr);
            }
        params_->groups() = std::move(fresh);
    } else if (optimizer && value.is_number() && key == "optimizer.params.lr") {
        for (size_t g = 0; g < params_->groups().size(); ++g) schedule_->set_lr(g, value.get<double>());
    }
    if (scheduler) {
        DS_TRY(schedule_, new_schedule(changed));
    }
    config_ = std::move(changed);
    publish();
    return ok();
}

Result<std::string> Engine::get(std::string_view key) {
    if (key == "optimizer.params.lr" && schedule_) return Json(schedule_->lr(params_->groups().size() - 1)).dump();
    if (key == "client_state") return client_state_.dump();
    DS_TRY(const Json value, ds::get(config_, key));
    return value.dump();
}

const Engine::ParamInfo* Engine::find_param(std::string_view name) const {
    for (const ParamInfo& info : infos_)
        if (info.name == name) return &info;
    return nullptr;
}

namespace {

Status no_such_param(std::string_view name) { return fail(Code::E_NOT_FOUND, "there is no parameter {}; ds_param_name lists them", name); }

enum What { kWeight, kGrad, kFirstMoment, kSecondMoment };

// The state array that `what` names, or why there is none.
Result<size_t> moment_index(const Param& p, int what) {
    const Moment wanted = what == kFirstMoment ? Moment::first : Moment::second;
    for (size_t i = 0; i < p.state_defs.size(); ++i)
        if (p.state_defs[i].moment == wanted && elements(p.state_defs[i].shape) == p.count) return i;
    return fail(Code::E_UNSUPPORTED, "parameter {}: the optimizer keeps no {} moment of it{}", p.name, what == kFirstMoment ? "first" : "second", p.trainable ? "" : " (it is not trained)");
}

}  // namespace

Result<HostTensor> Engine::param_get(std::string_view name, int what) {
    const Param* p = params_->find(name);
    if (!p) return no_such_param(name);
    HostTensor out = HostTensor::zeros(DType::f32, p->shape);
    const auto size = static_cast<size_t>(p->count) * 4;
    if (what == kWeight) std::memcpy(out.data, params_->weight(*p), size);
    else if (what == kGrad) {
        if (micro_in_step_ == 0 || !p->trainable) return out;
        const auto factor = static_cast<float>(final_factor());
        for (int64_t i = 0; i < p->count; ++i) out.as<float>()[static_cast<size_t>(i)] = params_->grad(*p)[i] * factor;
    } else if (what == kFirstMoment || what == kSecondMoment) {
        DS_TRY(const size_t index, moment_index(*p, what));
        if (params_->has_state()) std::memcpy(out.data, p->state[index], size);
    } else return fail(Code::E_INVALID_ARGUMENT, "what must be 0 (weight), 1 (gradient), 2 (first moment) or 3 (second moment), not {}", what);
    return out;
}

Status Engine::param_set(std::string_view name, int what, const HostTensor& value) {
    DS_CHECK(usable());
    Param* p = params_->find(name);
    if (!p) return no_such_param(name);
    if (value.shape != p->shape) return fail(Code::E_INVALID_ARGUMENT, "parameter {} is {}, but the tensor is {}", name, p->shape, value.shape);
    if (!is_float(value.dtype)) return fail(Code::E_INVALID_ARGUMENT, "parameter {}: the tensor must hold floats, not {}", name, name_of(value.dtype));
    const HostTensor f32 = value.to(DType::f32);
    const auto size = static_cast<size_t>(p->count) * 4;
    if (what == kWeight) {
        std::memcpy(params_->weight(*p), f32.data, size);
        params_->refresh_low(*p);
    } else if (what == kGrad) {
        if (!p->trainable) return fail(Code::E_STATE, "parameter {} is not trained, so it has no gradient", name);
        if (micro_in_step_ < config_.batch.accumulation)
            return fail(Code::E_STATE, "a gradient can be set between the boundary's backward and its step only: {} of {} micro-batches were accumulated", micro_in_step_, config_.batch.accumulation);
        if (!normalised_) normalise_gradients();
        std::memcpy(params_->grad(*p), f32.data, size);
    } else if (what == kFirstMoment || what == kSecondMoment) {
        DS_TRY(const size_t index, moment_index(*p, what));
        DS_CHECK(params_->need_state());
        std::memcpy(p->state[index], f32.data, size);
    } else return fail(Code::E_INVALID_ARGUMENT, "what must be 0 (weight), 1 (gradient), 2 (first moment) or 3 (second moment), not {}", what);
    return ok();
}

}  // namespace ds
