/* Engines: the order of calls, arguments, parameters, outputs, what errors say. */
#include "tiny_model.h"

#include <unistd.h>

#define BIAS "transformer.ln_f.bias"

static void bad_configs_are_told(void **state) {
    ds_engine *e = (ds_engine *)state;
    char *report = (char *)state;
    assert_fails(DS_E_CONFIG, "train_batch_size", ds_engine_create("{" TINY_MODEL ", \"train_batch_sise\": 8}", NULL, &e));
    assert_null(e);
    assert_true(ds_engine_create("{\"model\": ", NULL, &e) < 0);
    assert_true(ds_engine_create("no/such/file.json", NULL, &e) < 0);
    assert_non_null(strstr(ds_last_error(), "no/such/file.json"));
    assert_fails(DS_E_CONFIG, "nor the path of a file; it begins with \"model: {\\n\"", ds_engine_create("model: {\n", NULL, &e));
    assert_fails(DS_E_INVALID_ARGUMENT, "UTF-8", ds_engine_create("{\"model\": \"\xff\"}", NULL, &e));
    assert_true(ds_plan("{\"train_batch_sise\": 8}", NULL, &report) < 0);
    assert_null(report);
    assert_null(e);
}

static void remember(int32_t level, const char *component, const char *message, void *user) {
    (void)component;
    if (level == DS_LOG_WARN) snprintf(user, 256, "%s", message);
}

static void a_precision_rule_that_nothing_obeys_is_told(void **state) {
    char warning[256] = "";
    ds_engine *e = NULL;
    (void)state;
    assert_ok(ds_set_log(remember, DS_LOG_WARN, warning, NULL));
    assert_ok(ds_engine_create("{" TINY_MODEL ", \"bf16\": {\"enabled\": true}, \"precision\": {\"*ln_f*\": \"f32\", \"softm*\": \"f32\"}}", NULL, &e));
    assert_string_equal(warning, "");
    ds_engine_destroy(e);
    assert_ok(ds_engine_create("{" TINY_MODEL ", \"bf16\": {\"enabled\": true}, \"precision\": {\"*lnf*\": \"f32\"}}", NULL, &e));
    assert_non_null(strstr(warning, "precision: *lnf* matches no op and no parameter"));
    ds_engine_destroy(e);
    assert_ok(ds_set_log(NULL, DS_LOG_WARN, NULL, NULL));
}

static void the_environment_gives_a_config(void **state) {
    ds_engine *e = NULL;
    (void)state;
    unsetenv("DSRT_CONFIG");
    unsetenv("DEEPSPEED_CONFIG");
    assert_true(ds_engine_create(NULL, NULL, &e) < 0);
    assert_non_null(strstr(ds_last_error(), "DSRT_CONFIG"));
    setenv("DEEPSPEED_CONFIG", "// a comment\n /* and another */ " TINY_CONFIG, 1);
    assert_ok(ds_engine_create(NULL, NULL, &e));
    ds_engine_destroy(e);
    setenv("DSRT_CONFIG", "{}", 1); /* comes first */
    assert_true(ds_engine_create(NULL, NULL, &e) < 0);
    unsetenv("DSRT_CONFIG");
    unsetenv("DEEPSPEED_CONFIG");
}

static void a_plan_is_json_and_runs_nothing(void **state) {
    char *report = NULL;
    (void)state;
    assert_ok(ds_plan(TINY_CONFIG, NULL, &report));
    assert_int_equal(report[0], '{');
    ds_free(report);
}

