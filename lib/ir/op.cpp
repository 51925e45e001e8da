#include "ir/op.h"

#include <map>
#include <set>

#include "base/json.h"
#include "base/nearest.h"
#include "ir/host_op.h"

namespace ds {

#define DS_OP(name)             \
    namespace ops {             \
    extern const OpDef& name(); \
    }
#include "ops/ops.def"
#undef DS_OP

std::span<const OpDef* const> all_ops() {
    static const std::vector<const OpDef*> list = {
#define DS_OP(name) &ops::name(),
#include "ops/ops.def"
#undef DS_OP
    };
    return list;
}

const OpDef* find_op(std::string_view name) {
    static const auto by_name = [] {
        std::map<std::string_view, const OpDef*> map;
        for (const OpDef* op : all_ops()) map[op->name] = op;
        return map;
    }();
    const auto found = by_name.find(name);
    return found == by_name.end() ? nullptr : found->second;
}

static bool only_passes_make(const OpDef* op) {
    static const std::set<const OpDef*> list = {
#define DS_OP(name)
#define DS_PASS_OP(name) &ops::name(),
#include "ops/ops.def"
#undef DS_OP
    };
    return list.contains(op);
}

const OpDef* find_op_for_hosts(std::string_view name) {
    const OpDef* op = find_op(name);
    return only_passes_make(op) ? nullptr : op;
}

std::string unknown_op(std::string_view name) {
    if (find_op(name)) return fmt::format("op '{}' is one that only passes make; ds_graph_ops_json lists those of a host's graph", name);
    std::vector<std::string> known;
    for (const OpDef* op : all_ops())
        if (!only_passes_make(op)) known.emplace_back(op->name);
    return fmt::format("there is no op '{}'; did you mean {}? ds_graph_ops_json lists them", name, nearest(name, known));
}

bool left_out(const Node& node, size_t output, std::span<const int> uses) {
    return output < node.op->outputs.size() && node.op->outputs[output].ends_with('?') && uses[static_cast<size_t>(node.out[output])] == 0;
}

std::vector<Type> given_types(const Graph& graph, const Node& node, std::span<const int> uses) {
    std::vector<Type> types = graph.types(node.out);
    for (size_t i = 0; i < types.size(); ++i)
        if (left_out(node, i, uses)) types[i].present = false;
    return types;
}

Cost cost_of(const Graph& graph, const Node& node, std::span<const int> uses) {
    if (!node.op->cost) return {};
    std::vector<Type> in = graph.types(node.in);
    in.resize(std::max(in.size(), node.op->inputs.size()), Type{.present = false});
    return node.op->cost(node.attrs, in, given_types(graph, node, uses));
}

Result<std::vector<Type>> infer(const OpDef& op, const Attrs& attrs, std::span<const Type> in) {
    const size_t most = op.inputs.size();
    size_t least = most;  // what follows the last required one may be left out
    while (least > 0 && (op.inputs[least - 1].ends_with('?') || op.inputs[least - 1].ends_with("..."))) --least;
    DS_REQUIRE(in.size() >= least && (in.size() <= most || op.has_variadic_inputs()), "{}: takes {}{} inputs, not {}", op.name, least,
               op.has_variadic_inputs() ? " or more"
               : most > least           ? fmt::format(" to {}", most)
                                        : "",
               in.size());
    std::vector<Type> all(in.begin(), in.end());
    if (!op.has_variadic_inputs()) all.resize(most, Type{.present = false});
    for (size_t i = 0; i < all.size(); ++i) {
        const bool optional = i < most && op.inputs[i].ends_with('?');
        DS_REQUIRE(all[i].present || optional, "{}: input {} is missing", op.name, plain_name(op.inputs[std::min(i, most - 1)]));
    }
    auto types = op.infer(attrs, all);
    if (!types.ok()) {
        std::string shapes;
        for (size_t i = 0; i < in.size(); ++i)
            shapes +=
                fmt::format("{}{} {}", i ? ", " : "", plain_name(i < op.inputs.size() ? op.inputs[i] : op.inputs.back()), to_string(in[i]));
        return fail(types.status().code(), "{}: {} (inputs: {})", op.name, types.status().message(), shapes);
    }
    return types;
}

std::string ops_json() {
    OrderedJson list = OrderedJson::array();
    for (const OpDef* op : all_ops()) {
        if (only_passes_make(op)) continue;
        OrderedJson row;
        row["name"] = std::string(op->name);
        row["meaning"] = std::string(op->meaning);
        row["inputs"] = OrderedJson::array();
        for (const auto input : op->inputs) row["inputs"].push_back(std::string(input));
        row["outputs"] = OrderedJson::array();
        for (const auto output : op->outputs) row["outputs"].push_back(std::string(output));
        row["attributes"] = op->attrs->print(op->attrs->defaults().get(), true);
        row["differentiable"] = static_cast<bool>(op->gradient);
        list.push_back(std::move(row));
    }
    return list.dump(1);
}

}  // namespace ds
