// lib/ir and lib/passes: text round trips, shape errors, and gradients of every differentiable op are tested as text cases by tests/ops;
// here only what text can't say.
#include <doctest/doctest.h>

#include "ir/builder.h"
#include "ir/text.h"
#include "passes/pass.h"

using namespace ds;

constexpr const char* kMlp = R"(graph mlp(%x: f32[rows,64],
    param %up: f32[256,64] normal 0.02,
    param %down: f32[64,256] zeros,
    %labels: i32[rows]) {
  %h = matmul %x, %up {transpose_b = true} : f32[rows,256]
  %a = gelu %h : f32[rows,256]
  %y = matmul %a, %down {transpose_b = true} : f32[rows,64]
  %l, %lse = cross_entropy %y, %labels : f32[], f32[rows]
  output y = %y
  loss = %l
}
)";

TEST_CASE("text/printing_what_was_parsed_gives_the_same_text") {
    auto graph = parse_graph(kMlp);
    REQUIRE_MESSAGE(graph.ok(), graph.status().message());
    CHECK(print(*graph) == kMlp);
    CHECK(verify(*graph).ok());
}

TEST_CASE("text/a_shape_error_names_line_op_input_and_shapes") {
    const auto graph = parse_graph("graph g(%x: f32[8,64], %w: f32[32,64]) {\n  %y = matmul %x, %w\n}\n", "model.ds");
    REQUIRE(!graph.ok());
    CHECK(graph.status().message() ==
          "model.ds: line 2: matmul: the contracted dimension is 64 in a [8,64] and 32 in b [32,64] (inputs: a f32[8,64], b f32[32,64])");
}

TEST_CASE("passes/a_training_step_is_well_formed_in_every_precision_and_recomputation") {
    for (const DType precision : {DType::f32, DType::bf16, DType::f16})
        for (int recompute = 0; recompute < 3; ++recompute)
            for (const bool accumulate : {false, true}) {
                auto graph = bind(*parse_graph(kMlp), 8, 1);
                REQUIRE(graph.ok());
                const Status status =
                    run_passes(*graph, {.precision = precision, .train = true, .accumulate = accumulate, .recompute = recompute});
                CHECK_MESSAGE(status.ok(), status.message());
                CHECK(graph->grads.size() == 2);
                auto again = parse_graph(print(*graph));
                REQUIRE_MESSAGE(again.ok(), again.status().message());
                CHECK(print(*again) == print(*graph));
            }
}
