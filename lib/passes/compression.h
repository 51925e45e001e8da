// Compression-aware training as a rewriting of the forward graph, with DeepSpeed's arithmetic (compression/basic_layer.py): the weight of a
// linear module is rounded to few bits and multiplied by masks before it is used, what goes in may be rounded too. In this order, y = x W^T
// + b becomes
//   y = q_x(x) (q(W) * sparse * rows * heads)^T + b * rows
// An embedding's table is rounded, too: in forward what is looked up, each row by its own range; else the table, for a tied head as well.
// Masks and the scores they come from are parameters, so that checkpoints have them and layouts cut them like weights; they are declared
// from the start, and used from their technique's first step on. It declares parameters, so it runs where a graph is built and is no row of
// passes.def.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "ir/graph.h"

namespace ds {

struct WeightBits {
    int64_t start = 8, target = 8, period = 1, offset = 0, groups = 1;
    bool asymmetric = false, in_forward = false;
    // After so many updates; 0: not rounded yet. Rounded in forward, weights have the target's bits at once; else one bit less each time
    // the period is over, which then doubles (runtime/quantize.py).
    int64_t at(int64_t updates) const;
};

struct PruneRule {
    double keep = 1;
    bool learned = false;  // topk: scores are trained; else l1: what was largest when the engine was made
    int64_t n = 0, m = 0;  // of sparse pruning: n of m neighbours instead
    int64_t heads = 0;     // of head pruning
    int64_t offset = 1000;
    std::vector<std::string> related;  // modules that lose what this one loses when it is exported
};

struct ActivationBits {
    int64_t bits = 8, offset = 1000;
    bool asymmetric = false;
    bool fixed = false;  // one range for all tokens, a moving average over training passes (DeepSpeed's QuantAct); else each token's own
};

struct ModuleCompression {
    bool out_first = true;  // the weight is [out, in]
    bool table = false;     // an embedding's; in forward its groups are its rows
    std::optional<WeightBits> weight;
    std::optional<ActivationBits> activation;
    std::optional<PruneRule> sparse, rows, heads;
};

using CompressionSpec = std::map<std::string, ModuleCompression>;  // by module

// DeepSpeed's names of what it keeps beside a weight.
inline constexpr const char *kSparseMask = ".sparse_pruning_mask", *kSparseScores = ".sparse_mask_scores", *kRowMask = ".row_pruning_mask",
                            *kRowScores = ".row_mask_scores", *kHeadScores = ".head_pruning_scores",
                            *kInputRange = ".activation_quantizer.x_min_max";
bool is_compression_tensor(std::string_view name);

// What is on after so many updates: equal numbers, equal graphs. Negative: everything is.
std::vector<int64_t> active_compression(const CompressionSpec& spec, int64_t updates);
// train: fixed ranges of activations move, and what they become are outputs of the graph by their parameters' names.
Status add_compression(Graph& graph, const CompressionSpec& spec, int64_t updates, bool train);

}  // namespace ds
