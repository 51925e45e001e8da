// The memory plan: time to the right, addresses upwards, a rectangle for every block.
#include <algorithm>
#include <cmath>
#include <map>

#include "telemetry/figures.h"
#include "telemetry/svg.h"

namespace ds {
namespace {

constexpr double kWidth = 1100, kHeight = 430, kLeft = 76, kRight = 1086, kTop = 10, kBottom = 390;
constexpr size_t kMostBlocks = 6000;  // a page that still opens at once

struct Plan {
    std::vector<const MemoryBlock*> drawn;               // the largest, by first node
    std::vector<std::pair<std::string, int64_t>> kinds;  // by the bytes they take at their peak, the most first
    int64_t end = 0, first = 0, last = 0, left_out = 0;
};

// The most bytes that blocks of one kind take at one time.
int64_t peak_of(std::vector<const MemoryBlock*> blocks) {
    std::map<int64_t, int64_t> change;
    for (const MemoryBlock* b : blocks) change[b->first] += b->bytes, change[b->last + 1] -= b->bytes;
    int64_t now = 0, peak = 0;
    for (const auto& [node, bytes] : change) peak = std::max(peak, now += bytes);
    return peak;
}

Plan plan_of(const std::vector<MemoryBlock>& blocks) {
    Plan plan;
    plan.first = plan.last = blocks.front().first;
    std::map<std::string, std::vector<const MemoryBlock*>> by_kind;
    for (const MemoryBlock& b : blocks) {
        plan.end = std::max(plan.end, b.offset + b.bytes);
        plan.first = std::min(plan.first, b.first);
        plan.last = std::max(plan.last, b.last);
        by_kind[b.kind].push_back(&b);
        plan.drawn.push_back(&b);
    }
    const auto area = [](const MemoryBlock* b) { return static_cast<double>(b->bytes) * static_cast<double>(b->last - b->first + 1); };
    std::sort(plan.drawn.begin(), plan.drawn.end(), [&](const MemoryBlock* a, const MemoryBlock* b) { return area(a) > area(b); });
    if (plan.drawn.size() > kMostBlocks) {
        plan.left_out = static_cast<int64_t>(plan.drawn.size() - kMostBlocks);
        plan.drawn.resize(kMostBlocks);
    }
    for (const auto& [kind, members] : by_kind) plan.kinds.emplace_back(kind, peak_of(members));
    std::stable_sort(plan.kinds.begin(), plan.kinds.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
    return plan;
}

// Ticks at round numbers of the unit that suits the size.
std::string address_axis(const svg::Scale& y) {
    const double unit = std::pow(1024, std::clamp(std::floor(std::log2(std::max(y.high, 1.0)) / 10), 0.0, 4.0));
    const svg::Scale in_units{0, y.high / unit, y.from, y.to};
    std::string out;
    for (const double tick : in_units.ticks(in_units.step(6))) {
        out += svg::line("grid", kLeft, in_units(tick), kRight, in_units(tick));
        out += svg::text(kLeft - 8, in_units(tick), svg::Anchor::end, svg::bytes(tick * unit));
    }
    return out;
}

std::string block(const MemoryBlock& b, const std::string& colour, const svg::Scale& x, const svg::Scale& y) {
    const double left = x(static_cast<double>(b.first)), right = x(static_cast<double>(b.last) + 1);
    const double top = y(static_cast<double>(b.offset + b.bytes)), bottom = y(static_cast<double>(b.offset));
    const std::string title = fmt::format("{}\n{}, {}\nbytes {} to {}\nnodes {} to {}", b.name, b.kind,
                                          svg::bytes(static_cast<double>(b.bytes)), b.offset, b.offset + b.bytes, b.first, b.last);
    const double width = std::max(0.2, right - left), height = std::max(0.2, bottom - top);
    return svg::rect((std::min(width, height) < 4 ? "block thin " : "block ") + colour, left, top, width, height, title);
}

}  // namespace

std::string memory_figure(const std::vector<MemoryBlock>& blocks) {
    const Plan plan = plan_of(blocks);
    const svg::Scale x{static_cast<double>(plan.first), static_cast<double>(plan.last) + 1, kLeft, kRight};
    const svg::Scale y{0, std::max(1.0, static_cast<double>(plan.end)), kBottom, kTop};
    std::map<std::string, size_t> rank;
    std::string out = "<figure class=\"wide\">";
    out += fmt::format("<figcaption>Memory plan <span>{} blocks in {}</span></figcaption>\n", blocks.size(),
                       svg::bytes(static_cast<double>(plan.end)));
    out += "<ul class=\"legend\">";
    for (const auto& [kind, peak] : plan.kinds) {
        const std::string colour = colour_class(rank.emplace(kind, rank.size()).first->second);
        out += fmt::format("<li><i class=\"{}\"></i>{} <b>{}</b></li>", colour, svg::escaped(kind), svg::bytes(static_cast<double>(peak)));
    }
    out += "</ul>\n" + svg::open(kWidth, kHeight, "Memory plan") + address_axis(y);
    for (const MemoryBlock* b : plan.drawn) out += block(*b, colour_class(rank.at(b->kind)), x, y);
    for (const double tick : x.ticks(std::max(1.0, x.step(12))))
        out += svg::text(x(tick), kBottom + 13, svg::Anchor::middle, svg::number(tick));
    out += svg::line("axis", kLeft, kBottom, kRight, kBottom);
    out += svg::text((kLeft + kRight) / 2, kHeight - 8, svg::Anchor::middle, "node, in order of execution", "label") + "</svg>\n";
    if (plan.left_out > 0) out += fmt::format("<p class=\"note\">The {} smallest blocks are not drawn.</p>\n", plan.left_out);
    return out + "</figure>\n";
}

}  // namespace ds
