/* Graphs: building, and errors that name op, input and shapes. */
#include "abi_test.h"

static void a_small_model_can_be_built(void **state) {
    const int64_t x_shape[2] = {-1, 4}, w_shape[2] = {4, 3};
    int32_t x = -1, w = -1, y = -1, s = -1, in[2];
    ds_graph *g = NULL;
    (void)state;
    assert_ok(ds_graph_create(&g));
    assert_ok(ds_graph_input(g, "x", DS_F32, 2, x_shape, &x));
    assert_ok(ds_graph_param(g, "w", DS_F32, 2, w_shape, "{\"type\": \"normal\", \"std\": 0.02}", &w));
    in[0] = x;
    in[1] = w;
    assert_ok(ds_graph_op(g, "matmul", in, 2, NULL, &y, 1));
    assert_ok(ds_graph_op(g, "mean", &y, 1, NULL, &s, 1));
    assert_ok(ds_graph_output(g, "y", y));
    assert_ok(ds_graph_loss(g, s));
    ds_graph_destroy(g);
}

static void shape_errors_name_op_and_shapes(void **state) {
    const int64_t x_shape[2] = {-1, 4}, w_shape[2] = {5, 3};
    int32_t x = -1, w = -1, y = -1, in[2];
    ds_graph *g = NULL;
    (void)state;
    assert_ok(ds_graph_create(&g));
    assert_ok(ds_graph_input(g, "x", DS_F32, 2, x_shape, &x));
    assert_ok(ds_graph_param(g, "w", DS_F32, 2, w_shape, NULL, &w));
    in[0] = x;
    in[1] = w;
    assert_fails(DS_E_INVALID_ARGUMENT, "matmul", ds_graph_op(g, "matmul", in, 2, NULL, &y, 1));
    assert_non_null(strstr(ds_last_error(), "4"));
    assert_non_null(strstr(ds_last_error(), "5,3"));
    in[0] = 1000;
    assert_true(ds_graph_op(g, "matmul", in, 2, NULL, &y, 1) < 0);
    assert_true(ds_graph_op(g, "matmull", in, 2, NULL, &y, 1) < 0);
    assert_non_null(strstr(ds_last_error(), "matmul"));
    assert_true(ds_graph_loss(g, 77) < 0);
    assert_true(ds_graph_output(g, "y", -5) < 0);
    assert_true(ds_graph_param(g, "v", DS_F32, 2, w_shape, "{\"type\": \"gaussian\"}", &w) < 0);
    assert_non_null(strstr(ds_last_error(), "gaussian"));
    assert_fails(DS_E_INVALID_ARGUMENT, "init", ds_graph_param(g, "v", DS_F32, 2, w_shape, "{\"type\": ", &w)); /* a wrong argument, not a damaged file */
    /* As many keys as queries, but of other rows. */
    assert_ok(ds_graph_param(g, "q", DS_F32, 3, (const int64_t[3]){2, 6, 4}, NULL, &in[0]));
    assert_ok(ds_graph_param(g, "k", DS_F32, 3, (const int64_t[3]){3, 4, 4}, NULL, &in[1]));
    assert_fails(DS_E_INVALID_ARGUMENT, "q [2,6,4] and k [3,4,4] differ in tokens", ds_graph_op(g, "attention", (const int32_t[3]){in[0], in[1], in[1]}, 3, NULL, &y, 1));
    assert_fails(DS_E_INVALID_ARGUMENT, "accepted", ds_graph_param(g, "v", DS_F32, 2, w_shape, "{\"type\": \"ones\", \"std\": 1}", &w));
    assert_fails(DS_E_INVALID_ARGUMENT, "attributes", ds_graph_op(g, "relu", &x, 1, "p=1", &y, 1));
    assert_fails(DS_E_INVALID_ARGUMENT, "empty", ds_graph_input(g, "", DS_F32, 2, x_shape, &y));
    assert_fails(DS_E_INVALID_ARGUMENT, "empty", ds_graph_param(g, "", DS_F32, 2, w_shape, NULL, &y));
    assert_fails(DS_E_INVALID_ARGUMENT, "empty", ds_graph_output(g, "", x));
    /* What failed left no trace. */
    in[0] = x;
    assert_ok(ds_graph_op(g, "relu", in, 1, NULL, &y, 1));
    ds_graph_destroy(g);
}

static void the_op_list_has_what_hosts_count_on(void **state) {
    static const char *const ops[] = {"add", "sub", "mul", "div", "matmul", "transpose", "reshape", "slice", "concat", "sum", "mean",
                                      "gelu", "relu",
                                      "silu", "tanh", "exp", "log", "sqrt", "softmax", "layernorm", "rmsnorm", "embedding", "rope",
                                          "attention",
                                      "cross_entropy", "dropout", "cast"};
    char *json = NULL, quoted[64];
    size_t i;
    (void)state;
    assert_ok(ds_graph_ops_json(&json));
    for (i = 0; i < sizeof(ops) / sizeof(ops[0]); ++i) {
        snprintf(quoted, sizeof(quoted), "\"%s\"", ops[i]);
        if (!strstr(json, quoted)) fail_msg("%s is missing", ops[i]);
    }
    ds_free(json);
}

