// What a rank holds in memory, and the way of recomputing that keeps a training step within the config's memory_limit at the least time.
//
// Ranks exchange in step, so one way serves them all: the need is that of the rank that needs most. Of the ways, first everything is kept;
// else the first k blocks are computed again, with cheap ops of the others kept or not. Memory falls with k and time rises, so the smallest
// k that fits is searched for.
#include <algorithm>

#include "base/log.h"
#include "base/machine.h"
#include "engine/pipeline.h"
#include "passes/cost.h"

namespace ds {

Engine::RankMemory Engine::memory_of(const Rank& rank, const Plan* plan) const {
    RankMemory memory;
    const ParamStore& params = *rank.params;
    memory.weights = params.weight_elements() * 4 + params.code_bytes();
    for (const Param& p : params.all()) {
        if (p.trainable && !config_.optimizer_in_backward) memory.gradients += p.grad.elements.size() * 4;
        for (size_t i = 0; i < p.state_defs.size(); ++i) memory.state += params.state_count(p, i) * 4;
    }
    if (params.keeps_state_on_disk()) memory.state_on_disk = std::exchange(memory.state, 0);
    if (!plan) return memory;
    memory.working = plan->arena_bytes();
    for (const Value& v : plan->graph().values)
        if (v.kind == Kind::shadow && is_float(v.type.dtype)) memory.low += bytes(v.type);  // others are weights in few bits
    return memory;
}

// Of a rank; 0: none.
int64_t Engine::memory_limit() const {
    if (config_.memory_limit || config_.recompute >= 0 || (*ranks_)[0].device) return config_.memory_limit;
    return memory_of_machine() / ranks_->size() / (job_.alone() ? 1 : std::max(job_.launch().local_size, 1));
}

Result<int64_t> Engine::least_limit() const {
    if (job_.alone()) return memory_limit();
    DS_TRY(const std::vector<double> limits,
           job_.of_all("memory_limit", {{job_.process(), static_cast<double>(memory_limit())}}, static_cast<size_t>(job_.processes())));
    return static_cast<int64_t>(*std::min_element(limits.begin(), limits.end()));
}

// What no way of recomputing changes is told before anything runs.
Status Engine::check_memory_limit() const {
    if (!config_.memory_limit) return ok();
    for (const auto& rank : *ranks_) {
        RankMemory held = memory_of(*rank, nullptr);
        if (!schedule_) held.gradients = held.state = 0;
        if (held.total() > config_.memory_limit)
            return fail(Code::E_OUT_OF_MEMORY,
                        "memory_limit: is {} bytes a rank, but weights ({}), gradients ({}) and optimizer state ({}) alone are {} bytes",
                        config_.memory_limit, held.weights, held.gradients, held.state, held.total());
    }
    return ok();
}

// Adds a rank's need: all of its stages, with as many micro-batches as it has in flight.
Status Engine::need_of(Rank& rank, PlanKey key, Need& need) {
    const bool accumulates = config_.batch.accumulation > 1;
    const int chunks = pipeline_ ? pipeline_->chunks : 1;
    need.memory = memory_of(rank, nullptr);
    for (int chunk = 0; chunk < chunks; ++chunk) {
        if (pipeline_) key.stage = pipeline_->stage_of(rank, chunk);
        const int64_t flights =
            pipeline_ ? most_in_flight_of_stage(pipeline_->tables.at(static_cast<int>(config_.batch.accumulation)), key.stage) : 1;
        int64_t working = 0;
        for (const bool adds : {false, true}) {
            key.accumulate = adds;
            if (adds && !accumulates) continue;
            DS_TRY(const std::shared_ptr<Plan> plan, plan_for(rank, key));
            const RankMemory all = memory_of(rank, plan.get());
            working = std::max(working, all.working);
            if (adds) continue;
            need.memory.low += all.low;
            need.seconds += passes::seconds_of(plan->graph());
            int boundaries = 1;
            for (const Node& node : plan->graph().nodes)
                for (const ValueId id : node.out) boundaries += !node.backward && plan->graph().value(id).boundary;
            need.blocks = std::max(need.blocks, boundaries);
        }
        need.memory.working += working * flights;
    }
    return ok();
}

Result<Engine::Need> Engine::need_of(const std::vector<PlanKey>& keys, int level, int blocks) {
    if (pipeline_) timetable(static_cast<int>(config_.batch.accumulation));
    std::vector<Need> needs(static_cast<size_t>(ranks_->mesh().ranks()));
    const Status status = ranks_->each([&](Rank& rank) -> Status {
        PlanKey key = keys[static_cast<size_t>(rank.at(MeshAxis::data))];
        if (key.shape.rows == 0) return ok();
        key.recompute = level;
        key.recompute_blocks = blocks;
        return need_of(rank, key, needs[static_cast<size_t>(rank.index)]);
    });
    DS_CHECK(status);
    Need most;
    for (const Need& need : needs) {
        if (need.memory.total() > most.memory.total()) most.memory = need.memory;
        most.seconds = std::max(most.seconds, need.seconds);
        most.blocks = std::max(most.blocks, need.blocks);
    }
    return most_of_all(most);
}

// Processes weigh their own ranks and choose by the same numbers.
Result<Engine::Need> Engine::most_of_all(const Need& mine) const {
    if (job_.alone()) return mine;
    const RankMemory& m = mine.memory;
    const std::array<double, 8> numbers{static_cast<double>(m.weights),
                                        static_cast<double>(m.gradients),
                                        static_cast<double>(m.state),
                                        static_cast<double>(m.state_on_disk),
                                        static_cast<double>(m.low),
                                        static_cast<double>(m.working),
                                        mine.seconds,
                                        static_cast<double>(mine.blocks)};
    const size_t n = numbers.size(), processes = static_cast<size_t>(job_.processes());
    std::vector<std::pair<int, double>> said;
    for (size_t i = 0; i < n; ++i) said.emplace_back(static_cast<int>(static_cast<size_t>(job_.process()) * n + i), numbers[i]);
    DS_TRY(const std::vector<double> all, job_.of_all("memory_limit", said, processes * n));
    Need most;
    for (size_t p = 0; p < processes; ++p) {
        const auto number = [&](size_t i) { return static_cast<int64_t>(all[p * n + i]); };
        const RankMemory memory{number(0), number(1), number(2), number(3), number(4), number(5)};
        if (memory.total() > most.memory.total()) most.memory = memory;
        most.seconds = std::max(most.seconds, all[p * n + 6]);
        most.blocks = std::max(most.blocks, static_cast<int>(number(7)));
    }
    return most;
}

Result<Engine::Recomputation> Engine::find_recomputation(const std::vector<PlanKey>& keys) {
    DS_TRY(const int64_t limit, least_limit());
    const auto fits = [&](const Need& need) { return need.memory.total() <= limit; };
    const auto line = [](const Recomputation& r) {
        const std::string what = r.blocks == 0 && r.level == 0
                                     ? "everything is kept"
                                     : fmt::format("{}{}{}", r.level ? "cheap ops" : "", r.level && r.blocks ? " and " : "",
                                                   r.blocks ? fmt::format("{} of {} blocks", r.blocks, r.need.blocks) : "") +
                                           " computed again";
        return fmt::format("{}: {} bytes, {:.3g} ms", what, r.need.memory.total(), r.need.seconds * 1e3);
    };
    std::vector<std::set<PlanKey>> before(static_cast<size_t>(ranks_->mesh().ranks()));
    for (const auto& rank : *ranks_)
        for (const auto& [key, plan] : rank->plans) before[static_cast<size_t>(rank->index)].insert(key);
    Recomputation best;
    DS_TRY(best.need, need_of(keys, best.level = std::max(config_.recompute, 0), 0));
    Recomputation least = best;  // the way that needs least, for the message
    bool found = fits(best.need);
    std::string compared = config_.recompute < 0 ? line(best) : "";
    for (const int level : {0, 1}) {
        if (config_.recompute >= 0 || (found && best.blocks == 0 && best.level == 0)) break;
        int few = level == 0 ? 1 : 0, many = best.need.blocks;
        Recomputation way{level, many, {}, {}};
        DS_TRY(way.need, need_of(keys, level, many));
        if (way.need.memory.total() < least.need.memory.total()) least = way;
        if (!fits(way.need)) continue;
        while (few < many) {
            const int middle = (few + many) / 2;
            DS_TRY(const Need need, need_of(keys, level, middle));
            if (fits(need)) many = middle, way = {level, middle, need, {}};
            else few = middle + 1;
        }
        compared += "; " + line(way);
        if (!found || way.need.seconds < best.need.seconds) best = way;
        found = true;
    }
    for (const auto& rank : *ranks_)  // plans that were only weighed go
        std::erase_if(rank->plans, [&](const auto& plan) {
            const PlanKey& key = plan.first;
            return !before[static_cast<size_t>(rank->index)].contains(key) &&
                   (!found || key.recompute != best.level || key.recompute_blocks != best.blocks);
        });
    if (!found) {
        const RankMemory& m = least.need.memory;
        return fail(Code::E_OUT_OF_MEMORY,
                    "memory_limit: is {} bytes a rank{}, but a step on {} rows takes at least {}: weights {}, gradients {}, optimizer "
                    "state {}, low-precision weights {}, working memory {}{}",
                    limit, config_.memory_limit ? "" : " (the machine's)", keys.front().shape.rows, m.total(), m.weights, m.gradients,
                    m.state, m.low, m.working,
                    config_.recompute < 0 ? "; fewer rows a micro-batch need less"
                                          : "; with recompute \"auto\" it is less, as do fewer rows a micro-batch");
    }
    best.told = config_.recompute < 0 ? fmt::format("recompute, limit {} bytes: {}; chosen: {}", limit, compared, line(best)) : "";
    return best;
}

Status Engine::choose_recomputation(Pass& pass) {
    if (!pass.train || pass.key().seeds.empty() || (config_.memory_limit == 0 && (config_.recompute >= 0 || (*ranks_)[0].device)))
        return ok();
    const int number = known_keys_.try_emplace(pass.keys, static_cast<int>(known_keys_.size())).first->second;
    const int process = job_.process();
    DS_TRY(const std::vector<double> numbers, job_.of_all("memory_limit", {{process, number}}, static_cast<size_t>(job_.processes())));
    auto known = recomputations_.find(numbers);
    if (known == recomputations_.end()) {
        DS_TRY(Recomputation chosen, find_recomputation(pass.keys));
        if (!chosen.told.empty()) log(Level::info, "plan", "{}", chosen.told);
        known = recomputations_.emplace(numbers, std::move(chosen)).first;
    }
    const Recomputation& way = known->second;
    recomputation_ = way.told;
    set_keys(pass, [&](const Packed&, PlanKey key) {
        key.recompute = way.level;
        key.recompute_blocks = way.blocks;
        return key;
    });
    return ok();
}

}  // namespace ds
