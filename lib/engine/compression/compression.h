// compression_training in an engine: which modules are compressed how, what of it is on by now, the masks, and the folders that come out.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>

#include "engine/coded_files.h"
#include "engine/whole_params.h"
#include "passes/compression.h"

namespace ds {

class Program;

// section: compression_training. graph: the model's, which has the modules that patterns name.
Result<CompressionSpec> read_compression(const Json& section, const Graph& graph);

// Of linear modules, in the course of training.
class Compression {
public:
    Compression() = default;
    explicit Compression(CompressionSpec spec) : spec_(std::move(spec)) {}

    const CompressionSpec& spec() const { return spec_; }
    bool is_followed() const { return updates_ >= 0; }
    // Moves to so many updates. Whether graphs are others from now on.
    bool follow(int64_t updates);
    // What is on by now; until `follow` was called, everything that will ever be, so that all parameters are declared.
    Status add_to(Graph& graph, bool train) const { return add_compression(graph, spec_, updates_, train); }
    Status declare_in(Graph& graph) const { return add_compression(graph, spec_, -1, false); }
    bool has_fixed_ranges() const;
    // Masks of what is largest now; `known` ones stay.
    Status make_masks(const ParamStore& params, WholeParams& whole, const std::set<std::string>& known) const;

private:
    CompressionSpec spec_;
    std::vector<int64_t> active_;
    int64_t updates_ = -1;
};

struct ExportSource {
    const ParamStore& params;
    std::function<Status(const Param&, float*)> read;  // a whole weight
    const Program& program;
    PlanKey smallest;  // whose graph has every parameter
};

// The weights that a folder has in place of the engine's own, by name: as the forward pass uses them after so many updates and, where
// config.json has sizes for that, without what was pruned; `config` then gets those sizes.
Result<std::map<std::string, HostTensor>> compressed_weights(const CompressionSpec& spec, int64_t updates, const ExportSource& source,
                                                             Json& config);

// Of weights that are rounded by then: the same values in integers, by module.
Result<std::map<std::string, CodedModule>> coded_compressed_weights(const CompressionSpec& spec, int64_t updates,
                                                                    const ExportSource& source);

}  // namespace ds
