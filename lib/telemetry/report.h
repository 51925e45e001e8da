// report.html: what a run did, on one self-contained page: a summary, curves, the memory plan, the timeline of a step.
//
// Plain HTML and inline SVG, no script and nothing fetched; hovering shows the numbers behind a mark. Fill in what there is: an empty
// part is left out. All texts are escaped, and the page is well-formed XML.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"

namespace ds {

struct SeriesPoint {
    double x = 0, y = 0;  // a y that is not finite breaks the line
};

struct Series {
    std::string name;                 // "train"
    std::vector<SeriesPoint> points;  // by rising x
    bool markers = false;             // dots joined by a line, for few points; otherwise a line, with its moving average where it is long
};

struct Chart {
    std::string title;    // "Loss"
    std::string x_label;  // "step"
    std::vector<Series> series;
};

// One block of the plan: these bytes belong to a tensor from the node `first` to the node `last`.
struct MemoryBlock {
    std::string name, kind;  // kind: "weights", "activations" ...: blocks are coloured by it
    int64_t offset = 0, bytes = 0, first = 0, last = 0;
};

// A thread was busy with a kernel. Bars are coloured by name, so let it be the op or the kernel; `detail` only shows on hovering.
struct TimelineSpan {
    int thread = 0;
    std::string name;
    double start_us = 0, end_us = 0;
    std::string detail;
};

// What a rank of a pipeline does, or did, for one micro-batch.
struct TimetableTurn {
    int rank = 0;
    size_t kind = 0;     // index into TimetableChart::kinds; boxes are coloured by it
    std::string label;   // "F3", drawn where it fits
    std::string detail;  // on hovering
    double begin = 0, end = 0;
};

struct TimetableChart {
    std::string title, note;         // note: "4 ranks, 8 micro-batches: 27 % idle"
    std::vector<std::string> kinds;  // "forward", "backward" ...
    std::vector<TimetableTurn> turns;
    bool microseconds = false;  // of times; otherwise they are units
};

struct ReportData {
    std::string title;                                         // "Sentiment, MiniLM-L6"
    std::vector<std::pair<std::string, std::string>> summary;  // {"Start", "2025-03-01 12:00:05"}
    std::vector<Chart> charts;
    std::vector<MemoryBlock> memory;
    std::vector<TimelineSpan> timeline;
    std::vector<TimetableChart> timetables;
};

std::string html_report(const ReportData& data);
Status write_report(const std::filesystem::path& path, const ReportData& data);

}  // namespace ds
