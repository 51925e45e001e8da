// Which stage computes what: a graph is a row of segments, cut at the values that models mark as block boundaries, and each stage gets some
// in a row.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "ir/graph.h"

namespace ds {

// Numbers the boundaries of blocks 1, 2 ... in the order in which they are made; passes keep the numbers. A graph that marks too few for so
// many stages gets marks where a single value joins what is before and what is after, and if those are too few, after every value that
// stages can exchange.
void number_boundaries(Graph& graph, int stages);

// What lies between two boundaries.
struct Segment {
    int end = 0;                     // the boundary's number; 0: the last segment, which ends with the graph
    double parameters = 0;           // trained ones
    double flops = 0;                // of the forward pass
    std::vector<std::string> names;  // of its ops and parameters
};
std::vector<Segment> segments_of(const Graph& graph);

// The boundary after which each stage but the last ends. method: uniform (as many segments each), parameters, cost (alias best), or
// type:REGEX, which counts the segments in which an op's or parameter's name matches, whatever the case.
Result<std::vector<int>> partition(const std::vector<Segment>& segments, int stages, const std::string& method);

// Ends of `parts` parts in a row, none empty: the heaviest is as light as can be, then the lightest as heavy. Where several do, the later
// split stays (DeepSpeed's rule).
std::vector<int> balance(std::span<const double> weights, int parts);

// The parameters that each stage uses; one that none uses belongs to the last.
std::map<std::string, std::vector<int>> holders_of(const Graph& graph, const std::vector<int>& ends);

}  // namespace ds
