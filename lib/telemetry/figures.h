// The figures of report.html, each a piece of HTML around an inline SVG.
#pragma once

#include <string>

#include "telemetry/report.h"

namespace ds {

std::string chart_figure(const Chart& chart);
std::string memory_figure(const std::vector<MemoryBlock>& blocks);
std::string timetable_figure(const TimetableChart& chart);
std::string timeline_figure(const std::vector<TimelineSpan>& spans);

inline constexpr size_t kColours = 9;  // classes c0..c8 of the style sheet, and "rest" for whatever comes after
inline std::string colour_class(size_t rank) { return rank < kColours ? fmt::format("c{}", rank) : "rest"; }

}  // namespace ds
