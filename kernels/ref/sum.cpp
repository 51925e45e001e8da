// sum over axes (+ into). Sums are kept in f64 in one array of the result's size.
#include "kernels/ref/ref.h"
#include "ops/attrs.h"

namespace ds::ref {
namespace {

void run(const Call& c) {
    const Tensor &x = c.in[0], &y = c.out[0];
    const Reduce& a = c.attr<Reduce>();
    bool reduce[kMaxRank] = {};
    for (int64_t axis : a.axes) reduce[place(axis, x)] = true;
    std::vector<double> sums(static_cast<size_t>(y.count()));
    for (int64_t i = 0; i < x.count(); ++i) {
        int64_t rest = i, target = 0, stride = 1;
        for (int k = x.rank - 1; k >= 0; --k) {
            if (!reduce[k] && !a.axes.empty()) target += rest % x.dims[k] * stride, stride *= x.dims[k];
            rest /= x.dims[k];
        }
        sums[static_cast<size_t>(target)] += get(x, i);
    }
    for (int64_t i = 0; i < y.count(); ++i) set(y, i, sums[static_cast<size_t>(i)] + get_if(c.in[1], i));
}

constexpr KernelImpl kSum[] = {plain<run>()};

}  // namespace

const KernelList sum{kSum};

}  // namespace ds::ref
