// What a host reads and changes between calls: settings, metrics, parameters.
#include <cmath>
#include <cstring>

#include "base/json_argument.h"
#include "engine/pipeline.h"
#include "lr/clip.h"
#include "optim/params.h"

namespace ds {

void Engine::publish() {
    double lr = 0, momentum = 0;
    if (schedule_) {
        const size_t last = params_->groups().size() - 1;
        const Defaults& defaults = params_->groups()[last].defaults;
        lr = lr_of(last);
        momentum = hyper_of(last, 1, 0).momentum.value_or(defaults.momentum.value_or(0));
    }
    int64_t plan_bytes = 0, peak = 0;
    size_t plans = 0;
    for (const auto& rank : *ranks_) {
        plans += rank->plans.size();
        for (const auto& [key, planned] : rank->plans) plan_bytes = std::max(plan_bytes, planned.plan->arena_bytes());
        peak += rank->params->weight_elements() * 4 + (rank->params->grads() ? rank->params->grad_elements() * 4 : 0) +
                rank->params->bytes_of_lows();
        for (const Param& p : rank->params->all()) {
            for (size_t i = 0; i < p.state_defs.size() && rank->params->has_state() && !rank->params->state_file(); ++i)
                peak += rank->params->state_count(p, i) * 4;
        }
        peak += static_cast<int64_t>(rank->train_arena.size() + rank->other_arena.size() + rank->summands.size() +
                                     rank->params->disk_buffers().size()) +
                (rank->disk_weights ? rank->disk_weights->bytes() : 0);
    }
    if (pipeline_) peak += pipeline_->bytes();
    for (const auto& [name, value] : std::initializer_list<std::pair<const char*, double>>{
             {"lr", lr},
             {"momentum", momentum},
             {"loss_scale", scaler_ ? scaler_->scale() : 1},
             {"grad_norm", last_norm_},
             {"global_steps", static_cast<double>(counters_.global_steps)},
             {"global_samples", static_cast<double>(counters_.global_samples)},
             {"skipped_steps", static_cast<double>(counters_.skipped_steps)},
             {"batch_size", static_cast<double>(config_.batch.train)},
             {"micro_steps", static_cast<double>(counters_.micro_steps)},
             {"tokens", static_cast<double>(counters_.tokens)},
             {"plans", static_cast<double>(plans)},
             {"plan_bytes", static_cast<double>(plan_bytes)},
             {"peak_bytes", static_cast<double>(peak)},
             {"parameters", static_cast<double>(parameter_elements())},
             {"threads", static_cast<double>(ranks_->threads_a_rank() * ranks_->size())},
             {"ranks", static_cast<double>(ranks_->mesh().ranks())},
             {"processes", job_.processes()},
             {"process", job_.process()},
         })
        metrics_.put(name, value);
    for (int kind = 0; kind < kTraffics; ++kind) metrics_.declare(std::string("bytes_") + name_of(static_cast<Traffic>(kind)));
    for (const char* name : {"loss", "tokens_per_second", "step_seconds", "data_wait_seconds", "steps_per_epoch"}) metrics_.declare(name);
    if (const auto data = data_.lock()) metrics_.put("data_wait_seconds", data->wait_seconds());
}

Status Engine::set(std::string_view key, std::string_view json) {
    DS_CHECK(usable());
    if (!key.starts_with("logger")) DS_CHECK(job_.require_alike("ds_engine_set", fmt::format("{} = {}", key, json)));
    DS_TRY(const Json value, parse_argument(json, fmt::format("ds_engine_set: {}", key), Code::E_CONFIG));
    Config changed = config_;
    DS_CHECK(ds::set(changed, key, value));
    if (key == "lora.adapter") DS_CHECK(activate_adapter(value.is_string() ? value.get<std::string>() : ""));
    if (key.starts_with("logger")) set_levels(changed);
    if (!schedule_) {
        config_ = std::move(changed);
        return ok();
    }
    const bool scheduler = key.starts_with("scheduler"), optimizer = key.starts_with("optimizer") || key.starts_with("param_groups");
    if (optimizer && !options_.optimizer) {
        DS_TRY(auto fresh, ParamStore::make_groups(changed, false));
        for (const Param& p : params_->all())
            if (p.trainable && !p.keeps(*fresh[p.group].optimizer))
                return fail(Code::E_UNSUPPORTED, "{}: {} would change what is kept of {}, which is fixed at creation", key, value.dump(),
                            p.name);
        for (size_t g = 0; g < fresh.size(); ++g)
            if (fresh[g].defaults.lr != params_->groups()[g].defaults.lr) schedule_->set_lr(g, fresh[g].defaults.lr);
        params_->groups() = std::move(fresh);
    } else if (optimizer && value.is_number() && key == "optimizer.params.lr") {
        for (size_t g = 0; g < params_->groups().size(); ++g) schedule_->set_lr(g, value.get<double>());
    }
    if (scheduler) {
        DS_TRY(auto fresh, new_schedule(changed));
        if (changed.scheduler.type == config_.scheduler.type && schedule_->iteration() > fresh->iteration())
            DS_CHECK(fresh->follow(*schedule_));
        schedule_ = std::move(fresh);
    }
    config_ = std::move(changed);
    grow_batch();
    publish();
    return ok();
}

Result<std::string> Engine::get(std::string_view key) {
    if (key == "optimizer.params.lr" && schedule_) return Json(schedule_->lr(params_->groups().size() - 1)).dump();
    if (key == "lora.adapter" && adapters_) return Json(adapters_->active()).dump();
    if (key == "places") return Json(places_).dump();
    if (key == "client_state") return client_state_.dump();
    if (key == "model_config") return model_config_.dump();
    Config config = config_;
    if (const Json& given = config.optimizer.params; !config.optimizer.type.empty() && !options_.optimizer) {
        Json rule = given;
        rule.erase("use_muon");  // says to which parameters Muon applies
        DS_TRY(Json params, effective_params(config.optimizer.type, rule));
        if (given.contains("use_muon")) params["use_muon"] = given["use_muon"];
        config.effective["optimizer"]["params"] = std::move(params);
    }
    DS_TRY(const Json value, ds::get(config, key));
    return value.dump();
}

int64_t Engine::parameter_elements() const {
    int64_t sum = 0;
    for (const ParamInfo& info : infos_) sum += elements(info.shape);
    return sum;
}

int64_t Engine::trained_elements() const {
    int64_t sum = 0;
    for (const ParamInfo& info : infos_) sum += info.trainable ? elements(info.shape) : 0;
    return sum;
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
        if (p.state_defs[i].moment == wanted && elements(p.state_defs[i].shape) == elements(p.shape)) return i;
    return fail(Code::E_UNSUPPORTED, "parameter {}: the optimizer keeps no {} moment of it{}", p.name,
                what == kFirstMoment ? "first" : "second", p.trainable ? "" : " (it is not trained)");
}

}  // namespace

