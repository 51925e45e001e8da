// fp8: whose products run in 8-bit floats, and whether the ranks' devices have them. Pass `fp8` makes them.
#include "base/log.h"
#include "engine/engine.h"
#include "passes/adapters.h"
#include "passes/distillation.h"
#include "passes/pass.h"

namespace ds {

// Linear modules but heads, or what the config leaves out. Embeddings, a head that is one, adapters and a teacher stay as they are.
Status Engine::choose_fp8(const Graph& graph) {
    if (!config_.fp8.enabled) return ok();
    size_t candidates = 0;
    DS_TRY(const auto modules, linear_modules_but(graph, config_.fp8.skip, "fp8.filter_fqns"));
    for (const auto& [module, out_first] : modules) {
        const std::string weight = module + ".weight";
        if (is_adapter_tensor(weight) || is_teacher_tensor(weight) || coded_.contains(weight)) continue;
        ++candidates;
        if (passes::fits_fp8(graph.type(graph.find(weight)).shape)) in_fp8_.insert(weight);
    }
    log(Level::info, "fp8", "products of {} linear modules run in 8-bit floats; {} stay in bf16, as sizes of theirs are no multiples of 16",
        in_fp8_.size(), candidates - in_fp8_.size());
    return ok();
}

Status Engine::check_fp8() const {
    constexpr int kOldest = 89;
    if (!config_.fp8.enabled) return ok();
    constexpr const char* needs = "config: fp8.enabled needs a GPU of compute capability 8.9 or above (Ada, Hopper, Blackwell)";
    for (const auto& rank : *ranks_) {
        if (!rank->device) return fail(Code::E_UNSUPPORTED, "{}; rank {} computes on the CPU", needs, rank->index);
        if (const int found = rank->device->architecture(); found < kOldest)
            return fail(Code::E_UNSUPPORTED, "{}; {} has {}.{}", needs, rank->device->description(), found / 10, found % 10);
    }
    return ok();
}

}  // namespace ds
