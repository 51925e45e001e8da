#include "kernels/kernel.h"

namespace ds {
namespace {

void run(const Call& c, Team team) {
    const Tensor& y = c.out[0];
    const auto [begin, end] = team.part(y.rows());
    for (int64_t r = begin; r < end; ++r)
        for (int64_t i = 0; i < y.columns(); ++i) y.as<int32_t>()[r * y.row_stride + i] = static_cast<int32_t>(i);
}

constexpr KernelImpl kIota[] = {{"scalar", accepts_all, simple<run>}};

}  // namespace

const KernelList ref::iota{kIota};
const KernelList cpu::iota{kIota};  // too rare and too cheap for a kernel of its own

}  // namespace ds