Result<HostTensor> Engine::param_get(std::string_view name, int what) {
    const Param* p = params_->find(name);
    if (!p) return no_such_param(name);
    DS_CHECK(usable());
    HostTensor out = HostTensor::zeros(DType::f32, p->shape);
    if (what == kWeight) {
        DS_CHECK(whole_->read(*p, {Field::weight}, out.as<float>().data()));
    } else if (what == kGrad) {
        if (open_.micros == 0 || !p->trainable) return out;
        DS_CHECK(settle());
        if (open_.micros == 0) return out;
        // What goes from rank to rank in fewer bits is rounded: at the boundary that is what an update would apply.
        if (config_.communication != DType::f32 && open_.micros == config_.batch.accumulation) DS_CHECK(reduce_gradients());
        const auto factor = static_cast<float>(final_factor());
        DS_CHECK(
            whole_->read(*p, {Field::grad}, out.as<float>().data(), open_.reduced || !gradients_have_parts(), updates_are_dealt_out()));
        for (float& x : out.as<float>()) x *= factor;
    } else if (what == kFirstMoment || what == kSecondMoment) {
        DS_TRY(const size_t index, moment_index(*p, what));
        DS_CHECK(whole_->read(*p, {Field::state, index}, out.as<float>().data()));
    } else
        return fail(Code::E_INVALID_ARGUMENT, "what must be 0 (weight), 1 (gradient), 2 (first moment) or 3 (second moment), not {}", what);
    DS_CHECK(devices_ok());
    return out;
}

Status Engine::param_set(std::string_view name, int what, const HostTensor& value) {
    DS_CHECK(usable());
    Param* p = params_->find(name);
    if (!p) return no_such_param(name);
    if (value.shape != p->shape)
        return fail(Code::E_INVALID_ARGUMENT, "parameter {} is {}, but the tensor is {}", name, p->shape, value.shape);
    if (!is_float(value.dtype))
        return fail(Code::E_INVALID_ARGUMENT, "parameter {}: the tensor must hold floats, not {}", name, name_of(value.dtype));
    const HostTensor f32 = value.to(DType::f32);
    const float* from = f32.as<float>().data();
    DS_CHECK(settle());
    if (pipeline_ && pending_ && what == kWeight) DS_CHECK(catch_up());  // it saw the weight as it was
    if (what == kWeight) {
        DS_CHECK(whole_->write(*p, {Field::weight}, from));
    } else if (what == kGrad) {
        if (!p->trainable) return fail(Code::E_STATE, "parameter {} is not trained, so it has no gradient", name);
        if (open_.micros < config_.batch.accumulation)
            return fail(Code::E_STATE,
                        "a gradient can be set between the boundary's backward and its step only: {} of {} micro-batches were accumulated",
                        open_.micros, config_.batch.accumulation);
        if (!open_.normalised) DS_CHECK(normalise_gradients());
        DS_CHECK(whole_->write(*p, {Field::grad}, from));
    } else if (what == kFirstMoment || what == kSecondMoment) {
        DS_TRY(const size_t index, moment_index(*p, what));
        DS_CHECK(ranks_->each([](Rank& rank) { return rank.params->need_state(); }));
        DS_CHECK(whole_->write(*p, {Field::state, index}, from));
    } else
        return fail(Code::E_INVALID_ARGUMENT, "what must be 0 (weight), 1 (gradient), 2 (first moment) or 3 (second moment), not {}", what);
    return devices_ok();
}

}  // namespace ds
