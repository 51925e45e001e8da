// OpDef: everything the library knows about one op. An op is one file of lib/ops that fills this in, and one row of ops.def.
#pragma once

#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "ir/graph.h"

namespace ds {

class Builder;

struct Cost {
    double flops = 0;
    double bytes = 0;  // moved, beyond reading each input and writing each output once
};

// What a gradient rule is given and answers with: dx[i] is the gradient of input i, kNone where there is none.
struct GradContext {
    Builder& b;
    const Node& node;
    std::vector<ValueId> dy;  // gradient of each output, kNone where nothing depends on it
    std::vector<bool> wants;  // which inputs' gradients are needed
    ValueId in(size_t i) const { return i < node.in.size() ? node.in[i] : kNone; }
    ValueId out(size_t i) const { return node.out[i]; }
};
using Grads = std::vector<ValueId>;

// How a node may be split over ranks: for each way, the dimension split of each input and output. -1: whole. kPartial: each rank holds a
// summand. Ways are tried by cost; an op without ways is replicated, which is slow but never wrong.
inline constexpr int kWhole = -1, kPartial = -2;
struct ShardWay {
    std::vector<int> in, out;
};

struct OpDef {
    std::string_view name;
    std::string_view meaning;               // one line, for people
    std::vector<std::string_view> inputs;   // "x", "bias?" optional, "x..." any number
    std::vector<std::string_view> outputs;  // "y", "y?" left out where nobody reads it, "y..." any number
    const AttrsType* attrs = nullptr;
    std::function<Result<std::vector<Type>>(const Attrs&, std::span<const Type>)> infer;
    std::function<Grads(GradContext&)> gradient;  // empty: not differentiable
    std::function<std::vector<ShardWay>(const Graph&, const Node&)> shard;
    std::function<Cost(const Attrs&, std::span<const Type> in, std::span<const Type> out)> cost;
    std::function<std::vector<ValueId>(Builder&, const Node&)> decompose;  // into simpler ops, where no kernel exists

    bool cheap = false;                     // recomputing costs about as much as reading: elementwise, norms
    bool view = false;                      // output 0 is input 0's memory with another shape
    bool strided = false;                   // its kernels take and give rows that lie apart
    bool in_place = false;                  // output 0 may be the memory of a required input of the same type
    int low_inputs = 0;                     // a matrix product: its first so many inputs go to bf16 or fp16 under mixed precision
    std::vector<std::pair<int, int>> into;  // (output, input): the input is added to the output and may be its memory

    std::vector<std::pair<int, int>> replaces;  // (output, input): the output may be the input's memory, which is used up

    bool has_variadic_inputs() const { return !inputs.empty() && inputs.back().ends_with("..."); }
    bool has_variadic_outputs() const { return !outputs.empty() && outputs.back().ends_with("..."); }
};

std::span<const OpDef* const> all_ops();      // the rows of ops.def
const OpDef* find_op(std::string_view name);  // null when there is none
// An input's or output's name without its marks, "bias?" and "x...".
inline std::string_view plain_name(std::string_view name) { return name.substr(0, name.find_first_of("?.")); }
// Types of the outputs, or an error that names op, input and shapes.
Result<std::vector<Type>> infer(const OpDef& op, const Attrs& attrs, std::span<const Type> in);
// Whether the kernel is to leave this output out: it is optional, and nobody reads it. `uses` is what use_counts tells of the graph.
bool left_out(const Node& node, size_t output, std::span<const int> uses);
// What a node costs in its graph, and the types it gives, less what it leaves out.
Cost cost_of(const Graph& graph, const Node& node, std::span<const int> uses);
std::vector<Type> given_types(const Graph& graph, const Node& node, std::span<const int> uses);
std::string ops_json();  // every op with inputs, outputs, attributes and their defaults

}  // namespace ds
