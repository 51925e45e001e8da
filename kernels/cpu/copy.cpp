// Ops that only move elements, of any type: copy, transpose, slice, split, concat, broadcast, fill. Each is a copy between two strided
// boxes.
#include <algorithm>

#include "kernels/cpu/strided.h"
#include "ops/attrs.h"

namespace ds::cpu {
namespace {

const char* types_differ(const Request& request) {
    for (const auto& list : {request.in, request.out})
        for (const Tensor& t : list)
            if (t.present && t.dtype != request.in[0].dtype) return "types differ";
    return nullptr;
}

Box box_of(const Tensor& from, const Tensor& to) {
    Box box{from.rank, {}, {}, {}};
    std::copy_n(from.dims, from.rank, box.dims);
    strides_of(from, box.from);
    strides_of(to, box.to);
    return box;
}

std::byte* element(const Tensor& t, int64_t offset) { return t.as<std::byte>() + offset * size_of(t.dtype); }

// x and y may have different ranks (a reshape): both are then dense, or agree in rows and columns.
void copy_phase(const Call& call, Team team) {
    const Tensor &x = call.in[0], &y = call.out[0];
    Box box{2, {x.rows(), x.columns()}, {x.row_stride, 1}, {y.row_stride, 1}};
    if (x.columns() != y.columns()) box = Box{1, {x.count()}, {1}, {1}};
    copy_box(x.data, y.data, size_of(x.dtype), box, team);
}
const char* declines_copy(const Request& request) {
    const Tensor &x = request.in[0], &y = request.out[0];
    if (x.columns() != y.columns() && !(x.dense() && y.dense())) return "rows of different length, not dense";
    return types_differ(request);
}

void transpose_phase(const Call& call, Team team) {
    const Tensor &x = call.in[0], &y = call.out[0];
    const std::vector<int64_t>& perm = call.attr<Permute>().perm;
    int64_t strides[kMaxRank];
    strides_of(x, strides);
    Box box = box_of(y, y);
    for (int i = 0; i < y.rank; ++i) {
        const int64_t p = perm.empty() ? y.rank - 1 - i : perm[i];
        box.from[i] = strides[p < 0 ? p + y.rank : p];
    }
    copy_box(x.data, y.data, size_of(x.dtype), box, team);
}

int64_t place(int64_t axis, const Tensor& t) { return axis < 0 ? axis + t.rank : axis; }

void slice_phase(const Call& call, Team team) {
    const Tensor &x = call.in[0], &y = call.out[0];
    const Slice& a = call.attr<Slice>();
    const int64_t axis = place(a.axis, x), n = x.dims[axis];
    const int64_t begin = std::clamp<int64_t>(a.begin < 0 ? a.begin + n : a.begin, 0, n);
    Box box = box_of(y, y);
    strides_of(x, box.from);
    copy_box(element(x, begin * box.from[axis]), y.data, size_of(x.dtype), box, team);
}

// out_count is not part of a Call: the attribute has a size for every output.
void split_phase(const Call& call, Team team) {
    const Tensor& x = call.in[0];
    const Split& a = call.attr<Split>();
    const int64_t axis = place(a.axis, x);
    int64_t begin = 0;
    for (size_t i = 0; i < a.sizes.size(); ++i) {
        const Tensor& y = call.out[i];
        Box box = box_of(y, y);
        strides_of(x, box.from);
        copy_box(element(x, begin * box.from[axis]), y.data, size_of(x.dtype), box, team);
        begin += y.dims[axis];
    }
}

void concat_phase(const Call& call, Team team) {
    const Tensor& y = call.out[0];
    const int64_t axis = place(call.attr<Axis>().axis, y), inputs = *static_cast<const int64_t*>(call.state);
    int64_t begin = 0;
    for (int64_t i = 0; i < inputs; ++i) {
        const Tensor& x = call.in[i];
        const Box box = box_of(x, y);
        copy_box(x.data, element(y, begin * box.to[axis]), size_of(x.dtype), box, team);
        begin += x.dims[axis];
    }
}
Result<Prepared> prepare_concat(const Request& request) {
    return Prepared{{concat_phase}, std::make_shared<int64_t>(static_cast<int64_t>(request.in.size())), 0};
}

void broadcast_phase(const Call& call, Team team) {
    const Tensor &x = call.in[0], &y = call.out[0];
    int64_t strides[kMaxRank];
    strides_of(x, strides);
    Box box = box_of(y, y);
    for (int i = y.rank - 1, j = x.rank - 1; i >= 0; --i, --j) box.from[i] = j >= 0 && x.dims[j] != 1 ? strides[j] : 0;
    copy_box(x.data, y.data, size_of(x.dtype), box, team);
}

void fill_phase(const Call& call, Team team) {
    const Tensor& y = call.out[0];
    const double value = call.attr<Fill>().value;
    alignas(8) std::byte one[8];
    convert(&value, DType::f64, one, y.dtype, 1);
    Box box{2, {y.rows(), y.columns()}, {0, 0}, {y.row_stride, 1}};
    copy_box(one, y.data, size_of(y.dtype), box, team);
}

constexpr KernelImpl kCopy[] = {{"strided", declines_copy, simple<copy_phase>}};
constexpr KernelImpl kTranspose[] = {{"strided", types_differ, simple<transpose_phase>}};
constexpr KernelImpl kSlice[] = {{"strided", types_differ, simple<slice_phase>}};
constexpr KernelImpl kSplit[] = {{"strided", types_differ, simple<split_phase>}};
constexpr KernelImpl kConcat[] = {{"strided", types_differ, prepare_concat}};
constexpr KernelImpl kBroadcast[] = {{"strided", types_differ, simple<broadcast_phase>}};
constexpr KernelImpl kFill[] = {{"strided", accepts_all, simple<fill_phase>}};

}  // namespace

const KernelList copy{kCopy}, transpose{kTranspose}, slice{kSlice}, split{kSplit}, concat{kConcat}, broadcast{kBroadcast}, fill{kFill};

}  // namespace ds::cpu
