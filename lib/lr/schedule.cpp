#include "lr/schedule.h"

#include <cmath>

#include "base/nearest.h"
#include "lr/factories.h"

namespace ds {
namespace {

struct Row {
    const char* type;
    ScheduleFactory make;
};
constexpr Row kRows[] = {
#define DS_SCHEDULE(type, factory) {type, factory},
#include "lr/lr.def"
#undef DS_SCHEDULE
};

class Constant final : public Schedule {
public:
    using Schedule::Schedule;
};

// A list of finite numbers, as many as the current one has.
bool take(const Json& state, const char* name, std::vector<double>& into) {
    const auto list = state.find(name);
    if (list == state.end() || !list->is_array() || list->size() != into.size()) return false;
    for (const Json& x : *list)
        if (!x.is_number() || !std::isfinite(x.get<double>())) return false;
    into = list->get<std::vector<double>>();
    return true;
}

}  // namespace

Json Schedule::state() const {
    Json state = {{"last_batch_iteration", iteration_}, {"base_lr", base_}, {"lr", lr_}, {"momentum", momentum_}};
    if (second_beta_) state["second_beta"] = *second_beta_;
    save(state);
    return state;
}

Status Schedule::restore(const Json& state) {
    const auto iteration = state.find("last_batch_iteration");
    if (iteration == state.end() || !iteration->is_number_integer() || iteration->get<int64_t>() < -1)
        return fail(Code::E_CORRUPT, "schedule state: last_batch_iteration must be an integer of at least -1");
    std::vector<double> base = base_, lr = lr_, momentum = momentum_;
    if (!take(state, "base_lr", base) || !take(state, "lr", lr) || !take(state, "momentum", momentum))
        return fail(Code::E_CORRUPT, "schedule state: base_lr, lr and momentum must be lists of {}, {} and {} numbers", base_.size(),
                    lr_.size(), momentum_.size());
    DS_CHECK(load(state));
    base_ = std::move(base), lr_ = std::move(lr), momentum_ = std::move(momentum);
    iteration_ = iteration->get<int64_t>();
    return ok();
}

std::vector<std::string> schedule_types() {
    std::vector<std::string> types;
    for (const Row& row : kRows) types.emplace_back(row.type);
    return types;
}

Result<std::unique_ptr<Schedule>> make_schedule(const std::string& type, const Json& params, ScheduleGroups groups) {
    DS_REQUIRE(!groups.lr.empty(), "a schedule needs at least one parameter group");
    if (!params.is_null() && !params.is_object())
        return fail(Code::E_CONFIG, "config: scheduler.params: must be an object, is {}", params.dump());
    const Json given = params.is_null() ? Json::object() : params;
    if (type.empty()) return std::unique_ptr<Schedule>(std::make_unique<Constant>(std::move(groups)));
    for (const Row& row : kRows) {
        if (row.type != type) continue;
        Params reader(given, type);
        auto schedule = row.make(reader, std::move(groups));
        DS_CHECK(reader.finish());
        return schedule;
    }
    const auto types = schedule_types();
    return fail(Code::E_CONFIG, "config: scheduler.type: unknown schedule {}; did you mean {}? ({})", type, nearest(type, types),
                fmt::join(types, ", "));
}

}  // namespace ds
