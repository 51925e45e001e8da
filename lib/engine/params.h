// The parameters of an engine, and of one rank of it: master weights, gradients, optimizer state and low-precision copies, each kind in one
// piece of memory. The engine's own store holds definitions only; each rank's has the parts of those parameters that its plans use.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "ckpt/safetensors.h"
#include "config/config.h"
#include "engine/arena.h"
#include "engine/disk_file.h"
#include "exec/workers.h"
#include "ir/graph.h"
#include "optim/optimizer.h"
#include "base/mesh.h"
#include "base/weight_code.h"

namespace ds {

// A host's own optimizer, in place of the config's.
struct OptimizerCallbacks {
    int32_t floats_per_element = 0;
    std::function<Status(const char* parameter, int64_t step, double lr, float* weight, const float* gradient, float* state, size_t n)>
        update;
};

// Parameters with one set of optimizer settings. The config's groups, then the rest of the parameters; of a rule in which some parameters
// stand apart, as Muon's matrices, two each, theirs second.
struct ParamGroup {
    std::string name;
    std::unique_ptr<Optimizer> optimizer;  // null with a host's own
    Defaults defaults;
};

// What of a parameter's elements one kind of memory holds here, and at which of its elements they begin.
struct Held {
    Interval elements;
    int64_t offset = 0;
    bool in_parts = false;  // no data rank holds them all
    bool on_disk = false;   // offset counts in the file then
    int64_t at(int64_t element) const { return offset + element - elements.begin; }
};

struct Param {
    std::string name;
    Shape shape;  // whole
    Cut cut;      // what of it this rank has, along the tensor axis
    bool trainable = true;
    bool counted = true;  // false: an earlier stage of the pipeline has it too, and counts it
    Init init;
    size_t group = 0;
    int64_t count = 0, offset = 0;  // elements of the cut; their place among all parameters' (trained ones come first)
    Interval share;                 // of these elements, those that fall to this data rank
    Interval own;                   // those that it updates: its share, or all
    Held weight, grad, low;         // those that it holds
    bool expert = false;            // one of the experts that this data rank holds and its neighbours do not
    int holder = 0;                 // this data rank among those that hold the parameter
    bool elementwise = true;        // each element's update depends on that element alone, so it may be dealt out
    ParamTraits traits;
    std::vector<StateDef> state_defs;    // of the whole parameter
    std::vector<float*> state;           // in memory, or
    std::vector<int64_t> state_offsets;  // bytes in the file of states
    bool by_rows = false;                // an embedding's table, whose gradient may travel as rows
    std::optional<DType> low_type;       // a plan reads this copy; the optimizer refreshes it
    std::optional<WeightCode> code;      // it lies in few bits and in no other form: `weight` and `low` hold nothing then
    int64_t code_offset = 0;             // bytes
    // Whether this rule would have as much in mind of it.
    bool keeps(const Optimizer& rule) const { return rule.states(traits) == state_defs && rule.elementwise(traits) == elementwise; }
    int64_t code_bytes() const { return code->is_bf16() ? 2 * count : coded_bytes(shape[0], shape[1], *code); }
    int64_t outs() const { return shape[code && !code->out_first ? 1 : 0]; }  // of a matrix
    int64_t ins() const { return shape[code && !code->out_first ? 0 : 1]; }
    GroupParts group_parts() const { return {outs(), ins(), *code}; }
    SparseParts sparse_parts() const { return {outs(), ins(), code->nonzeros, code->bits}; }
};

// Consecutive parameters whose gradients are exchanged together, and what of their elements falls to each data rank.
struct ParamBucket {
    size_t first = 0, last = 0;  // parameters [first, last)
    Interval elements;           // counted as Param::offset
    std::vector<Interval> parts;
    bool trainable = true;
    bool experts = false;  // of the data ranks that hold the same experts, else of all
};

// How data ranks share parameters: ZeRO (Rajbhandari et al. 2020, arXiv 1910.02054). Stage 1 deals out updates and their state, 2
// gradients, 3 weights.
struct Dealing {
    int rank = 0, ranks = 1;
    int holder = 0, holders = 1;  // of experts: this rank among the data ranks that hold them
    int64_t stage = 0;
    int64_t bucket = INT64_MAX;                                 // elements of a bucket; a larger parameter is one by itself
    std::function<bool(const Param&)> whole_weight, whole_low;  // from stage 1 on: what every rank has whole all the same
    int64_t weights_in_memory = INT64_MAX;                      // so many elements of those that are in parts; more lie on disk
};

// A file for what need not lie in memory.
struct DiskPlace {
    std::filesystem::path folder;
    std::string name, key;  // key: of the configuration, for messages
    DiskOptions options;
};

class ParamStore {
public:
    // graph: declares the parameters. Groups and frozen patterns come from the config.
    static Result<std::unique_ptr<ParamStore>> create(const Graph& graph, const Config& config, const OptimizerCallbacks* custom);

