// What a choice between ways of splitting work is weighed by: seconds of one rank. The figures are those of a common server core and of its
// shared memory; only their ratios decide, and every rank must come to the same choice, so they are not measured.
#pragma once

#include <cstdint>

namespace ds {
struct Graph;
}

namespace ds::passes {

inline constexpr double kFlopsASecond = 60e9, kBytesASecond = 6e9, kExchangeSeconds = 4e-6;

// exchanges: how often ranks meet.
inline double seconds(double flops, double bytes_exchanged, double exchanges) {
    return flops / kFlopsASecond + bytes_exchanged / kBytesASecond + exchanges * kExchangeSeconds;
}

// Of a graph on one core, from its ops' own costs: each takes as long as its arithmetic, or as its operands and results take to move.
double seconds_of(const Graph& graph);

}  // namespace ds::passes
