// What ops a host's graph may have: those of ops.def but for the ones that only passes make, and HostOp, an op of the host's own. Its
// shapes, values and gradient come from callbacks, which run on the thread that is inside the host's call.
#pragma once

#include <memory>
#include <string>

#include "ir/op.h"

namespace ds {

struct HostValue {
    void* data = nullptr;  // dense; null: a gradient that nobody wants
    DType dtype = DType::f32;
    Shape shape;
};

struct HostFunctions {
    using Values = std::span<const HostValue>;
    std::string name;
    size_t outputs = 1;  // all f32
    std::function<Result<std::vector<Shape>>(const std::string& attributes, std::span<const Type> in)> shapes;
    std::function<Status(const std::string& attributes, Values in, Values out)> forward;
    std::function<Status(const std::string& attributes, Values in, Values out, Values out_gradients, Values in_gradients)>
        backward;  // empty: not differentiable
};

class HostOp : public OpDef {
public:
    static std::shared_ptr<const HostOp> make(HostFunctions functions);
    // One node: of the op, or of its gradient.
    Status run(const Attrs& of_node, std::span<const HostValue> in, std::span<const HostValue> out) const;

private:
    explicit HostOp(std::shared_ptr<const HostFunctions> functions) : functions_(std::move(functions)) {}
    Grads differentiate(GradContext& c) const;

    std::shared_ptr<const HostFunctions> functions_;
    std::string own_name_;
    std::shared_ptr<const HostOp> gradient_;  // null: this is the gradient, or there is none
};

// The op of a node, where it is a host's; else null.
const HostOp* host_op(const Node& node);

const OpDef* find_op_for_hosts(std::string_view name);  // of ops.def; null when there is none
std::string unknown_op(std::string_view name);          // why a name that it didn't find can't be used, and what comes nearest

}  // namespace ds
