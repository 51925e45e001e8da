// Frozen weights that are kept in few bits, or as their values that are not zero: y = x W + b becomes a product with W's codes, which stand
// in the graph as W's shadow. After everything that looks for matmul by name, before precision decides in which type the product runs.
// Those that are kept in bf16 alone are their own shadows, which products would read anyway; lookups' rows go back to f32.
#include "passes/coded_weights.h"

#include <algorithm>

#include "ir/op.h"
#include "ops/attrs_coded.h"
#include "passes/pass.h"

namespace ds {
namespace {

bool looks_up(const Node& node) { return node.op->name == "embedding"; }

}  // namespace

std::vector<std::string> weights_in_low_products(const Graph& graph) {
    std::map<ValueId, bool> low;
    for (const Node& node : graph.nodes)
        for (size_t i = 0; i < node.in.size(); ++i)
            if (const ValueId id = node.in[i]; id != kNone && graph.value(id).kind == Kind::param) {
                const bool reads_low = looks_up(node) || static_cast<int>(i) < node.op->low_inputs;
                low[id] = low.emplace(id, true).first->second && reads_low;
            }
    std::vector<std::string> names;
    for (const auto& [id, is_low] : low)
        if (is_low && graph.type(id).dtype == DType::f32 && graph.type(id).shape.size() >= 2) names.push_back(graph.value(id).name);
    return names;
}

namespace passes {
namespace {

void keep_in_bf16(Graph& graph, const CodedWeights& coded) {
    std::map<ValueId, ValueId> lows;
    const auto low_of = [&](ValueId id) {
        const Value v = graph.value(id);
        const auto found = v.kind == Kind::param ? coded.find(v.name) : coded.end();
        if (found == coded.end() || !found->second.is_bf16()) return id;
        const auto [known, fresh] = lows.emplace(id, kNone);
        if (fresh)
            known->second = graph.add_value(
                {.name = v.name + ".bf16", .type = {DType::bf16, v.type.shape}, .kind = Kind::shadow, .of = id, .trainable = false});
        return known->second;
    };
    for (Node& node : std::exchange(graph.nodes, {})) {
        bool low = false;
        for (ValueId& id : node.in)
            if (const ValueId read = id == kNone ? kNone : low_of(id); read != id) id = read, low = true;
        if (!low || !looks_up(node)) {
            graph.nodes.push_back(std::move(node));
            continue;
        }
        const ValueId rows = node.out[0],
                      low_rows = graph.add_value({.name = graph.value(rows).name + ".bf16", .type = {DType::bf16, graph.type(rows).shape}});
        node.out[0] = low_rows;
        graph.nodes.push_back(std::move(node));
        graph.nodes.push_back({.op = find_op("cast"), .attrs = Cast{DType::f32}, .in = {low_rows}, .out = {rows}});
    }
}

}  // namespace

Status coded_weights(Graph& graph, const PassOptions& options) {
    if (!options.coded) return ok();
    keep_in_bf16(graph, *options.coded);
    std::map<ValueId, ValueId> codes;
    for (Node& node : graph.nodes) {
        if (node.op->name != "matmul" || graph.value(node.in[1]).kind != Kind::param) continue;
        const auto found = options.coded->find(graph.value(node.in[1]).name);
        if (found == options.coded->end()) continue;
        const ValueId weight = node.in[1];
        const Matmul product = node.attrs.as<Matmul>();
        const Shape shape = graph.type(weight).shape;
        if (product.transpose_a || shape.size() != 2)
            return fail(Code::E_INTERNAL, "coded_weights: {} is not the right operand of a plain product", graph.value(weight).name);
        const WeightCode& code = found->second;
        auto [known, fresh] = codes.emplace(weight, kNone);
        if (fresh)
            known->second = graph.add_value({
                .name = graph.value(weight).name + (code.sparse      ? ".sparse"
                                                    : code.bits == 8 ? ".int8"
                                                    : code.group     ? ".int4"
                                                                     : ".nf4"),
                .type = {DType::u8, {coded_bytes(shape[0], shape[1], code)}},
                .kind = Kind::shadow,
                .of = weight,
                .trainable = false,
            });
        node.in[1] = known->second;
        if (code.by_output) {
            node.op = find_op("int8_matmul");
            node.attrs = Int8Matmul{
                .outs = shape[code.out_first ? 0 : 1], .fixed = code.fixed_input, .out = product.out, .set_out = product.set_out};
            continue;
        }
        if (code.sparse) {
            node.op = find_op("sparse_matmul");
            node.attrs = SparseMatmul{.outs = shape[code.out_first ? 0 : 1],
                                      .nonzeros = code.nonzeros,
                                      .bits = code.bits,
                                      .out = product.out,
                                      .set_out = product.set_out};
            continue;
        }
        node.op = find_op("coded_matmul");
        if (code.group) {  // codes lie [out, in] whichever way the weight does
            node.attrs = CodedMatmul{
                .bits = code.bits,
                .rows = shape[code.out_first ? 0 : 1],
                .columns = shape[code.out_first ? 1 : 0],
                .transpose = code.out_first == product.transpose_b,
                .out = product.out,
                .set_out = product.set_out,
                .group = code.group,
                .asymmetric = code.asymmetric,
            };
            continue;
        }
        node.attrs = CodedMatmul{.bits = code.bits,
                                 .two_levels = code.two_levels,
                                 .rows = shape[0],
                                 .columns = shape[1],
                                 .transpose = product.transpose_b,
                                 .out = product.out,
                                 .set_out = product.set_out};
    }
    return ok();
}

}  // namespace passes
}  // namespace ds
