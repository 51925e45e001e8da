// Optimizers: rules that turn a gradient into a new weight, on f32 spans, with state that the caller keeps.
//
// An elementwise rule may be applied to any part of a parameter, in any pieces, with the same result: an engine runs one sweep over its
// shard. Others (Lamb, Muon, Adafactor) see a whole parameter and work in phases; all threads of a team call every phase, with a barrier
// between phases. Results do not depend on the size of the team. Optimizers hold no state of their own and may be shared.
#pragma once

#include <cmath>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/rounding.h"
#include "base/tensor.h"
#include "kernels/kernel.h"

namespace ds {

// What a rule may want to know of a parameter beside its elements.
struct ParamTraits {
    Shape shape;
    bool use_muon = false;  // Muon: this is a hidden matrix; others get its inner Adam
};

struct BackendSweep;  // device/backend.h

enum class Moment { none, first, second };

struct StateDef {
    std::string_view name;  // "exp_avg", as in the reference's checkpoints
    Moment moment = Moment::none;
    Shape shape;  // the parameter's for elementwise rules
    float initial = 0;
    bool operator==(const StateDef&) const = default;
};

// What the configuration said (or its defaults), for schedules and parameter groups to start from.
struct Defaults {
    double lr = 0, weight_decay = 0;
    std::optional<double> momentum, beta2;  // momentum: SGD's and the like, or the first beta
};

struct Hyper {
    double lr = 0, weight_decay = 0;
    std::optional<double> momentum, beta2;  // set: instead of the configured ones (OneCycle)
    int64_t step = 1;                       // of this update, from 1; skipped updates do not count
    double grad_scale = 1;                  // multiplies the gradient first: unscaling and clipping by norm
    double clip_value = 0;                  // then bounds the size of each element; 0: no bound
};

struct ParamView {
    float* weight = nullptr;
    const float* gradient = nullptr;
    float* const* state = nullptr;  // one array for each StateDef
    int64_t count = 0;              // elements: of the whole parameter, or of any part for elementwise rules
    void* low = nullptr;            // null, or where the new weights are written once more as low_type (bf16 or f16)
    DType low_type = DType::bf16;
    const Rounding* rounding = nullptr;  // set: bf16 there is rounded by chance
    const std::function<void(const BackendSweep&)>* device =
        nullptr;  // set: all memory here is a device's, and elementwise rules are swept there
};

class Optimizer {
public:
    virtual ~Optimizer() = default;
    virtual Defaults defaults(const ParamTraits& traits) const = 0;
    virtual bool stands_apart(const ParamTraits&) const { return false; }  // has other defaults than the rest of its group
    virtual std::vector<StateDef> states(const ParamTraits& traits) const = 0;
    virtual bool elementwise(const ParamTraits&) const { return true; }
    virtual int phases(const ParamTraits&) const { return 1; }
    virtual int64_t scratch_bytes(const ParamTraits&, int threads) const {
        return static_cast<void>(threads), 0;
    }  // 64-byte aligned, shared by the team
    virtual void update(int phase, const ParamTraits& traits, const ParamView& view, const Hyper& hyper, std::byte* scratch,
                        Team team) const = 0;
};

// DeepSpeed's names in any letter case, or torch.optim's. params: the object at optimizer.params; unknown keys are refused with the nearest
// known one.
Result<std::unique_ptr<Optimizer>> make_optimizer(std::string_view type, const Json& params);

std::vector<std::string> optimizer_names();

// Applies one update with a team of one; allocates scratch. For tests and small tools.
void update_alone(const Optimizer& optimizer, const ParamTraits& traits, const ParamView& view, const Hyper& hyper);

}  // namespace ds
