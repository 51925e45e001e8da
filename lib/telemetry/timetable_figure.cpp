// A pipeline's timetable: a lane for every rank, a box for every turn.
#include <algorithm>

#include "telemetry/figures.h"
#include "telemetry/svg.h"

namespace ds {
namespace {

constexpr double kWidth = 1100, kLeft = 76, kRight = 1086, kTop = 8, kLane = 30, kBox = 24;
constexpr double kLetter = 6.2;  // width of a letter in a box
constexpr size_t kMostTurns = 8000;

}  // namespace

std::string timetable_figure(const TimetableChart& chart) {
    double low = chart.turns.front().begin, high = low;
    int lanes = 0;
    for (const TimetableTurn& turn : chart.turns)
        low = std::min(low, turn.begin), high = std::max(high, turn.end), lanes = std::max(lanes, turn.rank + 1);
    const svg::Scale x{low, high > low ? high : low + 1, kLeft, kRight};
    const double bottom = kTop + kLane * lanes;
    const auto length = [&](double time) { return chart.microseconds ? svg::duration_us(time) : svg::number(time); };
    std::string out = fmt::format("<figure class=\"wide\"><figcaption>{} <span>{}</span></figcaption>\n", svg::escaped(chart.title),
                                  svg::escaped(chart.note));
    out += svg::open(kWidth, bottom + 34, chart.title);
    for (int lane = 0; lane < lanes; ++lane) {
        const double top = kTop + kLane * lane;
        out += svg::rect("lane", kLeft, top, kRight - kLeft, kBox);
        out += svg::text(kLeft - 8, top + kBox / 2, svg::Anchor::end, fmt::format("rank {}", lane));
    }
    for (size_t i = 0; i < std::min(chart.turns.size(), kMostTurns); ++i) {
        const TimetableTurn& turn = chart.turns[i];
        const double left = x(turn.begin), width = std::max(0.15, x(turn.end) - left - 1), top = kTop + kLane * turn.rank;
        out += svg::rect("bar " + colour_class(turn.kind), left, top, width, kBox,
                         fmt::format("{}: {}\nfrom {} to {}", turn.detail, length(turn.end - turn.begin), length(turn.begin - low),
                                     length(turn.end - low)));
        if (static_cast<double>(turn.label.size()) * kLetter + 2 < width)
            out += svg::text(left + width / 2, top + kBox / 2, svg::Anchor::middle, turn.label, "inside");
    }
    const svg::Scale from_start{0, x.high - x.low, kLeft, kRight};
    for (const double tick : from_start.ticks(from_start.step(10))) {
        out += svg::line("axis", from_start(tick), bottom, from_start(tick), bottom + 4);
        out += svg::text(from_start(tick), bottom + 16, svg::Anchor::middle, length(tick));
    }
    out += "</svg>\n";
    if (chart.turns.size() > kMostTurns)
        out += fmt::format("<p class=\"note\">The last {} turns are not drawn.</p>\n", chart.turns.size() - kMostTurns);
    out += "<ul class=\"legend\">";
    for (size_t kind = 0; kind < chart.kinds.size(); ++kind)
        out += fmt::format("<li><i class=\"{}\"></i>{}</li>", colour_class(kind), svg::escaped(chart.kinds[kind]));
    return out + "</ul>\n</figure>\n";
}

}  // namespace ds
