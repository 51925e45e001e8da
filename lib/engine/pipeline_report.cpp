// What a pipeline tells about itself: timetable, bubble and memory for ds_plan and DSRT_DUMP, drawings for the report.
#include <algorithm>

#include "engine/pipeline.h"

namespace ds {
namespace {

constexpr TurnTimes kUnits{1, 1, 1};  // a backward pass takes about twice as long as a forward pass

std::string label(const Turn& turn) { return fmt::format("{}{}", "FBW"[static_cast<size_t>(turn.work)], turn.micro); }

void add(TimetableChart& chart, int rank, const TurnSpan& span) {
    static constexpr const char* words[] = {"forward", "backward", "gradients of weights"};
    chart.turns.push_back(
        {rank, static_cast<size_t>(span.turn.work), label(span.turn),
         fmt::format("{} of micro-batch {}, stage {}", words[static_cast<size_t>(span.turn.work)], span.turn.micro, span.turn.stage),
         span.begin, span.end});
}

TimetableChart chart_of(const Timetable& table, std::string title) {
    TimetableChart chart{.title = std::move(title), .note = {}, .kinds = {"forward", "backward"}, .turns = {}};
    if (table.splits) chart.kinds.emplace_back("gradients of weights");
    return chart;
}

}  // namespace

OrderedJson Engine::timetable_report() {
    const auto micros = static_cast<int>(config_.batch.accumulation);
    if (!pipeline_) return {{"micro_batches", micros}, {"stages", 1}};
    const Timetable& table = timetable(micros);
    OrderedJson report = {{"micro_batches", micros}, {"stages", table.stages()}, {"schedule", table.kind}, {"chunks", table.chunks}};
    report["bubble"] = simulate(table, kUnits).bubble;
    report["bubble_by_formula"] = bubble_by_theory(table);
    for (int rank = 0; rank < table.ranks; ++rank) report["in_flight"].push_back(most_in_flight(table, rank));
    OrderedJson rows = OrderedJson::array();
    const std::string text = print(table);
    for (size_t at = 0, end; at < text.size(); at = end + 1) {
        end = text.find('\n', at);
        rows.push_back(text.substr(at, end - at));
    }
    report["table"] = std::move(rows);
    return report;
}

// Of each rank along the pipeline: what it holds, and the working memory of as many micro-batches as it has in flight.
Result<OrderedJson> Engine::stages_report(const PlanKey& given) {
    const Timetable& table = timetable(static_cast<int>(config_.batch.accumulation));
    OrderedJson list = OrderedJson::array();
    for (int place = 0; place < pipeline_->ranks; ++place) {
        Coordinates where{};
        where[static_cast<size_t>(MeshAxis::pipeline)] = place;
        Rank& rank = ranks_->at(where);
        RankMemory memory = memory_of(rank, nullptr);
        double flops = 0;
        OrderedJson stages = OrderedJson::array();
        std::vector<std::shared_ptr<Plan>> plans;
        for (int chunk = 0; chunk < pipeline_->chunks; ++chunk) {
            PlanKey key = given;
            key.stage = pipeline_->stage_of(rank, chunk);
            DS_TRY(const std::shared_ptr<Plan> plan, plan_for(rank, key));
            const RankMemory needed = memory_of(rank, plan.get());
            memory.working += needed.working * most_in_flight_of_stage(table, key.stage);
            memory.low += needed.low;
            flops += plan->flops();
            stages.push_back(key.stage);
            plans.push_back(plan);
        }
        list.push_back({{"rank", place},
                        {"stages", stages},
                        {"parameters", rank.params->total_elements()},
                        {"flops_per_micro_batch", flops},
                        {"memory_bytes", memory.told()},
                        {"traffic", planned_traffic(rank, plans)}});
    }
    return list;
}

void Engine::add_timetables(ReportData& report) {
    if (!pipeline_) return;
    const Timetable& table = timetable(static_cast<int>(config_.batch.accumulation));
    const Simulation plan = simulate(table, kUnits);
    TimetableChart planned = chart_of(table, fmt::format("Pipeline timetable, {}", table.kind)),
                   ran = chart_of(table, "Pipeline, one step as it ran");
    planned.note =
        fmt::format("{} ranks, {} stages, {} micro-batches: {:.1f} % idle", table.ranks, table.stages(), table.micros, 100 * plan.bubble);
    for (size_t rank = 0; rank < plan.spans.size(); ++rank)
        for (const TurnSpan& span : plan.spans[rank]) add(planned, static_cast<int>(rank), span);
    ran.microseconds = true;
    double busy = 0, first = 0, last = 0;
    for (size_t rank = 0; rank < pipeline_->recorded.size(); ++rank)
        for (const TurnSpan& span : pipeline_->recorded[rank]) {
            first = ran.turns.empty() ? span.begin : std::min(first, span.begin), last = std::max(last, span.end);
            add(ran, static_cast<int>(rank), span);
            busy += span.end - span.begin;
        }
    if (last > first) ran.note = fmt::format("{:.1f} % idle", 100 * (1 - busy / ((last - first) * table.ranks)));
    report.timetables = {std::move(planned), std::move(ran)};
}

}  // namespace ds