static void text_is_parsed_or_told_where_it_fails(void **state) {
    ds_graph *g = NULL;
    (void)state;
    assert_ok(ds_graph_parse("graph m(%x: f32[rows,4], param %w: f32[4,3] normal 0.02) {\n"
                             "  %y = matmul %x, %w : f32[rows,3]\n"
                             "  output y = %y\n"
                             "}\n", &g));
    ds_graph_destroy(g);
    assert_true(ds_graph_parse("graph m(%x: f32[rows,4]) {\n  %y = nonsense %x\n}\n", &g) < 0);
    assert_null(g);
    assert_non_null(strstr(ds_last_error(), "nonsense"));
    assert_fails(DS_E_INVALID_ARGUMENT, "text", ds_graph_parse(NULL, &g));
}

/* Ranks, buckets of gradients and weights on disk are not a host's to speak of. */
static void what_only_passes_make_is_refused(void **state) {
    static const char *const ops[] = {"all_gather", "pad_share", "sharded_cross_entropy", "reduce_bucket", "fetch", "ring_shift", "expert_send"};
    const int64_t shape[2] = {-1, 4};
    int32_t x = -1, y = -1, in[4];
    char *json = NULL, quoted[64];
    ds_graph *g = NULL, *parsed = NULL;
    size_t i;
    (void)state;
    assert_ok(ds_graph_create(&g));
    assert_ok(ds_graph_input(g, "x", DS_F32, 2, shape, &x));
    for (i = 0; i < 4; ++i) in[i] = x;
    assert_ok(ds_graph_ops_json(&json));
    for (i = 0; i < sizeof(ops) / sizeof(ops[0]); ++i) {
        snprintf(quoted, sizeof(quoted), "\"%s\"", ops[i]);
        if (strstr(json, quoted)) fail_msg("%s is offered to hosts", ops[i]);
        assert_fails(DS_E_UNSUPPORTED, "only passes make", ds_graph_op(g, ops[i], in, i == 2 ? 4 : 1, "{\"ranks\": 0}", &y, 1));
    }
    ds_free(json);
    assert_fails(DS_E_INVALID_ARGUMENT, "line 2: op 'all_gather' is one that only passes make",
                 ds_graph_parse("graph m(%x: f32[rows,4]) {\n  %y = all_gather %x {ranks = 0}\n}\n", &parsed));
    assert_fails(DS_E_NOT_FOUND, "did you mean matmul?", ds_graph_op(g, "matmull", in, 2, NULL, &y, 1));
    assert_fails(DS_E_INVALID_ARGUMENT, "attribute tanh cannot be 1; it is true or false", ds_graph_op(g, "gelu", in, 1, "{\"tanh\": 1}", &y, 1));
    assert_fails(DS_E_INVALID_ARGUMENT, "it is a list, each entry an integer", ds_graph_op(g, "reshape", in, 1, "{\"shape\": 4}", &y, 1));
    ds_graph_destroy(g);
}

/* Text is a graph by the same rules as calls: what a call refuses, and what only passes write, is refused here. */
static void text_obeys_the_rules_of_the_calls(void **state) {
    static const struct { const char *body, *says; } cases[] = {
        {"%x: f32[rows,4]) {\n  loss = %x\n}", "the loss must be one float, but the value is f32[rows,4]"},
        {"%x: f32[rows,4]) {\n  output a = %x\n  output a = %x\n}", "two outputs a"},
        {"%x: i32[rows,4]) {\n  output a = %x\n}", "output a: must hold floats, not i32"},
        {"%x: i64[rows,4]) {\n}", "write i32 for i64"},
        {"%x: f32[0,4]) {\n}", "dimension 0 must be positive"},
        {"param %w: f32[rows] ones) {\n}", "a param's sizes are numbers"},
        {"param %w: f32[4] normal -3) {\n}", "must be at least 0, is -3"},
        {"%x: f32[rows,4]) {\nbackward:\n  %y = relu %x\n  output y = %y\n}", "behind backward:"},
        {"%x: f32[rows,4]) {\nweights:\n  %y = relu %x\n  output y = %y\n}", "behind backward: or weights:"},
        {"%x: f32[rows,4]) {\n  receive %x\n}", "written by passes"},
        {"%x: f32[4], param %w: f32[4] ones) {\n  grad %w = %x\n}", "written by passes"},
    };
    char text[256];
    size_t i;
    (void)state;
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); ++i) {
        ds_graph *g = NULL;
        snprintf(text, sizeof(text), "graph m(%s", cases[i].body);
        assert_fails(DS_E_INVALID_ARGUMENT, cases[i].says, ds_graph_parse(text, &g));
        assert_null(g);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {TEST(what_only_passes_make_is_refused), TEST(text_obeys_the_rules_of_the_calls),
                                       TEST(a_small_model_can_be_built), TEST(shape_errors_name_op_and_shapes),
                                       TEST(the_op_list_has_what_hosts_count_on), TEST(text_is_parsed_or_told_where_it_fails)};
    return RUN(tests);
}
