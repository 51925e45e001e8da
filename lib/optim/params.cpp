#include "optim/params.h"

#include <algorithm>
#include <cmath>

#include "base/nearest.h"

namespace ds {

OptimizerParams::OptimizerParams(const Json& params) : params_(params) {
    if (!params_.is_object() && !params_.is_null())
        first_ = fail(Code::E_CONFIG, "config: optimizer.params: must be an object, is {}", params_.dump());
    if (params_.is_object() && params_.contains("max_grad_norm"))
        first_ = fail(Code::E_CONFIG, "config: optimizer.params.max_grad_norm: not a parameter of an optimizer; use gradient_clipping");
}

bool OptimizerParams::has(const char* key) const { return params_.is_object() && params_.contains(key) && params_[key] != "auto"; }

const Json* OptimizerParams::raw(const char* key) {
    asked_.emplace_back(key);
    if (!has(key)) return nullptr;
    effective_[key] = params_[key];
    return &params_[key];
}

void OptimizerParams::complain(const char* key, const std::string& what) {
    if (first_.ok()) first_ = fail(Code::E_CONFIG, "config: optimizer.params.{}: {}, is {}", key, what, params_[key].dump());
}

double OptimizerParams::number(const char* key, double otherwise, double least, double below) {
    const Json* value = raw(key);
    if (!value) {
        if (otherwise >= least && otherwise < below) effective_[key] = otherwise;  // else it stands for "not given"
        return otherwise;
    }
    const double x = value->is_number() ? value->get<double>() : std::nan("");
    if (std::isfinite(x) && x >= least && x < below) return x;
    complain(key, std::isinf(below) ? fmt::format("must be a number of at least {}", least)
                                    : fmt::format("must be a number of at least {} and below {}", least, below));
    return otherwise;
}

std::pair<double, double> OptimizerParams::betas(double first, double second) {
    const Json* value = raw("betas");
    if (!value) {
        effective_["betas"] = {first, second};
        return {first, second};
    }
    const auto fine = [](const Json& x) { return x.is_number() && x.get<double>() >= 0 && x.get<double>() < 1; };
    if (value->is_array() && value->size() == 2 && fine((*value)[0]) && fine((*value)[1]))
        return {(*value)[0].get<double>(), (*value)[1].get<double>()};
    complain("betas", "must be two numbers of at least 0 and below 1");
    return {first, second};
}

bool OptimizerParams::flag(const char* key, bool otherwise) {
    const Json* value = raw(key);
    if (!value) effective_[key] = otherwise;
    if (!value) return otherwise;
    if (value->is_boolean()) return value->get<bool>();
    complain(key, "must be true or false");
    return otherwise;
}

std::string OptimizerParams::choice(const char* key, const char* otherwise, const std::vector<std::string>& accepted) {
    const Json* value = raw(key);
    if (!value || value->is_null()) effective_[key] = otherwise;
    if (!value || value->is_null()) return otherwise;
    if (value->is_string() && std::find(accepted.begin(), accepted.end(), value->get<std::string>()) != accepted.end())
        return value->get<std::string>();
    complain(key, fmt::format("must be one of {}", fmt::join(accepted, ", ")));
    return otherwise;
}

void OptimizerParams::only(const char* key, bool accepted, const char* why) {
    if (flag(key, accepted) != accepted && first_.ok())
        first_ = fail(Code::E_UNSUPPORTED, "config: optimizer.params.{}: {} is not built: {}", key, !accepted, why);
}

Status OptimizerParams::status() {
    if (!first_.ok() || !params_.is_object()) return first_;
    for (const auto& [key, value] : params_.items())
        if (std::find(asked_.begin(), asked_.end(), key) == asked_.end())
            return fail(Code::E_CONFIG, "config: optimizer.params.{}: unknown key; did you mean optimizer.params.{}? Known: {}", key,
                        nearest(key, asked_), fmt::join(asked_, ", "));
    return ok();
}

}  // namespace ds
