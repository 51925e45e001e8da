// Where a graph is cut into the stages of a pipeline, shared by the pass and by whoever plans the cut.
#pragma once

#include <vector>

#include "ir/graph.h"

namespace ds {

// ends: the number of the boundary with which each stage but the last ends.
class Stages {
public:
    Stages(const Graph& graph, const std::vector<int>& ends);

    int count() const { return count_; }
    // The nodes that a stage runs: those between its cuts from which something is reached that counts, and with them whatever is made from
    // parameters alone or from the batch alone (angles, masks, transposed weights), which each stage that needs it makes by itself.
    std::vector<bool> nodes_of(int stage) const;
    // Values made before the stage that it or a later one needs.
    std::vector<ValueId> into(int stage) const;
    // The stage that has this result of the graph.
    int stage_of(ValueId result) const;

private:
    bool belongs(ValueId id) const { return place_[static_cast<size_t>(id)] >= 0; }

    const Graph& graph_;
    int count_;
    std::vector<int> node_stage_;  // of each node, by its place
    std::vector<bool> live_;       // of each node
    std::vector<int> place_;       // of each value, the stage that makes it; -1: any stage may
    std::vector<int> last_use_;    // of each value, the last stage that reads it; -1: none
};

// Why a value may not be made by every stage: it depends on the batch and on parameters.
struct Sources {
    bool batch = false, parameters = false;
    bool both() const { return batch && parameters; }
};
std::vector<Sources> sources_of(const Graph& graph);

}  // namespace ds
