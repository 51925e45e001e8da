// Builder: appends nodes to a graph. The first failure sticks: later calls answer kNone, and `finish` or `status` tells it.
#pragma once

#include "ir/op.h"

namespace ds {

class Builder {
public:
    explicit Builder(Graph& graph) : graph_(graph) {}

    ValueId input(std::string name, DType dtype, Shape shape);
    ValueId param(std::string name, Shape shape, Init init, bool trainable = true);
    // One node; the first output, or all of them.
    ValueId call(std::string_view op, std::vector<ValueId> in, Attrs attrs = {}, std::string name = {});
    std::vector<ValueId> call_all(std::string_view op, std::vector<ValueId> in, Attrs attrs = {}, std::string name = {});
    Result<std::vector<ValueId>> try_call(const OpDef& op, std::vector<ValueId> in, Attrs attrs, std::string name = {});

    // Shorthands of models and gradient rules.
    ValueId add(ValueId a, ValueId b) { return call("add", {a, b}); }
    ValueId sub(ValueId a, ValueId b) { return call("sub", {a, b}); }
    ValueId mul(ValueId a, ValueId b) { return call("mul", {a, b}); }
    ValueId div(ValueId a, ValueId b) { return call("div", {a, b}); }
    ValueId scale(ValueId x, double factor) { return call("scale", {x}, Scale{factor}); }
    ValueId cast(ValueId x, DType to);                 // x itself when it has the type already
    ValueId reshape(ValueId x, Shape shape);           // likewise
    ValueId reduce_to(ValueId x, const Shape& shape);  // sums what broadcasting from `shape` had spread

    const Type& type(ValueId id) const { return graph_.type(id); }
    Graph& graph() { return graph_; }
    const Status& status() const { return status_; }
    void fail_with(Status status) {
        if (status_.ok()) status_ = std::move(status);
    }
    void mark_backward(bool on) { backward_ = on; }
    // The input that says where in the whole batch the rows of x lie, which come by first operands from an embedding of a stream's tokens,
    // or from one that takes rows of a stream; kNone: from none.
    ValueId places_of(ValueId x);
    // Gradients of params are accumulated in f32, whatever their shadows' type; others have the value's own type.
    DType grad_dtype(ValueId id) const;

private:
    Graph& graph_;
    Status status_;
    bool backward_ = false;
};

}  // namespace ds