static void calls_out_of_order_are_refused(void **state) {
    ds_engine *e = engine_of(TINY_CONFIG);
    ds_batch *b = tiny_batch(1, 1);
    ds_tensor *t = NULL;
    float loss = 0, before[8], after[8];
    (void)state;
    assert_fails(DS_E_STATE, "ds_forward", ds_backward(e));
    assert_fails(DS_E_STATE, "ds_forward", ds_backward_from(e, b));
    assert_fails(DS_E_STATE, "backward", ds_step(e));
    assert_fails(DS_E_STATE, "pass", ds_output(e, "logits", &t));
    assert_ok(ds_forward(e, b, &loss));
    assert_true(loss > 0);
    assert_fails(DS_E_STATE, "backward", ds_step(e)); /* a forward alone counts nothing */
    assert_ok(ds_forward(e, b, &loss));               /* and is dropped by the next */
    assert_ok(ds_backward(e));
    assert_fails(DS_E_STATE, "ds_backward", ds_backward(e)); /* a second one of one forward */
    read_param(e, BIAS, DS_WEIGHT, before, 8);
    assert_int_equal(ds_step(e), DS_PENDING);
    read_param(e, BIAS, DS_WEIGHT, after, 8);
    assert_memory_equal(before, after, sizeof(before));
    assert_ok(ds_forward(e, b, NULL));
    assert_ok(ds_backward(e));
    assert_ok(ds_forward(e, b, NULL));
    assert_fails(DS_E_STATE, "ds_step", ds_backward(e)); /* past the boundary */
    assert_int_equal(ds_step(e), DS_OK);
    read_param(e, BIAS, DS_WEIGHT, after, 8);
    assert_memory_not_equal(before, after, sizeof(before));
    assert_fails(DS_E_STATE, "backward", ds_step(e));
    assert_true(metric(e, "global_steps") == 1);
    assert_true(metric(e, "micro_steps") == 2);
    ds_batch_destroy(b);
    ds_engine_destroy(e);
}

