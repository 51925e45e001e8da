// The parameters of an engine, and of one rank of it: master weights, gradients, optimizer state and low-precision copies, each kind in one piece of
// memory. The engine's own store holds definitions only; each rank's has the parts of those parameters that its plans use.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ckpt/safetensors.h"
#include "config/config.h"
#include "engine/arena.h"
#include "exec/workers.h"
#include "ir/graph.h"
#include "optim/optimizer.h"
#include "base/mesh.h"

namespace ds {

// A host's own optimizer, in place of the config's.
struct OptimizerCallbacks {
    int32_t floats_per_element = 0;
    std::function<Status(const char* parameter, int64_t step, double lr, float* weight, const float* gradient, float* state, size_t n)> update;
};

// Parameters with one set of optimizer settings.
struct ParamGroup {
    std::string name;
    std::unique_ptr<Optimizer> optimizer;  // null with a host's own
    Defaults defaults;
};

struct Param {
    std::string name;
    Shape shape;                        // whole
    Cut cut;                            // what of it this rank holds, along the tensor axis
    bool trainable = true;
    bool counted = true;                // false: an earlier stage of the pipeline has it too, and counts it
    Init init;
    size_t group = 0;
    int64_t count = 0, offset = 0;      // elements held here; in weights and gradients
    Interval own;                       // of these elements, those that this rank updates
    bool elementwise = true;            // each element's update depends on that element alone, so it may be dealt out
    ParamTraits traits;
    std::vector<StateDef> state_defs;   // of the whole parameter
    std::vector<float*> state;
    std::optional<DType> low_type;      // a plan reads this copy; the optimizer refreshes it
};

class ParamStore {
public:
    // graph: declares the parameters. Groups and frozen patterns come from the config.
    static Result<std::unique_ptr<ParamStore>> create(const Graph& graph, const Config& config, const OptimizerCallbacks* custom);

    // The part of these definitions that `graph`, the plan of one rank, has.
    std::unique_ptr<ParamStore> local(const Graph& graph) const;
    void lie_on(Device* device);  // all memory; before any is made
    Device* device() const { return device_; }
    Status need_weights();

    // Cuts all elements into parts for so many ranks to update; where an update needs a whole tensor, it stays in one part.
    std::vector<Interval> partition(int ranks) const;
    void own(Interval elements);
    // Floats of state i that lie here.
    int64_t state_count(const Param& p, size_t i) const { return p.elementwise ? p.own.size() : p.own.size() == p.count ? elements(p.state_defs[i].shape) : 0; }

    // One group for each of the config's, then the default one.
    static Result<std::vector<ParamGroup>> make_groups(const Config& config, bool custom);

    std::vector<Param>& all() { return params_; }
    const std::vector<Param>& all() const { return params_; }
    Param* find(std::string_view name);
    const Param* find(std::string_view name) const { return const_cast<ParamStore*>(this)->find(name); }
    std::vector<ParamGroup>& groups() { return groups_; }

    float* weights() const { return reinterpret_cast<float*>(weights_.data()); }
    float* grads() const { return reinterpret_cast<float*>(grads_.data()); }
    std::byte* lows() const { return lows_.data(); }
    float* weight(const Param& p) const { return weights() + p.offset; }
    float* grad(const Param& p) const { return grads() + p.offset; }
    void* low(const Param& p) const { return lows_.data() ? lows_.data() + 2 * p.offset : nullptr; }
    Status need_grads();                                   // before the first backward
    Status need_state();                                   // before the first update, or to load one
    Status need_low(Param& p, DType type);
    Status refresh_low(const Param& p);                    // after the weight changed other than by the optimizer
    int64_t total_elements() const { return total_; }
    bool has_state() const { return states_.data() != nullptr; }

private:
    void append(Param p, const Shape& held);
    Status reserve(Arena& arena, int64_t bytes);

    std::vector<Param> params_;
    std::map<std::string, size_t, std::less<>> index_;
    std::vector<ParamGroup> groups_;
    Device* device_ = nullptr;
    Arena weights_, grads_, states_, lows_;
    int64_t total_ = 0;
};

// Elements [begin, end) of a fresh, whole parameter; begin is a multiple of 4. What they become does not depend on how the work is cut.
void initialise(const Param& p, uint64_t seed, int64_t begin, int64_t end, float* to);

}  // namespace ds
