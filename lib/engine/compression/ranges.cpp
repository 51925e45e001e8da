// Fixed ranges of activations, which training passes move (passes/compression).
#include "engine/engine.h"

namespace ds {

Status Engine::check_fixed_ranges() const {
    if (!compression_.has_fixed_ranges()) return ok();
    const auto lack = [](const std::string& what) {
        return fail(
            Code::E_UNSUPPORTED,
            "config: compression_training.activation_quantization.shared_parameters.range_calibration: static is not built {}; dynamic is",
            what);
    };
    const MeshSizes& sizes = config_.mesh;
    if (sizes.tensor * sizes.pipeline * sizes.sequence * sizes.data > 1) return lack("for parallel, whose ranks see different tokens");
    if (!config_.efficiency.random_ltd.is_null() || !config_.efficiency.layer_drop.is_null())
        return lack("together with random_ltd or progressive_layer_drop");
    return ok();
}

// What the ranges became in a training pass is where the next one begins.
Status Engine::move_ranges(const Pass& pass) {
    if (!compression_.has_fixed_ranges() || !pass.train) return ok();
    const Plan* plan = pass.plans.empty() ? nullptr : pass.plans.front().get();
    if (!plan) return ok();
    for (const auto& [name, id] : plan->graph().outputs) {
        if (!name.ends_with(kInputRange)) continue;
        DS_TRY(const HostTensor range, read_value((*ranks_)[0], *plan, id));
        DS_CHECK(whole_->write(*params_->find(name), {Field::weight}, range.as<float>().data()));
    }
    return ok();
}

}  // namespace ds
