// The timeline of a step: a lane for every thread, a bar for every kernel, and the table of where the time went.
#include <algorithm>
#include <cmath>
#include <map>

#include "telemetry/figures.h"
#include "telemetry/svg.h"

namespace ds {
namespace {

constexpr double kWidth = 1100, kLeft = 76, kRight = 1086, kTop = 8, kLane = 30, kBar = 24;
constexpr size_t kMostSpans = 8000;
constexpr size_t kMostRows = 30;
constexpr double kLetter = 6.2;  // width of a letter in a bar

struct Total {
    std::string name;
    double time = 0;
    int64_t calls = 0;
};

double length(const TimelineSpan& s) { return std::max(0.0, s.end_us - s.start_us); }

std::vector<Total> totals_of(const std::vector<TimelineSpan>& spans) {
    std::map<std::string_view, Total> by_name;
    for (const TimelineSpan& s : spans) {
        Total& t = by_name[s.name];
        t.name = s.name;
        t.time += length(s);
        ++t.calls;
    }
    std::vector<Total> totals;
    for (auto& [name, total] : by_name) totals.push_back(std::move(total));
    std::stable_sort(totals.begin(), totals.end(), [](const Total& a, const Total& b) { return a.time > b.time; });
    return totals;
}

std::vector<const TimelineSpan*> longest(const std::vector<TimelineSpan>& spans) {
    std::vector<const TimelineSpan*> kept;
    for (const TimelineSpan& s : spans) kept.push_back(&s);
    if (kept.size() <= kMostSpans) return kept;
    const auto longer = [](const TimelineSpan* a, const TimelineSpan* b) { return length(*a) > length(*b); };
    std::nth_element(kept.begin(), kept.begin() + kMostSpans, kept.end(), longer);
    kept.resize(kMostSpans);
    return kept;
}

std::string bar(const TimelineSpan& s, const svg::Scale& x, double top, const std::string& colour) {
    const double left = x(s.start_us), width = std::max(0.15, x(s.start_us + length(s)) - left);
    const std::string title =
        fmt::format("{}: {}\nfrom {} to {}{}{}", s.name, svg::duration_us(length(s)), svg::duration_us(s.start_us - x.low),
                    svg::duration_us(s.end_us - x.low), s.detail.empty() ? "" : "\n", s.detail);
    std::string out = svg::rect("bar " + colour, left, top, width, kBar, title);
    if (static_cast<double>(s.name.size()) * kLetter + 6 < width)
        out += svg::text(left + 4, top + kBar / 2, svg::Anchor::start, s.name, "inside");
    return out;
}

std::string table(const std::vector<Total>& totals, double wall_us, size_t threads) {
    double busy = 0;
    for (const Total& t : totals) busy += t.time;
    std::string out =
        "<table><thead><tr><th></th><th>op</th><th>calls</th><th>time, all threads</th><th></th><th>share</th></tr></thead><tbody>\n";
    const auto row = [&](const std::string& colour, const std::string& name, int64_t calls, double time) {
        const double share = busy > 0 ? 100 * time / busy : 0;
        out += fmt::format("<tr><td><i class=\"{}\"></i></td><td>{}</td><td>{}</td><td>{}</td>", colour, svg::escaped(name), calls,
                           svg::duration_us(time));
        out += fmt::format("<td><span class=\"share\"><span class=\"{}\" style=\"width:{:.1f}%\"></span></span></td>", colour, share);
        out += fmt::format("<td>{:.1f} %</td></tr>\n", share);
    };
    Total rest;
    for (size_t i = 0; i < totals.size(); ++i) {
        if (i < kMostRows) row(colour_class(i), totals[i].name, totals[i].calls, totals[i].time);
        else rest.time += totals[i].time, rest.calls += totals[i].calls;
    }
    if (rest.calls > 0) row("rest", fmt::format("{} others", totals.size() - kMostRows), rest.calls, rest.time);
    const double idle = wall_us > 0 ? 100 * (1 - busy / (wall_us * static_cast<double>(threads))) : 0;
    return out + fmt::format("</tbody></table>\n<p class=\"note\">Threads were idle {:.1f} % of the time.</p>\n", std::max(0.0, idle));
}

}  // namespace

std::string timeline_figure(const std::vector<TimelineSpan>& spans) {
    double low = spans.front().start_us, high = low;
    std::map<int, size_t> lanes;
    for (const TimelineSpan& s : spans) {
        low = std::min(low, s.start_us), high = std::max(high, s.end_us);
        lanes.emplace(s.thread, 0);
    }
    size_t lane = 0;
    for (auto& [thread, index] : lanes) index = lane++;
    const std::vector<Total> totals = totals_of(spans);
    std::map<std::string_view, size_t> rank;
    for (const Total& t : totals) rank.emplace(t.name, rank.size());

    const double wall = high - low, bottom = kTop + kLane * static_cast<double>(lanes.size());
    const svg::Scale x{low, wall > 0 ? high : low + 1, kLeft, kRight};
    std::string out = fmt::format("<figure class=\"wide\"><figcaption>Timeline of one step <span>{} on {} thread{}</span></figcaption>\n",
                                  svg::duration_us(wall), lanes.size(), lanes.size() == 1 ? "" : "s");
    out += svg::open(kWidth, bottom + 34, "Timeline of one step");
    for (const auto& [thread, index] : lanes) {
        const double top = kTop + kLane * static_cast<double>(index);
        out += svg::rect("lane", kLeft, top, kRight - kLeft, kBar);
        out += svg::text(kLeft - 8, top + kBar / 2, svg::Anchor::end, fmt::format("thread {}", thread));
    }
    const std::vector<const TimelineSpan*> drawn = longest(spans);
    for (const TimelineSpan* s : drawn)
        out += bar(*s, x, kTop + kLane * static_cast<double>(lanes.at(s->thread)), colour_class(rank.at(s->name)));
    const svg::Scale from_start{0, x.high - x.low, kLeft, kRight};
    for (const double tick : from_start.ticks(from_start.step(10))) {
        out += svg::line("axis", from_start(tick), bottom, from_start(tick), bottom + 4);
        out += svg::text(from_start(tick), bottom + 16, svg::Anchor::middle, svg::duration_us(tick));
    }
    out += "</svg>\n";
    if (drawn.size() < spans.size())
        out += fmt::format("<p class=\"note\">The {} shortest bars are not drawn.</p>\n", spans.size() - drawn.size());
    return out + table(totals, wall, lanes.size()) + "</figure>\n";
}

}  // namespace ds
