// Frozen weights that are kept in few bits, or as their values that are not zero: y = x W + b becomes a product with W's codes, which stand
// in the graph as W's shadow. After everything that looks for matmul by name, before precision decides in which type the product runs.
#include "ir/op.h"
#include "ops/attrs_coded.h"
#include "passes/pass.h"

namespace ds::passes {

Status coded_weights(Graph& graph, const PassOptions& options) {
    if (!options.coded) return ok();
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

}  // namespace ds::passes
