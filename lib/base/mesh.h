// The mesh: ranks along the axes tensor, sequence, data and pipeline, and what part of a dimension each of them holds.
//
// Rank order is DeepSpeed's (PipeModelDataParallelTopology): the tensor axis varies fastest, then sequence, then data, then pipeline.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace ds {

enum class MeshAxis : int { tensor, sequence, data, pipeline };
inline constexpr int kAxes = 4;
const char* name_of(MeshAxis axis);

using Coordinates = std::array<int, kAxes>;  // indexed by MeshAxis

struct Mesh {
    std::array<int, kAxes> sizes{1, 1, 1, 1};

    int size(MeshAxis axis) const { return sizes[static_cast<size_t>(axis)]; }
    int ranks() const;
    Coordinates place(int rank) const;
    int rank(const Coordinates& place) const;
    // The ranks that differ from `rank` in this axis only, in order.
    std::vector<int> group(int rank, MeshAxis axis) const;
};

inline int at(const Coordinates& place, MeshAxis axis) { return place[static_cast<size_t>(axis)]; }

struct Interval {
    int64_t begin = 0, end = 0;
    int64_t size() const { return end - begin; }
};
// Part r of n of `count` things: parts differ by one at most.
inline Interval near_even(int64_t count, int64_t r, int64_t n) { return {count * r / n, count * (r + 1) / n}; }

// A dimension cut over ranks: it repeats with `period`, and within each period `units` equal pieces are dealt out near-evenly and in order.
// So heads stay whole (a unit is a head), and of queries, keys and values that lie side by side each rank gets its heads of all three.
struct Cut {
    int dim = -1;  // -1: whole
    int64_t period = 0, units = 0;

    bool whole() const { return dim < 0; }
    bool operator==(const Cut&) const = default;
    Interval part(int r, int n) const;  // of one period
    int64_t local(int64_t full, int r, int n) const { return whole() ? full : full / period * part(r, n).size(); }
};
std::string to_string(const Cut& cut);

// Copies between a whole dense tensor and rank r's dense part of it. `inner`: elements behind the cut dimension; `outer`: before it.
struct CutCopy {
    int64_t outer = 1, full = 1, inner = 1;
    Cut cut;
    int rank = 0, ranks = 1;
    CutCopy(const std::vector<int64_t>& shape, const Cut& cut, int rank, int ranks);
    // Calls f(offset in the whole, offset in the part, elements) for every run of elements.
    template <class F>
    void runs(F&& f) const {
        if (cut.whole()) return f(int64_t{0}, int64_t{0}, outer * full * inner);
        const Interval part = cut.part(rank, ranks);
        const int64_t periods = outer * (full / cut.period), run = part.size() * inner;
        for (int64_t p = 0; p < periods && run > 0; ++p) f(p * cut.period * inner + part.begin * inner, p * run, run);
    }
};

}  // namespace ds
