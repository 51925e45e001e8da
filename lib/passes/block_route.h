// What one micro-batch leaves out of a model's blocks, as a rewriting of its forward graph. A block is what lies between two boundaries,
// which the models mark.
//   skipped blocks   progressive layer drop (Zhang and He 2020, arXiv 2010.13369): the block is the identity. What kept blocks add to their
//   input is
//                    multiplied by the operand "block<i>.scale", 1 / the probability that the block is kept.
//   dropped tokens   random-LTD (Yao, Wu, Li et al. 2022, arXiv 2211.11586): the block sees the tokens "block<i>.kept" of the stream only,
//   as rows of
//                    their own, and the others pass by it; "block<i>.merge" puts both together again.
// Which blocks and tokens is the engine's choice, and run-time data where plans need not know it. It runs where a graph is built and is no
// row of passes.def.
#pragma once

#include <compare>
#include <string>
#include <vector>

#include "ir/graph.h"

namespace ds {

struct BlockRoute {
    std::vector<bool> skipped;       // a block each; empty: none is skipped or scaled
    std::vector<int64_t> by_tokens;  // the blocks that tokens pass by, ascending
    int64_t tokens = 0, kept = 0;    // of the stream; of those, what these blocks see (filler included)

    bool any() const { return !skipped.empty() || !by_tokens.empty(); }
    auto operator<=>(const BlockRoute&) const = default;
};

inline std::string block_operand(int64_t block, std::string_view name) { return "block" + std::to_string(block) + "." + std::string(name); }

// How many blocks a graph has.
int64_t count_blocks(const Graph& graph);
// E_UNSUPPORTED where a block has no residual path, or holds an op that can't do with fewer tokens.
Status route_blocks(Graph& graph, const BlockRoute& routing);

}  // namespace ds
