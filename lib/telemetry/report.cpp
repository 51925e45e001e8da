#include "telemetry/report.h"

#include "base/file.h"
#include "telemetry/figures.h"
#include "telemetry/svg.h"

namespace ds {
namespace {

constexpr const char* kMeta =
    "<meta charset=\"utf-8\"/><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>"
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>";

constexpr const char* kStyle = R"(
:root { color-scheme: light dark; --page: #f6f7f9; --card: #ffffff; --ink: #1b2330; --muted: #667085; --edge: #e3e7ed; --grid: #eceff4;
  --lane: #f1f3f7; }
@media (prefers-color-scheme: dark) {
  :root { --page: #12161c; --card: #1a2029; --ink: #e6eaf0; --muted: #95a0b2; --edge: #2a323e; --grid: #262e39; --lane: #222933; }
}
* { box-sizing: border-box; }
body { margin: 0; padding: 32px 20px 48px; background: var(--page); color: var(--ink);
  font: 15px/1.45 system-ui, "Segoe UI", Roboto, Arial, sans-serif; }
main { max-width: 1180px; margin: 0 auto; }
h1 { font-size: 26px; font-weight: 650; letter-spacing: -0.01em; margin: 0 0 18px; overflow-wrap: anywhere; }
dl { display: flex; flex-wrap: wrap; margin: 0 0 20px; background: var(--card); border: 1px solid var(--edge); border-radius: 10px;
  overflow: hidden; }
dl div { flex: 1 1 190px; padding: 10px 13px 12px; box-shadow: 0 0 0 0.5px var(--edge); }
dt { color: var(--muted); font-size: 12.5px; }
dd { margin: 1px 0 0; font-size: 15.5px; font-weight: 600; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.figures { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 20px; }
figure { margin: 0; padding: 16px 18px 14px; background: var(--card); border: 1px solid var(--edge); border-radius: 10px; min-width: 0; }
figure.wide { grid-column: 1 / -1; overflow-x: auto; }
.wide svg { min-width: 860px; }
@media (max-width: 760px) { figure { grid-column: 1 / -1; } }
figcaption { font-size: 16px; font-weight: 620; }
figcaption span { color: var(--muted); font-weight: 400; font-size: 14px; margin-left: 8px; }
svg { display: block; width: 100%; height: auto; margin-top: 8px; }
svg text { font-size: 11px; fill: var(--muted); font-variant-numeric: tabular-nums; }
svg text.label { font-size: 11.5px; }
.grid { stroke: var(--grid); stroke-width: 1; }
.axis { stroke: var(--muted); stroke-width: 1; stroke-opacity: 0.55; }
.line { fill: none; stroke: var(--c); stroke-width: 1.9; stroke-linejoin: round; stroke-linecap: round; }
.line.faint { stroke-opacity: 0.28; stroke-width: 1; }
.dot { fill: var(--card); stroke: var(--c); stroke-width: 2; }
.hit { fill: var(--muted); fill-opacity: 0; }
.hit:hover { fill-opacity: 0.16; }
.block { fill: var(--c); fill-opacity: 0.82; stroke: var(--card); stroke-width: 0.5; }
.bar { fill: var(--c); }
.block.thin { stroke: none; }
.block:hover, .bar:hover { fill-opacity: 1; stroke: var(--ink); stroke-width: 1.2; }
.lane { fill: var(--lane); }
svg text.inside { fill: #ffffff; pointer-events: none; font-size: 10.5px; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 3px 18px; margin: 6px 0 0; padding: 0; color: var(--muted);
  font-size: 13px; }
.legend b { color: var(--ink); font-weight: 600; }
i { display: inline-block; width: 11px; height: 11px; border-radius: 3px; background: var(--c); margin-right: 6px; }
table { border-collapse: collapse; margin-top: 14px; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th { color: var(--muted); font-weight: 500; text-align: right; padding: 3px 14px; }
td { text-align: right; padding: 3px 14px; border-top: 1px solid var(--edge); white-space: nowrap; }
th:nth-child(2), td:nth-child(2) { text-align: left; white-space: normal; overflow-wrap: anywhere; padding-left: 0; }
th:first-child, td:first-child { padding: 3px 0; }
.share { display: inline-block; width: 110px; height: 8px; border-radius: 4px; background: var(--lane);
  overflow: hidden; text-align: left; }
.share span { display: block; height: 100%; background: var(--c); }
.note { color: var(--muted); font-size: 13px; margin: 10px 0 0; }
.c0 { --c: #3f74d6; } .c1 { --c: #dd7a35; } .c2 { --c: #2a9678; } .c3 { --c: #bf4a80; } .c4 { --c: #8563cf; }
.c5 { --c: #b18c26; } .c6 { --c: #3f98bd; } .c7 { --c: #94705b; } .c8 { --c: #719c37; } .rest { --c: #8b95a5; }
@media print { body { background: none; padding: 0; } figure { break-inside: avoid; } }
)";

std::string summary_rows(const ReportData& data) {
    if (data.summary.empty()) return {};
    std::string out = "<dl>\n";
    for (const auto& [name, value] : data.summary)
        out += fmt::format("<div><dt>{}</dt><dd>{}</dd></div>\n", svg::escaped(name), svg::escaped(value));
    return out + "</dl>\n";
}

}  // namespace

std::string html_report(const ReportData& data) {
    const std::string title = svg::escaped(data.title.empty() ? "Training run" : data.title);
    std::string out = fmt::format(
        "<!DOCTYPE html>\n<html lang=\"en\" "
        "xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>{}<title>{}</title>\n<style>{}</style></head>\n",
        kMeta, title, kStyle);
    out += fmt::format("<body><main>\n<h1>{}</h1>\n", title);
    out += summary_rows(data) + "<div class=\"figures\">\n";
    for (const Chart& chart : data.charts) out += chart_figure(chart);
    if (!data.memory.empty()) out += memory_figure(data.memory);
    for (const TimetableChart& chart : data.timetables)
        if (!chart.turns.empty()) out += timetable_figure(chart);
    if (!data.timeline.empty()) out += timeline_figure(data.timeline);
    return out + "</div>\n</main></body></html>\n";
}

Status write_report(const std::filesystem::path& path, const ReportData& data) { return write_file_atomically(path, html_report(data)); }

}  // namespace ds