static void zero_grad_drops_gradients_and_their_count(void **state) {
    ds_engine *e = engine_of(TINY_CONFIG);
    ds_batch *b = tiny_batch(1, 1);
    float grad[8], zeros[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    (void)state;
    assert_ok(ds_forward(e, b, NULL));
    assert_ok(ds_backward(e));
    read_param(e, BIAS, DS_GRAD, grad, 8);
    assert_memory_not_equal(grad, zeros, sizeof(zeros));
    assert_ok(ds_zero_grad(e));
    read_param(e, BIAS, DS_GRAD, grad, 8);
    assert_memory_equal(grad, zeros, sizeof(zeros));
    assert_fails(DS_E_STATE, "backward", ds_step(e));
    assert_true(metric(e, "micro_steps") == 1);
    ds_batch_destroy(b);
    ds_engine_destroy(e);
}

static void evaluation_leaves_a_pending_forward_alone(void **state) {
    ds_engine *e = engine_of(TINY_CONFIG), *other = engine_of(TINY_CONFIG);
    ds_batch *b = tiny_batch(1, 1), *c = tiny_batch(5, 1), *plain = tiny_batch(3, 0);
    float loss = -1, grad[8], expected[8];
    (void)state;
    assert_ok(ds_forward(e, b, NULL));
    assert_ok(ds_eval(e, c, &loss));
    assert_true(loss > 0);
    assert_ok(ds_eval(e, plain, NULL));
    assert_fails(DS_E_INVALID_ARGUMENT, "labels", ds_eval(e, plain, &loss));
    assert_ok(ds_backward(e));
    read_param(e, BIAS, DS_GRAD, grad, 8);
    assert_ok(ds_forward(other, b, NULL)); /* a second engine beside the first */
    assert_ok(ds_backward(other));
    read_param(other, BIAS, DS_GRAD, expected, 8);
    assert_memory_equal(grad, expected, sizeof(grad));
    ds_batch_destroy(b);
    ds_batch_destroy(c);
    ds_batch_destroy(plain);
    ds_engine_destroy(other);
    ds_engine_destroy(e);
}

static void bad_batches_are_told(void **state) {
    const int64_t shape[2] = {2, 4}, other[2] = {2, 3};
    int64_t ids[8] = {1, 2, 3, 4, 5, 6, 7, 11};
    const float floats[8] = {0};
    float loss;
    ds_engine *e = engine_of(TINY_CONFIG);
    ds_batch *b = NULL;
    ds_tensor *t = NULL;
    (void)state;
    assert_ok(ds_batch_create(&b));
    assert_fails(DS_E_INVALID_ARGUMENT, "input_ids", ds_forward(e, b, NULL));
    assert_ok(ds_tensor_create(DS_I64, 2, shape, ids, sizeof(ids), &t));
    assert_ok(ds_batch_set(b, "input_ids", t));
    ds_tensor_destroy(t);
    assert_fails(DS_E_INVALID_ARGUMENT, "11", ds_forward(e, b, NULL)); /* the vocabulary ends at 10 */
    set_ids(b, "input_ids", 1);
    assert_fails(DS_E_INVALID_ARGUMENT, "labels", ds_forward(e, b, &loss));
    assert_ok(ds_forward(e, b, NULL));
    assert_fails(DS_E_STATE, "labels", ds_backward(e));
    set_ids(b, "inputs", 1);
    assert_fails(DS_E_INVALID_ARGUMENT, "inputs", ds_forward(e, b, NULL));
    ds_batch_destroy(b);
    b = tiny_batch(1, 0);
    t = f32_tensor(2, shape, floats);
    assert_ok(ds_batch_set(b, "labels", t)); /* floats */
    ds_tensor_destroy(t);
    assert_fails(DS_E_INVALID_ARGUMENT, "labels", ds_forward(e, b, NULL));
    assert_ok(ds_tensor_create(DS_I64, 2, other, ids, 48, &t));
    assert_ok(ds_batch_set(b, "labels", t)); /* another shape */
    ds_tensor_destroy(t);
    assert_fails(DS_E_INVALID_ARGUMENT, "labels", ds_forward(e, b, NULL));
    set_ids(b, "labels", 1);
    assert_ok(ds_forward(e, b, &loss)); /* the engine is as it was */
    ds_batch_destroy(b);
    ds_engine_destroy(e);
}

static void outputs_are_snapshots(void **state) {
    const int64_t *shape = NULL;
    int32_t ndim = 0;
    float first[88], again[88];
    ds_engine *e = engine_of(TINY_CONFIG);
    ds_batch *b = tiny_batch(1, 1), *c = tiny_batch(4, 1);
    ds_tensor *t = NULL, *later = NULL;
    (void)state;
    assert_ok(ds_forward(e, b, NULL));
    ds_batch_destroy(b); /* it was taken as of the call */
    assert_fails(DS_E_NOT_FOUND, "logits", ds_output(e, "logit", &later));
    assert_null(later);
    assert_ok(ds_output(e, "logits", &t));
    assert_ok(ds_tensor_info(t, NULL, &ndim, &shape));
    assert_int_equal(ndim, 3);
    assert_int_equal(shape[0], 2);
    assert_int_equal(shape[1], 4);
    assert_int_equal(shape[2], 11);
    assert_ok(ds_tensor_read(t, DS_F32, first, sizeof(first)));
    assert_ok(ds_backward(e));
    assert_fails(DS_E_STATE, "backward", ds_output(e, "logits", &later));
    assert_ok(ds_eval(e, c, NULL));
    assert_ok(ds_output(e, "logits", &later)); /* of the later pass */
    assert_ok(ds_tensor_read(later, DS_F32, again, sizeof(again)));
    assert_memory_not_equal(first, again, sizeof(first));
    ds_engine_destroy(e);
    assert_ok(ds_tensor_read(t, DS_F32, again, sizeof(again)));
    assert_memory_equal(first, again, sizeof(first));
    ds_tensor_destroy(t);
    ds_tensor_destroy(later);
    ds_batch_destroy(c);
}

static void parameters_have_names_shapes_and_values(void **state) {
    const int64_t eight = 8, four = 4;
    const float ones[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    float back[8];
    size_t n = 0, i, found = 0;
    int32_t ndim = -1, trainable = -1;
    const int64_t *shape = NULL;
    const char *name = NULL;
    ds_tensor *t = f32_tensor(1, &eight, ones), *small = f32_tensor(1, &four, ones), *out = NULL;
    ds_engine *e = engine_of(TINY_CONFIG);
    (void)state;
    assert_ok(ds_param_count(e, &n));
    assert_true(n > 10);
    for (i = 0; i < n; ++i) {
        assert_ok(ds_param_name(e, i, &name));
        assert_ok(ds_param_info(e, name, &ndim, &shape, &trainable));
        assert_true(trainable);
        found += strcmp(name, BIAS) == 0;
        assert_null(strstr(name, "lm_head")); /* tied: once */
    }
    assert_int_equal(found, 1);
    assert_fails(DS_E_INVALID_ARGUMENT, "number of parameters", ds_param_name(e, n, &name));
    assert_null(name);
    assert_fails(DS_E_NOT_FOUND, BIAS, ds_param_info(e, "transformer.ln_f.bia", &ndim, &shape, &trainable));
    assert_fails(DS_E_NOT_FOUND, BIAS, ds_param_get(e, "transformer.ln_f.bia", DS_WEIGHT, &out));
    assert_fails(DS_E_INVALID_ARGUMENT, "what", ds_param_get(e, BIAS, 4, &out));
    assert_fails(DS_E_INVALID_ARGUMENT, "what", ds_param_set(e, BIAS, -1, t));
    assert_ok(ds_param_set(e, BIAS, DS_WEIGHT, t));
    read_param(e, BIAS, DS_WEIGHT, back, 8);
    assert_memory_equal(back, ones, sizeof(ones));
    assert_fails(DS_E_INVALID_ARGUMENT, "[4]", ds_param_set(e, BIAS, DS_WEIGHT, small));
    assert_fails(DS_E_INVALID_ARGUMENT, "NULL", ds_param_set(e, BIAS, DS_WEIGHT, NULL));
    read_param(e, BIAS, DS_FIRST_MOMENT, back, 8);
    assert_true(back[0] == 0 && back[7] == 0);
    read_param(e, BIAS, DS_SECOND_MOMENT, back, 8);
    assert_true(back[0] == 0);
    ds_engine_destroy(e);
    ds_tensor_destroy(t);
    ds_tensor_destroy(small);
}

static void gradients_can_be_replaced_at_the_boundary_only(void **state) {
    const int64_t eight = 8;
    const float ones[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    float before[8], after[8], grad[8];
    int i;
    ds_tensor *t = f32_tensor(1, &eight, ones);
    ds_batch *b = tiny_batch(1, 1);
    ds_engine *e = engine_of("{" TINY_MODEL ", \"train_micro_batch_size_per_gpu\": 2, \"gradient_accumulation_steps\": 2, "
                             "\"gradient_clipping\": 0, \"optimizer\": {\"type\": \"SGD\", \"params\": {\"lr\": 0.5}}}");
    (void)state;
    assert_fails(DS_E_STATE, "boundary", ds_param_set(e, BIAS, DS_GRAD, t));
    assert_ok(ds_forward(e, b, NULL));
    assert_ok(ds_backward(e));
    assert_fails(DS_E_STATE, "boundary", ds_param_set(e, BIAS, DS_GRAD, t));
    assert_ok(ds_forward(e, b, NULL));
    assert_ok(ds_backward(e));
    assert_ok(ds_param_set(e, BIAS, DS_GRAD, t));
    read_param(e, BIAS, DS_GRAD, grad, 8);
    assert_memory_equal(grad, ones, sizeof(ones));
    read_param(e, BIAS, DS_WEIGHT, before, 8);
    assert_ok(ds_step(e));
    read_param(e, BIAS, DS_WEIGHT, after, 8);
    for (i = 0; i < 8; ++i) assert_true(after[i] == before[i] - 0.5f);
    read_param(e, BIAS, DS_GRAD, grad, 8);
    assert_true(grad[0] == 0);
    assert_fails(DS_E_UNSUPPORTED, "second moment", ds_param_set(e, BIAS, DS_SECOND_MOMENT, t));
    ds_tensor_destroy(t);
    ds_batch_destroy(b);
    ds_engine_destroy(e);
}

static void settings_can_be_read_and_some_changed(void **state) {
    char *json = NULL;
    ds_engine *e = engine_of(TINY_CONFIG);
    (void)state;
    assert_ok(ds_engine_get(e, "gradient_accumulation_steps", &json));
    assert_string_equal(json, "2");
    ds_free(json);
    assert_ok(ds_engine_get(e, "", &json));
    assert_non_null(strstr(json, "\"train_batch_size\":4"));
    ds_free(json);
    assert_true(metric(e, "lr") == 0.01);
    assert_ok(ds_engine_set(e, "optimizer.params.lr", "0.25"));
    assert_true(metric(e, "lr") == 0.25);
    assert_ok(ds_engine_get(e, "optimizer.params.lr", &json));
    assert_string_equal(json, "0.25");
    ds_free(json);
    assert_ok(ds_engine_set(e, "gradient_clipping", "1.5"));
    assert_fails(DS_E_UNSUPPORTED, "train_micro_batch_size_per_gpu", ds_engine_set(e, "train_micro_batch_size_per_gpu", "4"));
    assert_true(ds_engine_set(e, "gradient_cliping", "1") < 0);
    assert_non_null(strstr(ds_last_error(), "gradient_clipping"));
    assert_true(ds_engine_set(e, "gradient_clipping", "\"much\"") < 0);
    assert_fails(DS_E_CONFIG, "gradient_clipping", ds_engine_set(e, "gradient_clipping", "{"));
    assert_true(ds_engine_get(e, "no_such_key", &json) < 0);
    assert_null(json);
    ds_engine_destroy(e);
}

static void unknown_metrics_are_told_with_those_there_are(void **state) {
    static const char *const names[] = {"loss", "lr", "momentum", "loss_scale", "grad_norm", "global_steps", "global_samples",
                                        "skipped_steps",
                                        "micro_steps", "tokens_per_second", "peak_bytes", "plan_bytes"};
    ds_engine *e = engine_of(TINY_CONFIG);
    double value;
    size_t i;
    (void)state;
    for (i = 0; i < sizeof(names) / sizeof(names[0]); ++i) assert_true(metric(e, names[i]) >= 0);
    assert_fails(DS_E_NOT_FOUND, "global_steps", ds_metric(e, "steps", &value));
    ds_engine_destroy(e);
}

static void a_report_is_one_page_that_holds_what_the_host_adds(void **state) {
    static char page[1 << 20];
    char path[] = "/tmp/dsrt-report-XXXXXX";
    const int made = mkstemp(path);
    ds_engine *e = engine_of("{" TINY_MODEL ", \"train_micro_batch_size_per_gpu\": 2, \"optimizer\": {\"type\": \"SGD\", \"params\": {\"lr\": 0.1}}}");
    ds_batch *b = tiny_batch(1, 1);
    FILE *file;
    size_t n;
    (void)state;
    assert_true(made >= 0);
    assert_ok(ds_forward(e, b, NULL));
    assert_ok(ds_backward(e));
    assert_ok(ds_step(e));
    assert_ok(ds_report(e, path, "{\"title\": \"A title of my own\", \"summary\": [[\"rows\", \"two\"]]}"));
    close(made); /* a file of that name is replaced */
    file = fopen(path, "r");
    assert_non_null(file);
    n = fread(page, 1, sizeof(page) - 1, file);
    fclose(file);
    page[n] = 0;
    assert_non_null(strstr(page, "A title of my own"));
    assert_null(strstr(page, "src=\"http")); /* it fetches nothing */
    assert_fails(DS_E_INVALID_ARGUMENT, "ds_report: a chart: option x_label must be a string, not 3", ds_report(e, path, "{\"charts\": [{\"title\": \"T\", \"x_label\": 3}]}"));
    assert_fails(DS_E_INVALID_ARGUMENT, "ds_report: a series: option markers must be true or false, not 1", ds_report(e, path, "{\"charts\": [{\"title\": \"T\", \"series\": [{\"points\": [], \"markers\": 1}]}]}"));
    assert_fails(DS_E_INVALID_ARGUMENT, "option colour is unknown; accepted: name, markers, points", ds_report(e, path, "{\"charts\": [{\"title\": \"T\", \"series\": [{\"points\": [], \"colour\": 1}]}]}"));
    assert_fails(DS_E_NOT_FOUND, "/no/such/folder", ds_report(e, "/no/such/folder/report.html", NULL));
    unlink(path);
    ds_batch_destroy(b);
    ds_engine_destroy(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {TEST(bad_configs_are_told), TEST(a_precision_rule_that_nothing_obeys_is_told),
                                       TEST(the_environment_gives_a_config),
                                       TEST(a_plan_is_json_and_runs_nothing),
                                       TEST(calls_out_of_order_are_refused),
                                       TEST(zero_grad_drops_gradients_and_their_count),
                                       TEST(evaluation_leaves_a_pending_forward_alone),
                                       TEST(bad_batches_are_told),
                                       TEST(outputs_are_snapshots),
                                       TEST(parameters_have_names_shapes_and_values),
                                       TEST(gradients_can_be_replaced_at_the_boundary_only),
                                       TEST(settings_can_be_read_and_some_changed),
                                       TEST(unknown_metrics_are_told_with_those_there_are),
                                       TEST(a_report_is_one_page_that_holds_what_the_host_adds)};
    return RUN(tests);
}
