// The table of kernels.def and the lists beside it, by op and backend.
#include <map>

#include "exec/plan.h"

namespace ds {

#define DS_KERNEL(device, op)   \
    namespace device {          \
    extern const KernelList op; \
    }
#include "kernels/exchanges.def"
#include "kernels/zero.def"
#include "kernels/compress.def"
#include "kernels/generation.def"
#include "kernels/epilogues.def"
#undef DS_KERNEL

const KernelList* kernels_of(std::string_view op, Backend backend) {
    struct Row {
        std::string_view device, op;
        const KernelList* list;
    };
    static constexpr Row rows[] = {
#define DS_KERNEL(device, op) {#device, #op, &device::op},
#include "kernels/kernels.def"
#include "kernels/exchanges.def"
#include "kernels/zero.def"
#include "kernels/compress.def"
#include "kernels/generation.def"
#include "kernels/epilogues.def"
#undef DS_KERNEL
    };
    static const std::map<std::pair<std::string_view, std::string_view>, const KernelList*> table = [] {
        std::map<std::pair<std::string_view, std::string_view>, const KernelList*> map;
        for (const Row& row : rows) map[{row.device, row.op}] = row.list;
        return map;
    }();
    const auto found = table.find({backend == Backend::cpu ? "cpu" : "ref", op});
    return found == table.end() ? nullptr : found->second;
}

}  // namespace ds