    // The part of these definitions that `graph`, the plan of one rank, has. experts: names of parameters that only some data ranks have;
    // they come last, so that the others lie alike on all.
    std::unique_ptr<ParamStore> local(const Graph& graph, const std::set<std::string>& experts = {}) const;
    void lie_on(Device* device);  // all memory; before any is made
    Device* device() const { return device_; }
    Status need_weights();

    // Decides what falls to this rank and what it holds; before any memory is there.
    void deal_out(const Dealing& dealing);
    const std::vector<ParamBucket>& buckets() const { return buckets_; }
    // Floats of state i that lie here.
    int64_t state_count(const Param& p, size_t i) const {
        return p.elementwise ? p.own.size() : p.own.size() == p.count ? elements(p.state_defs[i].shape) : 0;
    }

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
    // The first element that is held here.
    float* weight(const Param& p) const { return weights() + p.weight.offset; }
    float* grad(const Param& p) const { return grads() + p.grad.offset; }
    void* low(const Param& p) const { return lows_.data() ? lows_.data() + 2 * p.low.offset : nullptr; }
    // Element i of the cut, which must be held.
    float* weight(const Param& p, int64_t i) const { return weights() + p.weight.at(i); }
    float* grad(const Param& p, int64_t i) const { return grads() + p.grad.at(i); }
    void* low(const Param& p, int64_t i) const { return lows_.data() + 2 * p.low.at(i); }
    // Of a parameter in few bits: all of its values, coded and decoded by the team of `workers`.
    std::byte* codes(const Param& p) const { return codes_.data() + p.code_offset; }
    Status encode(const Param& p, const float* from, Workers& workers);
    Status decode(const Param& p, float* to, Workers& workers) const;
    Status put_codes(const Param& p, const uint8_t* from);  // made elsewhere
    // Its codes in the host's memory: where they are, or in `copy`.
    Result<const std::byte*> read_codes(const Param& p, std::vector<std::byte>& copy) const;
    int64_t code_bytes() const { return code_bytes_; }
    Status need_grads();   // before the first backward
    Status clear_grads();  // all zero; they exist
    Status clear_grad(const Param& p);
    Status need_state();  // before the first update, or to load one
    Status need_low(Param& p, DType type);
    Status refresh_low(const Param& p);  // after the weight changed other than by the optimizer
    // How the low copies of what is trained are rounded: by chance, with the draws of the last update, or to the nearest.
    void round_by_chance(const std::optional<Rounding>& draws) { rounding_ = draws; }
    std::optional<Rounding> rounding(const Param& p, int64_t begin) const;  // of its elements from `begin` on; nothing: to the nearest
    int64_t total_elements() const { return total_; }                       // of the cuts
    int64_t shared_elements() const;                                        // of those that all data ranks have
    int64_t weight_elements() const { return weight_elements_; }            // held here, with what lies between them
    int64_t grad_elements() const { return grad_elements_; }
    int64_t bytes_of_lows() const;  // that plans read so far
    bool has_state() const { return states_.data() != nullptr || state_file_; }

    // What lies on disk; before any memory is there.
    void keep_state_on(DiskPlace place) { state_place_ = std::move(place); }
    void keep_weights_on(DiskPlace place) { weight_place_ = std::move(place); }
    DiskFile* state_file() const { return state_file_.get(); }  // null: in memory
    DiskFile* weight_file() const { return weight_file_.get(); }
    int64_t weight_byte(const Param& p, int64_t i) const { return 4 * p.weight.at(i); }  // in that file
    int64_t low_byte(const Param& p, int64_t i) const { return 4 * disk_weights_ + 2 * p.low.at(i); }
    int64_t bytes_on_disk() const { return 4 * disk_weights_ + 2 * disk_lows_; }  // of weights
    bool keeps_state_on_disk() const { return state_place_.has_value(); }
    Arena& disk_buffers() { return disk_buffers_; }

private:
    void append(Param p, const Shape& held);
    Status reserve(Arena& arena, int64_t bytes);
    Status make_state_file(int64_t bytes);
    std::vector<Interval> parts_of(Interval elements, int ranks) const;
    void make_buckets(const Dealing& dealing);

    std::vector<Param> params_;
    std::map<std::string, size_t, std::less<>> index_;
    std::vector<ParamGroup> groups_;
    Device* device_ = nullptr;
    std::vector<ParamBucket> buckets_;
    static Status encode_to(const Param& p, const float* from, Workers& workers, uint8_t* to);

    Arena weights_, grads_, states_, lows_, codes_, disk_buffers_;
    std::optional<DiskPlace> state_place_, weight_place_;
    std::optional<Rounding> rounding_;
    std::unique_ptr<DiskFile> state_file_, weight_file_;
    int64_t disk_weights_ = 0, disk_lows_ = 0;
    int64_t total_ = 0, trained_ = 0, weight_elements_ = 0, grad_elements_ = 0, low_elements_ = 0, code_bytes_ = 0;
};

// Elements [begin, end) of a fresh, whole parameter; begin is a multiple of 4. What they become does not depend on how the work is cut.
void initialise(const Param& p, uint64_t seed, int64_t begin, int64_t end, float* to);

}  // namespace ds
