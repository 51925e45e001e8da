// The table of kernels.def and the lists beside it, by op and backend.
#include <algorithm>
#include <map>

#include "exec/plan.h"
#include "kernels/cpu/tile.h"

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

namespace {

struct Row {
    std::string_view device, op;
    const KernelList* list;
};
constexpr Row kTable[] = {
#define DS_KERNEL(device, op) {#device, #op, &device::op},
#include "kernels/kernels.def"
#include "kernels/exchanges.def"
#include "kernels/zero.def"
#include "kernels/compress.def"
#include "kernels/generation.def"
#include "kernels/epilogues.def"
#undef DS_KERNEL
};
std::string_view name_of(Backend backend) { return backend == Backend::cpu ? "cpu" : "ref"; }

}  // namespace

const KernelList* kernels_of(std::string_view op, Backend backend) {
    static const std::map<std::pair<std::string_view, std::string_view>, const KernelList*> table = [] {
        std::map<std::pair<std::string_view, std::string_view>, const KernelList*> map;
        for (const Row& row : kTable) map[{row.device, row.op}] = row.list;
        return map;
    }();
    const auto found = table.find({name_of(backend), op});
    return found == table.end() ? nullptr : found->second;
}

const std::set<std::string, std::less<>>& ops_that_round(Backend backend) {
    const auto collect = [](Backend of) {
        std::set<std::string, std::less<>> ops;
        if (of == Backend::cpu && !cpu::has_bf16_tiles()) return ops;  // its kernels round as they pack for those
        for (const Row& row : kTable)
            if (row.device == name_of(of) && std::any_of(row.list->begin(), row.list->end(), [](const KernelImpl& k) { return k.rounds; }))
                ops.emplace(row.op);
        return ops;
    };
    static const auto by_cpu = collect(Backend::cpu), by_ref = collect(Backend::ref);
    return backend == Backend::cpu ? by_cpu : by_ref;
}

}  // namespace ds
