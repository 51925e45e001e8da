#include "lr/ramp.h"

#include <algorithm>
#include <cmath>

namespace ds {
namespace {

// Reads the numbers of one section; the first fault is kept.
class Reader {
public:
    Reader(const Json& section, std::string path) : section_(section), path_(std::move(path)) {}

    int64_t whole(const char* key, int64_t least) {
        const Json value = section_.value(key, Json());
        if (value.is_number() && value.get<double>() == std::floor(value.get<double>()) &&
            value.get<double>() >= static_cast<double>(least) && value.get<double>() < 9e15)
            return static_cast<int64_t>(value.get<double>());
        return refuse(key, fmt::format("an integer of at least {}", least), value), least;
    }
    double number(const char* key) {
        const Json value = section_.value(key, Json());
        if (value.is_number() && value.get<double>() > 0 && std::isfinite(value.get<double>())) return value.get<double>();
        return refuse(key, "a number above 0", value), 1;
    }
    std::vector<int64_t> wholes(const char* key) {
        const Json value = section_.value(key, Json());
        const bool good = value.is_array() && !value.empty() && std::all_of(value.begin(), value.end(), [](const Json& x) {
                              return x.is_number_integer() && x.get<int64_t>() >= 0;
                          });
        if (good) return value.get<std::vector<int64_t>>();
        return refuse(key, "a list of integers of at least 0", value), std::vector<int64_t>{0};
    }
    void only(std::initializer_list<std::string_view> known) {
        for (const auto& [key, value] : section_.items())
            if (std::find(known.begin(), known.end(), key) == known.end() && status.ok())
                status = fail(Code::E_CONFIG, "config: {}.{}: unknown key; this schedule has {}", path_, key, fmt::join(known, ", "));
    }
    Status status;

private:
    void refuse(const char* key, const std::string& accepted, const Json& value) {
        if (status.ok())
            status =
                fail(Code::E_CONFIG, "config: {}.{}: must be {}, is {}", path_, key, accepted, value.is_null() ? "absent" : value.dump());
    }
    const Json& section_;
    const std::string path_;
};

}  // namespace

Result<Ramp> Ramp::make(const Json& section, const std::string& path, const RampNames& names) {
    Ramp ramp;
    Reader outer(section, path);
    ramp.least_ = outer.whole(names.least, 1);
    ramp.most_ = outer.whole(names.most, 1);
    DS_CHECK(outer.status);
    const std::string type = section.value("schedule_type", Json()).is_string() ? section["schedule_type"].get<std::string>() : "";
    if (type == "custom")
        return fail(Code::E_UNSUPPORTED, "config: {}.schedule_type: custom needs a Python function; fixed_discrete takes any steps", path);
    const bool discrete = type == "fixed_discrete", root = type == "fixed_root";
    if (type != "fixed_linear" && (names.only_linear || (!discrete && !root)))
        return fail(Code::E_CONFIG, "config: {}.schedule_type: must be {}, is {}", path,
                    names.only_linear ? "fixed_linear" : "fixed_linear, fixed_root or fixed_discrete",
                    section.value("schedule_type", Json()).dump());
    const Json config = section.value("schedule_config", Json::object());
    if (!config.is_object()) return fail(Code::E_CONFIG, "config: {}.schedule_config: must be an object, is {}", path, config.dump());
    Reader inner(config, path + ".schedule_config");
    if (discrete) {
        inner.only({"difficulty", "max_step"});
        ramp.difficulties_ = inner.wholes("difficulty");
        ramp.max_steps_ = inner.wholes("max_step");
        DS_CHECK(inner.status);
        if (ramp.difficulties_.size() != ramp.max_steps_.size() + 1)
            return fail(Code::E_CONFIG,
                        "config: {}.schedule_config.max_step: must have one entry less than difficulty, which has {}; it has {}", path,
                        ramp.difficulties_.size(), ramp.max_steps_.size());
        const auto begin = ramp.difficulties_.begin(),
                   reached = std::find_if(begin, ramp.difficulties_.end(), [&](int64_t x) { return x >= ramp.most_; });
        if (const auto fall = std::is_sorted_until(begin, reached); fall != reached)
            return fail(Code::E_CONFIG, "config: {}.schedule_config.difficulty: must not fall before {}, which is {}; has {} after {}",
                        path, names.most, ramp.most_, *fall, *(fall - 1));
        return ramp;
    }
    if (root) inner.only({names.total, names.step, "root_degree"});
    else inner.only({names.total, names.step});
    ramp.total_ = inner.whole(names.total, 1);
    ramp.round_ = inner.whole(names.step, 1);
    if (root) ramp.degree_ = inner.number("root_degree");
    DS_CHECK(inner.status);
    if (ramp.most_ < ramp.least_)
        return fail(Code::E_CONFIG, "config: {}.{}: must be at least {}, which is {}; is {}", path, names.most, names.least, ramp.least_,
                    ramp.most_);
    return ramp;
}

double layer_theta(double theta, double gamma, int64_t updates) {
    return (1.0 - theta) * std::exp(-gamma * static_cast<double>(std::max<int64_t>(updates - 1, 0))) + theta;
}

int64_t Ramp::at(int64_t step) const {
    if (least_ >= most_) return least_;
    if (!difficulties_.empty()) {
        for (size_t i = 0; i < max_steps_.size(); ++i)
            if (step <= max_steps_[i] || difficulties_[i] >= most_) return difficulties_[i];
        return difficulties_.back();
    }
    const double share = std::pow(static_cast<double>(step) / static_cast<double>(total_), 1.0 / degree_);
    // Beyond the most, how far makes no difference.
    const auto next =
        static_cast<int64_t>(std::floor(std::min(share, 1e6) * static_cast<double>(most_ - least_) + static_cast<double>(least_)));
    return std::min(next - next % round_, most_);
}

}  // namespace ds
