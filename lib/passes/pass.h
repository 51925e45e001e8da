// Passes: each takes a graph for one device and one shape and gives one that computes the same, or more. A pass is one file and one row of
// passes.def, which is also their order. `run_passes` owns naming, verification and dumping, so a pass is only its idea.
#pragma once

#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/precision.h"
#include "base/weight_code.h"
#include "ir/graph.h"

namespace ds {

// One rank among those that compute a graph together.
struct TensorLayout {
    int rank = 0, ranks = 1;
    const std::map<std::string, Cut, std::less<>>* known = nullptr;  // how parameters are cut already; null: the pass decides
    enum class Regions { cheapest, on, off };
    Regions regions =
        Regions::cheapest;  // tokens are dealt out between matrix products, instead of every rank having all (Korthikanti et al. 2022)
};

// One rank among those that compute pieces of one stream of tokens.
struct SequenceLayout {
    enum class Attention { cheapest, ulysses, ring };
    int rank = 0, ranks = 1;
    int64_t tokens = 0;  // of the stream; 0: the graph has none, and every rank computes all of it
    Attention attention = Attention::cheapest;
    int tensor_ranks = 1;  // which deal out heads before
};

// One stage of a pipeline.
struct StageLayout {
    int stage = 0;
    std::vector<int> ends;  // the number of the boundary with which each stage but the last ends (Value::boundary)
    const std::map<std::string, std::vector<int>>* holders = nullptr;  // the stages that have each parameter; null: those that use it
};

// What data ranks share of the parameters (ZeRO), for the pass `zero`. All numbers are elements.
struct ZeroLayout {
    struct Bucket {  // parameters whose gradients are summed together
        std::vector<std::string> params;
        std::vector<int64_t> starts;  // of each in the bucket
        std::vector<int64_t> ends;    // of each rank's part of the bucket
        bool experts = false;         // of the ranks that hold the same experts, else of all
    };
    struct Shared {                        // a parameter
        std::vector<int64_t> ends;         // of each rank's part
        bool weight = false, low = false;  // which of its copies ranks hold in parts only
        bool expert = false;               // likewise
        int64_t slot = -1;                 // of a weight that lies on disk; its low copy has the next one
    };
    int rank = 0, holder = 0;     // among data ranks, and among those that hold the same experts
    std::vector<Bucket> buckets;  // empty: gradients stay whole on every rank
    std::map<std::string, Shared, std::less<>> params;
    DType wire = DType::f32;                              // of gradients on their way
    int64_t max_live = INT64_MAX, max_reuse = INT64_MAX;  // gathered at once; kept where they are used again within so many
};

// One data rank among those whose groups of neighbours deal out experts, and how experts take tokens.
struct ExpertLayout {
    int64_t data_rank = 0, ranks = 1;
    int64_t most_tokens = 0;     // of a rank of the group
    double capacity_factor = 0;  // 0: an expert takes all that come
    int64_t min_capacity = 4;
};

// Of block-sparse attention: tokens of a block, blocks of the longest row, whether each head has a layout of its own.
struct SparseBlocks {
    int64_t block = 16, blocks = 0;
    bool per_head = false;
};

struct PassOptions {
    DType precision = DType::f32;                // of matrix products and what feeds them: f32, bf16 or f16
    std::vector<PrecisionRule> precision_rules;  // first match wins over `precision`
    bool train = false;                          // evaluation drops dropout and makes no gradients
    bool accumulate = false;                     // gradients are added to those of the micro-batches before
    std::vector<std::string> seeds{"loss"};      // whose gradients start the backward pass: "loss", or names of outputs
    int recompute = 0;                           // 0 keeps everything, 1 recomputes cheap ops, 2 recomputes blocks from their inputs
    int recompute_blocks = 0;                    // the first so many blocks are recomputed whatever the level
    const TensorLayout* tensor = nullptr;        // null: one rank has the whole graph
    const StageLayout* stage = nullptr;          // null: there is one stage
    bool split_weights = false;                  // gradients of weights come last, in a part of the backward pass of their own
    const SequenceLayout* sequence = nullptr;    // likewise
    std::string* choices = nullptr;              // what was chosen by cost is appended here, a line each
    const ZeroLayout* zero = nullptr;            // null: every rank has all parameters and gradients
    const SparseBlocks* sparse = nullptr;        // null: attention is dense
    const ExpertLayout* experts = nullptr;       // null: every rank has all experts to itself
    const CodedWeights* coded = nullptr;         // frozen weights that are kept in few bits; null: none
    int64_t gather_ahead =
        0;  // a weight of so many elements at most is gathered while the one before it is used; where exchanges run beside kernels
    int data_ranks = 1;                          // that hold other rows of the batch
    const std::set<std::string>* fp8 = nullptr;  // weights whose products run in 8-bit floats where their sizes allow it; null: none
    bool epilogues = false;                      // the backend has kernels for products with an activation behind them
    const std::set<std::string, std::less<>>* rounding = nullptr;  // ops whose kernels round weights as they read them; null: none
    std::filesystem::path dump;                                    // where to write the graph after each pass; empty: nowhere
};

struct Pass {
    std::string_view name;
    Status (*run)(Graph& graph, const PassOptions& options);
};

std::vector<Pass> all_passes();  // in order
const Pass* find_pass(std::string_view name);
Status run_passes(Graph& graph, const PassOptions& options);

// Shared by passes.
void replace_uses(Graph& graph, ValueId from, ValueId to);
std::vector<int> producers(const Graph& graph);  // node index of each value's producer, -1 for operands of the graph
namespace passes {
bool fits_fp8(const Shape& weight);
}  // namespace passes
bool glob_match(std::string_view pattern, std::string_view text);  // * any run of characters, ? any one

}  // namespace ds
