// The memory plan: where each value of a graph lies, decided before anything runs.
//
// Values that may share memory form a group: views, results written over a dying operand, parts of a row that a split or concat only names.
// Each group lives from its first node to its last; groups whose lives don't meet may share addresses in one arena.
#pragma once

#include <string>
#include <vector>

#include "ir/graph.h"

namespace ds {

struct Placement {
    int group = -1;          // -1: the value is never computed
    int64_t offset = 0;      // bytes within the group
    int64_t row_stride = 0;  // elements
};

struct Group {
    int64_t bytes = 0;
    int first = 0, last = 0;     // nodes between which it lives, inclusive
    Kind kind = Kind::computed;  // computed and input lie in the arena; others are buffers that the engine owns
    ValueId of = kNone;          // whose: the param, or the shadow or rounded value
    int64_t arena_offset = -1;
    std::string name;  // of its largest value, for people
};

inline bool in_arena(const Group& g) { return g.kind == Kind::computed || g.kind == Kind::input; }

struct MemoryPlan {
    std::vector<Placement> of;  // by value
    std::vector<Group> groups;
    std::vector<bool> skipped;      // by node: nothing to run, its outputs are its inputs' memory
    std::vector<int64_t> scratch;   // by node: offset of its scratch in the arena
    std::vector<int> scratch_last;  // by node: up to which node that lives; empty: for its own
    std::vector<int> complete;      // by gradient, where they are consumed: the node behind which it is
    int64_t arena_bytes = 0;
    int64_t lower_bound_bytes = 0;  // the most that lives at one time: no plan can be smaller
};

enum class Gradients { kept, consumed };  // in buffers that the engine owns; in the arena, until they are complete

// Shapes and strides alone decide the kernels, the kernels decide the scratch: so grouping comes first, placing second.
MemoryPlan group_values(const Graph& graph, Gradients gradients = Gradients::kept);
void place_groups(const Graph& graph, const std::vector<int64_t>& scratch_bytes, MemoryPlan& plan);
std::string memory_table(const Graph& graph, const MemoryPlan& plan);  // for DSRT_DUMP: one line a group

}  // namespace ds
