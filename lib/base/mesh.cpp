#include "base/mesh.h"

#include <fmt/format.h>

namespace ds {

const char* name_of(MeshAxis axis) {
    static constexpr const char* names[kAxes] = {"tensor", "sequence", "data", "pipeline"};
    return names[static_cast<size_t>(axis)];
}

int Mesh::ranks() const {
    int n = 1;
    for (const int size : sizes) n *= size;
    return n;
}

Coordinates Mesh::place(int rank) const {
    Coordinates place{};
    for (size_t axis = 0; axis < kAxes; ++axis) {
        place[axis] = rank % sizes[axis];
        rank /= sizes[axis];
    }
    return place;
}

int Mesh::rank(const Coordinates& place) const {
    int rank = 0;
    for (size_t axis = kAxes; axis-- > 0;) rank = rank * sizes[axis] + place[axis];
    return rank;
}

std::vector<int> Mesh::group(int rank, MeshAxis axis) const {
    Coordinates where = place(rank);
    std::vector<int> ranks;
    for (int i = 0; i < size(axis); ++i) {
        where[static_cast<size_t>(axis)] = i;
        ranks.push_back(this->rank(where));
    }
    return ranks;
}

Interval Cut::part(int r, int n) const {
    const Interval dealt = near_even(units, r, n);
    const int64_t unit = period / units;
    return {dealt.begin * unit, dealt.end * unit};
}

std::string to_string(const Cut& cut) {
    return cut.whole() ? "whole" : fmt::format("dimension {} in {} units of {}", cut.dim, cut.units, cut.period / cut.units);
}

CutCopy::CutCopy(const std::vector<int64_t>& shape, const Cut& c, int r, int n) : cut(c), rank(r), ranks(n) {
    for (size_t d = 0; d < shape.size(); ++d) {
        if (static_cast<int>(d) < cut.dim) outer *= shape[d];
        else if (static_cast<int>(d) == cut.dim) full = shape[d];
        else inner *= shape[d];
    }
}

}  // namespace ds
