// Curves over steps.
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "telemetry/figures.h"
#include "telemetry/svg.h"

namespace ds {
namespace {

constexpr double kWidth = 540, kHeight = 290, kLeft = 58, kRight = 526, kTop = 12, kBottom = 250;
constexpr size_t kMostPoints = 1200;  // more than there are pixels
constexpr size_t kSmoothFrom = 40;    // points from which a moving average is worth its ink
constexpr size_t kMostStrips = 160;   // places that answer to hovering

using Points = std::vector<SeriesPoint>;

// Long curves are thinned to the least and the greatest value of each stretch, which keeps every spike.
Points thinned(Points points) {
    if (points.size() <= kMostPoints) return points;
    std::erase_if(points, [](const SeriesPoint& p) { return !std::isfinite(p.y); });
    Points kept;
    const size_t stretches = kMostPoints / 2;
    for (size_t i = 0; i < stretches; ++i) {
        const auto begin = points.begin() + static_cast<std::ptrdiff_t>(i * points.size() / stretches);
        const auto end = points.begin() + static_cast<std::ptrdiff_t>((i + 1) * points.size() / stretches);
        if (begin == end) continue;
        auto [least, most] = std::minmax_element(begin, end, [](const SeriesPoint& a, const SeriesPoint& b) { return a.y < b.y; });
        if (most < least) std::swap(least, most);
        kept.push_back(*least);
        if (least != most) kept.push_back(*most);
    }
    return kept;
}

// Exponential moving average over about a thirtieth of the run, without the pull of a zero start.
Points averaged(const Points& points) {
    const double keep = 1 - 2 / (static_cast<double>(points.size()) / 30 + 1);
    Points result;
    double sum = 0, weight = 0;
    for (const SeriesPoint& p : points) {
        if (!std::isfinite(p.y)) continue;
        sum = keep * sum + (1 - keep) * p.y;
        weight = keep * weight + (1 - keep);
        result.push_back({p.x, sum / weight});
    }
    return result;
}

// A curve that keeps turning hides its course; one that doesn't, a learning rate say, needs no average.
bool is_noisy(const Points& points) {
    size_t turns = 0;
    for (size_t i = 2; i < points.size(); ++i) turns += (points[i].y - points[i - 1].y) * (points[i - 1].y - points[i - 2].y) < 0;
    return points.size() >= kSmoothFrom && turns * 5 > points.size();
}

std::string path_of(const Points& points, const svg::Scale& x, const svg::Scale& y) {
    std::string path;
    bool pen_down = false;
    for (const SeriesPoint& p : points) {
        if (!std::isfinite(p.y) || !std::isfinite(p.x)) {
            pen_down = false;
            continue;
        }
        path += fmt::format("{}{} {}", pen_down ? "L" : "M", svg::coordinate(x(p.x)), svg::coordinate(y(p.y)));
        pen_down = true;
    }
    return path;
}

std::string axes(const Chart& chart, const svg::Scale& x, const svg::Scale& y) {
    std::string out;
    for (const double tick : y.ticks(y.step(5))) {
        out += svg::line("grid", kLeft, y(tick), kRight, y(tick));
        out += svg::text(kLeft - 8, y(tick), svg::Anchor::end, svg::number(tick));
    }
    for (const double tick : x.ticks(x.step(6))) {
        out += svg::line("axis", x(tick), kBottom, x(tick), kBottom + 4);
        out += svg::text(x(tick), kBottom + 14, svg::Anchor::middle, svg::number(tick));
    }
    out += svg::line("axis", kLeft, kBottom, kRight, kBottom);
    return out + svg::text((kLeft + kRight) / 2, kHeight - 8, svg::Anchor::middle, chart.x_label, "label");
}

std::string curve(const Series& series, size_t rank, const svg::Scale& x, const svg::Scale& y) {
    const Points points = thinned(series.points);
    const bool smooth = !series.markers && is_noisy(series.points);
    const std::string colour = colour_class(rank);
    std::string out = fmt::format("<path class=\"line {}{}\" d=\"{}\"/>\n", colour, smooth ? " faint" : "", path_of(points, x, y));
    if (smooth) out += fmt::format("<path class=\"line {}\" d=\"{}\"/>\n", colour, path_of(thinned(averaged(series.points)), x, y));
    if (!series.markers && points.size() > 1) return out;
    for (const SeriesPoint& p : points) {
        if (!std::isfinite(p.x) || !std::isfinite(p.y)) continue;
        out += fmt::format("<circle class=\"dot {}\" cx=\"{}\" cy=\"{}\" r=\"3.2\"/>\n", colour, svg::coordinate(x(p.x)),
                           svg::coordinate(y(p.y)));
    }
    return out;
}

// Upright strips over the plot, each with the values under it: hovering anywhere answers.
std::string strips(const Chart& chart, const svg::Scale& x) {
    std::map<size_t, std::string> texts;
    std::map<size_t, double> places;
    const double width = (kRight - kLeft) / kMostStrips;
    for (const Series& series : chart.series) {
        std::map<size_t, SeriesPoint> last;
        for (const SeriesPoint& p : series.points)
            if (std::isfinite(p.x)) last[static_cast<size_t>(std::clamp((x(p.x) - kLeft) / width, 0.0, kMostStrips - 1.0))] = p;
        for (const auto& [strip, p] : last) {
            texts[strip] += fmt::format("\n{}: {}", series.name, svg::number(p.y));
            places[strip] = p.x;
        }
    }
    std::string out;
    double from = kLeft;
    for (auto at = texts.begin(); at != texts.end(); ++at) {
        const auto next = std::next(at);
        const double to = next == texts.end() ? kRight : kLeft + (static_cast<double>(at->first + next->first) / 2 + 0.5) * width;
        const std::string title = fmt::format("{} {}{}", chart.x_label, svg::number(places[at->first]), at->second);
        out += svg::rect("hit", from, kTop, to - from, kBottom - kTop, title);
        from = to;
    }
    return out;
}

}  // namespace

std::string chart_figure(const Chart& chart) {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    double x_low = kInfinity, x_high = -kInfinity, y_low = kInfinity, y_high = -kInfinity;
    for (const Series& series : chart.series) {
        for (const SeriesPoint& p : series.points) {
            if (!std::isfinite(p.x) || !std::isfinite(p.y)) continue;
            x_low = std::min(x_low, p.x), x_high = std::max(x_high, p.x);
            y_low = std::min(y_low, p.y), y_high = std::max(y_high, p.y);
        }
    }
    const svg::Scale y = svg::scale_over(y_low, y_high, kBottom, kTop);
    const svg::Scale x = x_low < x_high ? svg::Scale{x_low, x_high, kLeft, kRight} : svg::scale_over(x_low, x_high, kLeft, kRight);
    std::string out = fmt::format("<figure><figcaption>{}</figcaption>\n<ul class=\"legend\">", svg::escaped(chart.title));
    for (size_t i = 0; i < chart.series.size(); ++i)
        out += fmt::format("<li><i class=\"{}\"></i>{}</li>", colour_class(i), svg::escaped(chart.series[i].name));
    out += "</ul>\n" + svg::open(kWidth, kHeight, chart.title);
    out += axes(chart, x, y);
    for (size_t i = 0; i < chart.series.size(); ++i) out += curve(chart.series[i], i, x, y);
    return out + strips(chart, x) + "</svg></figure>\n";
}

}  // namespace ds
