// Ops that only move elements: copy, transpose, slice, split, concat, broadcast, fill.
#include <algorithm>

#include "kernels/ref/ref.h"
#include "ops/attrs.h"

namespace ds::ref {
namespace {

// to[i] = from[offset + sum of index_k(i) * stride_k], i over the elements of `to`.
void gather(const Tensor& from, int64_t offset, const int64_t* strides, const Tensor& to) {
    for (int64_t i = 0; i < to.count(); ++i) {
        int64_t rest = i, source = offset;
        for (int k = to.rank - 1; k >= 0; --k) {
            source += rest % to.dims[k] * strides[k];
            rest /= to.dims[k];
        }
        move(from, source, to, i);
    }
}

void copy_all(const Call& c) {
    for (int64_t i = 0; i < c.out[0].count(); ++i) move(c.in[0], i, c.out[0], i);
}

void permute(const Call& c) {
    const Tensor &x = c.in[0], &y = c.out[0];
    const std::vector<int64_t>& perm = c.attr<Permute>().perm;
    int64_t strides[kMaxRank], permuted[kMaxRank];
    strides_of(x, strides);
    for (int i = 0; i < y.rank; ++i) permuted[i] = strides[perm.empty() ? y.rank - 1 - i : place(perm[static_cast<size_t>(i)], x)];
    gather(x, 0, permuted, y);
}

void cut(const Call& c) {
    const Tensor& x = c.in[0];
    const Slice& a = c.attr<Slice>();
    const int64_t axis = place(a.axis, x), n = x.dims[axis];
    int64_t strides[kMaxRank];
    strides_of(x, strides);
    gather(x, std::clamp<int64_t>(a.begin < 0 ? a.begin + n : a.begin, 0, n) * strides[axis], strides, c.out[0]);
}

void divide(const Call& c) {
    const Tensor& x = c.in[0];
    const Split& a = c.attr<Split>();
    const int64_t axis = place(a.axis, x);
    int64_t strides[kMaxRank], begin = 0;
    strides_of(x, strides);
    for (size_t i = 0; i < a.sizes.size(); ++i) {
        gather(x, begin * strides[axis], strides, c.out[i]);
        begin += a.sizes[i];
    }
}

// Inputs follow each other until the axis is full.
void join(const Call& c) {
    const Tensor& y = c.out[0];
    const int64_t axis = place(c.attr<Axis>().axis, y);
    int64_t inner = 1, begin = 0;
    for (int k = static_cast<int>(axis) + 1; k < y.rank; ++k) inner *= y.dims[k];
    for (int input = 0; input < *static_cast<const int*>(c.state); ++input) {
        const Tensor& x = c.in[input];
        const int64_t run = x.dims[axis] * inner;
        for (int64_t i = 0; i < x.count(); ++i) move(x, i, y, i / run * y.dims[axis] * inner + begin * inner + i % run);
        begin += x.dims[axis];
    }
}
Result<Prepared> prepare_join(const Request& request) {
    return Prepared{{alone<join>}, std::make_shared<int>(static_cast<int>(request.in.size())), 0};
}

void spread(const Call& c) {
    const Tensor &x = c.in[0], &y = c.out[0];
    int64_t strides[kMaxRank], spread_strides[kMaxRank];
    strides_of(x, strides);
    for (int i = y.rank - 1, j = x.rank - 1; i >= 0; --i, --j) spread_strides[i] = j >= 0 && x.dims[j] != 1 ? strides[j] : 0;
    gather(x, 0, spread_strides, y);
}

void fill_all(const Call& c) {
    for (int64_t i = 0; i < c.out[0].count(); ++i) set(c.out[0], i, c.attr<Fill>().value);
}

constexpr KernelImpl kCopy[] = {plain<copy_all>()}, kTranspose[] = {plain<permute>()}, kSlice[] = {plain<cut>()},
                     kSplit[] = {plain<divide>()};
constexpr KernelImpl kConcat[] = {{"ref", accepts_all, prepare_join}}, kBroadcast[] = {plain<spread>()}, kFill[] = {plain<fill_all>()};

}  // namespace

const KernelList copy{kCopy}, transpose{kTranspose}, slice{kSlice}, split{kSplit}, concat{kConcat}, broadcast{kBroadcast}, fill{kFill};

}  // namespace ds::ref
