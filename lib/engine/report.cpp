// report.html of a run: the curves that the engine and the host kept, the memory plan of a training step, and the timeline of one.
#include "telemetry/report.h"

#include <algorithm>
#include <cmath>

#include "base/json_argument.h"
#include "engine/engine.h"

namespace ds {
namespace {

Status bad(const char* what, const Json& found) { return fail(Code::E_INVALID_ARGUMENT, "ds_report: {}, not {}", what, found.dump()); }

Status read_series(const Json& given, Chart& chart) {
    if (!given.is_object() || !given.contains("points") || !given["points"].is_array())
        return bad("a series must be an object with \"name\" and \"points\"", given);
    constexpr const char* call = "ds_report: a series";
    DS_CHECK(check_options(given, call, {"name", "markers", "points"}));
    Series series;
    DS_TRY(series.name, text_of(given, call, "name"));
    DS_TRY(series.markers, flag_of(given, call, "markers"));
    for (const Json& point : given["points"]) {
        if (!point.is_array() || point.size() != 2 || !point[0].is_number() || !(point[1].is_number() || point[1].is_null()))
            return bad("a point must be [x, y], two numbers", point);
        series.points.push_back({point[0].get<double>(), point[1].is_null() ? NAN : point[1].get<double>()});
    }
    chart.series.push_back(std::move(series));
    return ok();
}

// A chart of the same title is added to.
Status read_chart(const Json& given, ReportData& report) {
    if (!given.is_object() || !given.contains("title") || !given["title"].is_string())
        return bad("a chart must be an object with \"title\" and \"series\"", given);
    constexpr const char* call = "ds_report: a chart";
    DS_CHECK(check_options(given, call, {"title", "x_label", "series"}));
    const Json list = given.value("series", Json::array());
    if (!list.is_array()) return bad("the series of a chart must be a list", list);
    DS_TRY(const std::string x_label, text_of(given, call, "x_label"));
    const auto title = given["title"].get<std::string>();
    auto chart = std::find_if(report.charts.begin(), report.charts.end(), [&](const Chart& c) { return c.title == title; });
    if (chart == report.charts.end()) chart = report.charts.insert(chart, Chart{title, x_label.empty() ? "step" : x_label, {}});
    for (const Json& series : list) DS_CHECK(read_series(series, *chart));
    return ok();
}

Status read_given(std::string_view text, ReportData& report) {
    if (text.empty()) return ok();
    DS_TRY(const Json given, parse_argument(text, "ds_report: contents"));
    if (!given.is_object()) return bad("contents must be an object", given);
    for (const auto& [key, value] : given.items()) {
        if (key == "title" && value.is_string()) report.title = value.get<std::string>();
        else if (key == "summary" && value.is_array()) {
            for (const Json& line : value) {
                if (!line.is_array() || line.size() != 2 || !line[0].is_string() || !line[1].is_string())
                    return bad("a line of the summary must be [name, text]", line);
                report.summary.emplace_back(line[0].get<std::string>(), line[1].get<std::string>());
            }
        } else if (key == "charts" && value.is_array()) {
            for (const Json& chart : value) DS_CHECK(read_chart(chart, report));
        } else
            return fail(Code::E_INVALID_ARGUMENT,
                        "ds_report: {}: accepted are title (a text), summary (a list of [name, text]) and charts (a list)", key);
    }
    return ok();
}

}  // namespace

Status Engine::report(std::string_view path, std::string_view contents_json) {
    ReportData report;
    report.title = model_ ? model_->family : "dsrt";
    if (!record_.curves().empty()) {
        Series loss{"training", {}, false}, lr{"learning rate", {}, false};
        for (const RunRecord::Point& p : record_.curves()) {
            loss.points.push_back({static_cast<double>(p.step), p.loss});
            lr.points.push_back({static_cast<double>(p.step), p.lr});
        }
        report.charts = {{"Loss", "step", {std::move(loss)}}, {"Learning rate", "step", {std::move(lr)}}};
    }
    DS_CHECK(read_given(contents_json, report));
    if (!recomputation_.empty()) report.summary.emplace_back("recomputation", recomputation_);
    const Plan* plan = record_.plan();
    for (const auto& [key, candidate] : (*ranks_)[0].plans)
        if (key.train && !record_.plan() && (!plan || candidate.plan->arena_bytes() > plan->arena_bytes())) plan = candidate.plan.get();
    if (plan) report.memory = memory_blocks(*plan);
    for (const Span& span : record_.timeline()) report.timeline.push_back({span.thread, span.name, span.start_us, span.end_us, ""});
    add_timetables(report);
    return write_report(std::filesystem::path(path), report);
}

// What stays from step to step lies below, the plan's working memory above it.
std::vector<MemoryBlock> Engine::memory_blocks(const Plan& plan) const {
    std::vector<MemoryBlock> blocks;
    const auto nodes = static_cast<int64_t>(plan.graph().nodes.size());
    int64_t first_backward = nodes, base = 0, weights = 0, gradients = 0, state = 0, low = 0;
    for (int64_t i = nodes - 1; i >= 0; --i)
        if (plan.graph().nodes[static_cast<size_t>(i)].backward) first_backward = i;
    const ParamStore& params = *(*ranks_)[0].params;
    for (const Param& p : params.all()) {
        weights += p.weight.elements.size() * 4;
        gradients += p.grad.elements.size() * 4;
        low += p.low_type ? p.low.elements.size() * 2 : 0;
        for (size_t i = 0; i < p.state_defs.size(); ++i) state += params.state_count(p, i) * 4;
    }
    for (const auto& [name, bytes] : {std::pair<const char*, int64_t>{"weights", weights},
                                      {"gradients", gradients},
                                      {"optimizer state", state},
                                      {"low-precision weights", low}})
        if (bytes) blocks.push_back({name, name, std::exchange(base, base + bytes), bytes, 0, nodes - 1});
    for (const Group& g : plan.memory().groups) {
        if (!in_arena(g) || g.arena_offset < 0 || g.bytes == 0) continue;
        const char* kind = g.kind == Kind::input                                  ? "inputs"
                           : g.first < first_backward && g.last >= first_backward ? "kept for the backward pass"
                           : g.first < first_backward                             ? "forward"
                                                                                  : "backward";
        blocks.push_back({g.name, kind, base + g.arena_offset, g.bytes, g.first, g.last});
    }
    return blocks;
}

}  // namespace ds
