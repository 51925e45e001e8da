#include "kernels/cpu/strided.h"

#include <cstring>

namespace ds::cpu {
namespace {

// Drops dimensions of 1 and joins neighbours that lie as one dimension in both layouts.
Box simplified(const Box& box) {
    Box b;
    for (int i = 0; i < box.rank; ++i) {
        if (box.dims[i] == 1) continue;
        const int last = b.rank - 1;
        if (b.rank && b.from[last] == box.from[i] * box.dims[i] && b.to[last] == box.to[i] * box.dims[i]) {
            b.dims[last] *= box.dims[i], b.from[last] = box.from[i], b.to[last] = box.to[i];
            continue;
        }
        b.dims[b.rank] = box.dims[i], b.from[b.rank] = box.from[i], b.to[b.rank] = box.to[i];
        ++b.rank;
    }
    if (b.rank == 0) b.dims[0] = b.from[0] = b.to[0] = 1, b.rank = 1;
    return b;
}

// Walks the first `rank` dimensions of a box in order from a given item on, keeping both offsets.
class Walk {
public:
    Walk(const Box& box, int rank, int64_t item) : box_(box), rank_(rank) {
        for (int i = rank - 1; i >= 0; --i) {
            index_[i] = item % box.dims[i];
            item /= box.dims[i];
            from += index_[i] * box.from[i], to += index_[i] * box.to[i];
        }
    }
    void next() {
        for (int i = rank_ - 1; i >= 0; --i) {
            from += box_.from[i], to += box_.to[i];
            if (++index_[i] < box_.dims[i]) return;
            from -= box_.dims[i] * box_.from[i], to -= box_.dims[i] * box_.to[i];
            index_[i] = 0;
        }
    }
    int64_t from = 0, to = 0;

private:
    const Box& box_;
    int rank_;
    int64_t index_[kMaxRank] = {};
};

int64_t product(const int64_t* dims, int n) {
    int64_t p = 1;
    for (int i = 0; i < n; ++i) p *= dims[i];
    return p;
}

// Runs that are contiguous on both sides, or one element repeated. Long runs are cut so that few of them still divide among the team.
template <class T>
void copy_runs(const T* from, T* to, const Box& box, Team team) {
    const int outer = box.rank - 1;
    const int64_t run = box.dims[outer], cut = std::max<int64_t>(1, 65536 / static_cast<int64_t>(sizeof(T)));
    const int64_t pieces = std::max<int64_t>(1, (run + cut - 1) / cut), piece = (run + pieces - 1) / pieces;
    const auto [begin, end] = team.part(product(box.dims, outer) * pieces);
    if (begin >= end) return;
    Walk walk(box, outer, begin / pieces);
    for (int64_t item = begin; item < end; ++item) {
        const int64_t start = item % pieces * piece, n = std::max<int64_t>(0, std::min(piece, run - start));
        if (box.from[outer] == 1) std::memcpy(to + walk.to + start, from + walk.from + start, static_cast<size_t>(n) * sizeof(T));
        else std::fill_n(to + walk.to + start, n, from[walk.from]);
        if (item % pieces == pieces - 1) walk.next();
    }
}

// The last dimension is contiguous in `to`, the one before it in `from`: a tile uses whole cache lines of both.
template <class T>
void copy_transposed(const T* from, T* to, const Box& box, Team team) {
    constexpr int64_t kTile = 64 / sizeof(T);
    const int outer = box.rank - 2;
    const int64_t rows = box.dims[outer], columns = box.dims[outer + 1], row_to = box.to[outer], column_from = box.from[outer + 1];
    const int64_t bands = (rows + kTile - 1) / kTile;
    const auto [begin, end] = team.part(product(box.dims, outer) * bands);
    if (begin >= end) return;
    Walk walk(box, outer, begin / bands);
    for (int64_t item = begin; item < end; ++item) {
        const int64_t r0 = item % bands * kTile, r1 = std::min(rows, r0 + kTile);
        for (int64_t c0 = 0; c0 < columns; c0 += kTile) {
            const int64_t c1 = std::min(columns, c0 + kTile);
            for (int64_t r = r0; r < r1; ++r) {
                const T* source = from + walk.from + r;
                T* target = to + walk.to + r * row_to;
                for (int64_t c = c0; c < c1; ++c) target[c] = source[c * column_from];
            }
        }
        if (item % bands == bands - 1) walk.next();
    }
}

template <class T>
void copy_elements(const T* from, T* to, const Box& box, Team team) {
    const int outer = box.rank - 1;
    const auto [begin, end] = team.part(product(box.dims, outer));
    if (begin >= end) return;
    Walk walk(box, outer, begin);
    for (int64_t item = begin; item < end; ++item, walk.next())
        for (int64_t i = 0; i < box.dims[outer]; ++i) to[walk.to + i * box.to[outer]] = from[walk.from + i * box.from[outer]];
}

template <class T>
void copy_typed(const void* from, void* to, Box box, Team team) {
    const T* f = static_cast<const T*>(from);
    T* t = static_cast<T*>(to);
    const int last = box.rank - 1;
    if (box.to[last] == 1 && (box.from[last] == 1 || box.from[last] == 0)) return copy_runs(f, t, box, team);
    for (int i = last - 1; i >= 0 && box.to[last] == 1; --i) {
        if (box.from[i] != 1) continue;
        for (int j = i; j + 1 < last; ++j) {  // dimension i moves next to the last one; the order of a copy does not matter
            std::swap(box.dims[j], box.dims[j + 1]);
            std::swap(box.from[j], box.from[j + 1]);
            std::swap(box.to[j], box.to[j + 1]);
        }
        return copy_transposed(f, t, box, team);
    }
    copy_elements(f, t, box, team);
}

}  // namespace

void strides_of(const Tensor& t, int64_t* strides) {
    for (int i = t.rank - 1; i >= 0; --i)
        strides[i] = i == t.rank - 1 ? 1 : i == t.rank - 2 ? t.row_stride : strides[i + 1] * t.dims[i + 1];
}

void copy_box(const void* from, void* to, int64_t size, Box box, Team team) {
    for (int i = 0; i < box.rank; ++i)
        if (box.dims[i] == 0) return;
    box = simplified(box);
    if (size == 1) copy_typed<uint8_t>(from, to, box, team);
    else if (size == 2) copy_typed<uint16_t>(from, to, box, team);
    else if (size == 4) copy_typed<uint32_t>(from, to, box, team);
    else copy_typed<uint64_t>(from, to, box, team);
}

}  // namespace ds::cpu
