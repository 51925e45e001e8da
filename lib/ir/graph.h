// The graph: a model, and after the passes a whole training step, as a list of nodes in execution order over typed values.
//
// Plain data. Every value has one producer or is an input of some kind; nodes stand in an order in which values are produced before they
// are used. Passes take a graph and give a graph. `verify` says whether one is well formed; ir/text.h prints and parses it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/tensor.h"
#include "ir/attrs.h"
#include "base/mesh.h"

namespace ds {

struct OpDef;
using ValueId = int32_t;
inline constexpr ValueId kNone = -1;  // an optional operand that is absent

// Sizes not known until a batch arrives stand as primes while a graph is built, so that products and quotients of shapes stay exact;
// to_string turns the factors back into names. `bind` replaces them.
inline constexpr int64_t kRows = 30011, kLength = 30013;
std::string dims_to_string(const Shape& shape);  // "[rows,length,64]"

struct Type {
    DType dtype = DType::f32;
    Shape shape;
    bool present = true;  // false stands for an absent optional operand
    bool operator==(const Type&) const = default;
};
std::string to_string(const Type& type);  // "f32[8,64]"
inline int64_t bytes(const Type& t) { return elements(t.shape) * size_of(t.dtype); }

enum class Kind : uint8_t {
    computed,
    input,    // comes with each batch
    param,    // f32 master weight
    shadow,   // low-precision copy of a param, kept by the optimizer sweep
    rounded,  // no copy: the param itself, for kernels that round it as they read
    grad,     // gradient accumulated so far, of a param
};

struct Init {  // how a fresh param is filled
    // sinusoid: row i of columns 2 j and 2 j + 1 is the sine and the cosine of i / scale^(2 j / columns).
    enum class Type : uint8_t { zeros, ones, normal, uniform, sinusoid } type = Type::zeros;
    double scale = 0;       // standard deviation, bound, or base
    int64_t zero_row = -1;  // of a table: padding's, as torch's nn.Embedding has it
    bool operator==(const Init&) const = default;
};

struct Value {
    std::string name;
    Type type;
    Kind kind = Kind::computed;
    ValueId of = kNone;  // shadow, rounded, grad: the param
    Init init;           // param
    Cut cut;             // param: what this rank holds of it; `type` is that part's
    bool trainable = true;
    int32_t boundary =
        0;  // of a block, 0: none: what recomputation keeps, and where a pipeline may be cut (which number is which: parallel/partition.h)
};

struct Node {
    const OpDef* op = nullptr;
    Attrs attrs;
    std::vector<ValueId> in, out;
    bool backward = false;
    bool recomputed = false;
    bool weights = false;  // of the backward pass's second part, which makes gradients of weights and nothing that other nodes wait for
};

// A value that a stage of a pipeline gets from the one before, or gives to the one after.
struct Crossing {
    ValueId value = kNone;
    bool differentiable = false;  // its gradient goes the other way
    ValueId gradient = kNone;     // once there is one: an operand of the stage that gave the value, a result of the one that got it
};

struct Graph {
    std::string name = "main";
    std::vector<Value> values;
    std::vector<Node> nodes;
    std::vector<ValueId> inputs;  // every value that is not computed, in order of declaration
    std::vector<std::pair<std::string, ValueId>> outputs;
    ValueId loss = kNone;
    std::vector<std::pair<ValueId, ValueId>> grads;  // (param, its gradient)
    std::vector<Crossing> received, sent;            // in the order in which they are exchanged

    const Value& value(ValueId id) const { return values[static_cast<size_t>(id)]; }
    Value& value(ValueId id) { return values[static_cast<size_t>(id)]; }
    const Type& type(ValueId id) const;  // of an absent operand: a type that is not present
    ValueId add_value(Value value);      // makes the name unique
    ValueId find(std::string_view name) const;
    std::vector<Type> types(const std::vector<ValueId>& ids) const;

private:
    std::map<std::string, int, std::less<>> used_names_;
};

// The replicate that made this value of a weight; null: none did.
const Node* replicate_of(const Graph& graph, ValueId id);

// Roots that stay alive: outputs, loss, gradients, what other stages get.
std::vector<ValueId> roots(const Graph& graph);
// Which values are used how often, roots counted as one use each.
std::vector<int> use_counts(const Graph& graph);
// Every operand exists and is produced before its use, types are those the op infers, names are unique.
Status verify(const Graph& graph);
// The same graph for one batch shape: kRows and kLength replaced and all types inferred again.
Result<Graph> bind(const Graph& graph, int64_t rows, int64_t length);

}  // namespace ds
