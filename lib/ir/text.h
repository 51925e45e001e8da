// The graph as text, and back:  print(parse(t)) == t  for printed t.
//
//   graph mlp(%x: f32[rows,64], param %up: f32[256,64] normal 0.02, frozen %down: f32[64,256] zeros) {
//     %h = matmul %x, %up {transpose_b = true} : f32[rows,256]
//     %a = gelu %h : f32[rows,256]
//     %y = matmul %a, %down {transpose_b = true} : f32[rows,64]
//     output y = %y
//   }
//
// Operands of a graph: input (no word), param, frozen (a param that is not trained), shadow and grad (of = %param). An absent optional
// operand is
// `_`. Types after nodes may be left out; where they stand they are checked. After `backward:` come the nodes that run in the backward
// pass. `weights:` those of its second part. `loss = %l` and `grad %p = %g` name results, `receive %x` and `send %x` what crosses to other
// stages: followed by `differentiable` or, once there is a gradient, `gradient %g`. A name of other characters than letters, digits and _ .
// - / stands in quotes, as in JSON: %"my weight". Text from # to the end of a line is a comment. `rows` and `length` are sizes that a batch
// brings.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "ir/graph.h"

namespace ds {

std::string print(const Graph& graph);
// find: of the ops that the text may use; by default those of ops.def.
Result<Graph> parse_graph(std::string_view text, std::string_view place = "graph",
                          const std::function<const OpDef*(std::string_view)>& find = {});

}  // namespace ds
