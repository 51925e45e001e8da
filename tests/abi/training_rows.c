/* Heads that answer about whole rows: one class of several, numbers, yes and no to each class; each loss against its formula, and data for them. */
#include "training.h"

#include <unistd.h>

#define LSTM "{\"architectures\": [\"LstmForSequenceClassification\"], \"model_type\": \"lstm\", \"vocab_size\": 97, \"hidden_size\": 8, \"num_layers\": 1, "

static ds_engine *head(const char *model, const char *overrides) {
    char config[1024];
    ds_engine *e = NULL;
    snprintf(config, sizeof(config), "{\"model\": %s, \"model_overrides\": {%s}, \"threads\": 2, \"train_batch_size\": 4, \"gradient_clipping\": 0, " SGD "}", model, overrides);
    assert_ok(ds_engine_create(config, NULL, &e));
    return e;
}

static ds_engine *bert(const char *overrides) { return head("\"" BERT "\"", overrides); }

/* Four rows with these labels. */
static ds_batch *labelled(int32_t dtype, int32_t ndim, int64_t columns, const void *labels, size_t bytes) {
    const int64_t shape[2] = {4, columns};
    ds_batch *b = rows_of(0, 4, 8, 0);
    ds_tensor *t = NULL;
    assert_ok(ds_tensor_create(dtype, ndim, shape, labels, bytes, &t));
    assert_ok(ds_batch_set(b, "labels", t));
    ds_tensor_destroy(t);
    return b;
}

static void logits_of(ds_engine *e, float *x, size_t n) {
    ds_tensor *t = NULL;
    assert_ok(ds_output(e, "logits", &t));
    assert_int_equal(count_of(t), n);
    assert_ok(ds_tensor_read(t, DS_F32, x, n * sizeof(float)));
    ds_tensor_destroy(t);
}

static double yes_or_no(const float *x, const float *y, int n) {
    double sum = 0;
    int i;
    for (i = 0; i < n; ++i) sum += (x[i] > 0 ? x[i] : 0) - (double)x[i] * y[i] + log1p(exp(-fabs(x[i])));
    return sum / n;
}

static double squared(const float *x, const float *y, int n) {
    double sum = 0;
    int i;
    for (i = 0; i < n; ++i) sum += ((double)x[i] - y[i]) * ((double)x[i] - y[i]);
    return sum / n;
}

static const float kShares[12] = {1, 0, 1, 0, 0, 0, 0.25f, 1, 0, 1, 1, 1};

static void float_labels_say_yes_or_no_to_each_class(void **state) {
    int given;
    (void)state;
    for (given = 0; given < 2; ++given) {
        ds_engine *e = bert(given ? "\"problem_type\": \"multi_label_classification\"" : "");
        ds_batch *b = labelled(DS_F32, 2, 3, kShares, sizeof(kShares));
        float x[12], loss;
        assert_ok(ds_eval(e, b, &loss));
        logits_of(e, x, 12);
        assert_true(fabs(loss - yes_or_no(x, kShares, 12)) < 1e-6);
        ds_batch_destroy(b);
        ds_engine_destroy(e);
    }
}

static void an_undecided_class_learns_too(void **state) {
    const int64_t shape[2] = {3, 32};
    ds_engine *e = bert("\"problem_type\": \"multi_label_classification\"");
    ds_batch *b = labelled(DS_F32, 2, 3, kShares, sizeof(kShares));
    ds_tensor *zeros = NULL, *t = NULL;
    float g[3];
    int c, r;
    (void)state;
    assert_ok(ds_tensor_create(DS_F32, 2, shape, NULL, 0, &zeros));
    assert_ok(ds_param_set(e, "classifier.weight", DS_WEIGHT, zeros));
    ds_tensor_destroy(zeros);
    assert_ok(ds_tensor_create(DS_F32, 1, shape, NULL, 0, &zeros));
    assert_ok(ds_param_set(e, "classifier.bias", DS_WEIGHT, zeros)); /* all logits are 0 */
    ds_tensor_destroy(zeros);
    assert_true(fabs(train(e, b) - log(2)) < 1e-6);
    assert_ok(ds_param_get(e, "classifier.bias", DS_GRAD, &t));
    assert_ok(ds_tensor_read(t, DS_F32, g, sizeof(g)));
    ds_tensor_destroy(t);
    for (c = 0; c < 3; ++c) {
        double exact = 0;
        for (r = 0; r < 4; ++r) exact += (0.5 - kShares[3 * r + c]) / 12;
        assert_true(fabs(g[c] - exact) < 1e-7);
    }
    ds_batch_destroy(b);
    ds_engine_destroy(e);
}

static void numbers_are_learned_by_their_squared_error(void **state) {
    const float values[12] = {0.5f, -2, 1, 3, -100, 0, 1, 1, 2, 5, 0.125f, 7};
    const int32_t whole[4] = {3, -100, 0, 7};
    const float as_float[4] = {3, -100, 0, 7};
    ds_engine *e = bert("\"problem_type\": \"regression\"");
    ds_batch *b = labelled(DS_F32, 2, 3, values, sizeof(values));
    float x[12], loss;
    (void)state;
    assert_ok(ds_eval(e, b, &loss));
    logits_of(e, x, 12);
    assert_true(fabs(loss / squared(x, values, 12) - 1) < 1e-6); /* -100 is a number like another */
    ds_batch_destroy(b);
    ds_engine_destroy(e);
    e = head(LSTM "\"num_labels\": 1}", "");
    b = labelled(DS_F32, 1, 1, as_float, sizeof(as_float));
    assert_ok(ds_eval(e, b, &loss));
    logits_of(e, x, 4);
    assert_true(fabs(loss / squared(x, as_float, 4) - 1) < 1e-6);
    ds_batch_destroy(b);
    b = labelled(DS_I32, 2, 1, whole, sizeof(whole));
    assert_ok(ds_eval(e, b, &loss));
    assert_true(fabs(loss / squared(x, as_float, 4) - 1) < 1e-6);
    ds_batch_destroy(b);
    ds_engine_destroy(e);
}

static void wrong_labels_are_told(void **state) {
    const float values[12] = {0, 1, 0, 1, 2, 0}, infinite[4] = {0, INFINITY, 0, 0};
    ds_engine *e = NULL, *open = bert(""), *one = bert("\"problem_type\": \"single_label_classification\""), *many = bert("\"problem_type\": \"multi_label_classification\"");
    ds_batch *b = labelled(DS_F32, 2, 3, values, sizeof(values)), *flat = labelled(DS_F32, 1, 1, values, 16), *bad = labelled(DS_F32, 1, 1, infinite, 16);
    (void)state;
    assert_fails(DS_E_INVALID_ARGUMENT, "labels: must hold integers, not f32", ds_forward(one, b, NULL));
    assert_fails(DS_E_INVALID_ARGUMENT, "labels: element [1, 1] is 2, outside 0..1", ds_forward(many, b, NULL));
    assert_fails(DS_E_INVALID_ARGUMENT, "labels: must be [4,3], one a row and label, but is [4] (floats", ds_forward(open, flat, NULL));
    assert_fails(DS_E_CONFIG, "problem_type must be single_label_classification, multi_label_classification or regression, not \"ranking\"",
                 ds_engine_create("{\"model\": \"" BERT "\", \"model_overrides\": {\"problem_type\": \"ranking\"}}", NULL, &e));
    assert_null(e);
    e = head(LSTM "\"num_labels\": 1}", "");
    assert_fails(DS_E_INVALID_ARGUMENT, "labels: element [1, 0] is inf, not a finite number", ds_forward(e, bad, NULL));
    ds_engine_destroy(e);
    ds_batch_destroy(b);
    ds_batch_destroy(flat);
    ds_batch_destroy(bad);
    ds_engine_destroy(open);
    ds_engine_destroy(one);
    ds_engine_destroy(many);
}

static void read_labels(const char *overrides, const char *columns, const char *lines, float *values, size_t n) {
    char dir[] = "/tmp/dsrt-rows-XXXXXX", path[64], options[256];
    ds_engine *e = bert(overrides);
    ds_data *d = NULL;
    ds_batch *b = NULL;
    ds_tensor *t = NULL;
    float loss;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/rows.jsonl", dir);
    write_file(path, lines);
    snprintf(options, sizeof(options), "{\"files\": \"%s\", \"shuffle\": false, \"columns\": {\"input_ids\": \"ids\", %s}}", path, columns);
    assert_ok(ds_data_open(options, e, &d));
    assert_ok(ds_batch_create(&b));
    assert_ok(ds_data_next(d, b));
    assert_ok(ds_batch_get(b, "labels", &t));
    assert_int_equal(count_of(t), n);
    assert_ok(ds_tensor_read(t, DS_F32, values, n * sizeof(float)));
    ds_tensor_destroy(t);
    assert_ok(ds_eval(e, b, &loss));
    ds_batch_destroy(b);
    ds_data_destroy(d);
    ds_engine_destroy(e);
    unlink(path);
    rmdir(dir);
}

static void data_files_hold_numbers_and_lists(void **state) {
    float x[6];
    ds_engine *e;
    ds_data *d = NULL;
    (void)state;
    read_labels("\"problem_type\": \"multi_label_classification\"", "\"labels\": \"l\"", "{\"ids\": [5, 6], \"l\": [0, 2]}\n{\"ids\": [7], \"l\": []}\n", x, 6);
    assert_true(x[0] == 1 && x[1] == 0 && x[2] == 1 && x[3] + x[4] + x[5] == 0);
    read_labels("\"problem_type\": \"regression\"", "\"labels\": \"l\"", "{\"ids\": [5, 6], \"l\": [0.5, -2, 7]}\n{\"ids\": [7], \"l\": [1, 2, 3]}\n", x, 6);
    assert_true(x[0] == 0.5f && x[1] == -2 && x[2] == 7 && x[5] == 3);
    e = bert("\"problem_type\": \"regression\"");
    assert_fails(DS_E_CONFIG, "columns: label: the model's problem_type is regression with 3 labels a row; give labels",
                 ds_data_open("{\"files\": \"/nowhere\", \"format\": \"jsonl\", \"columns\": {\"input_ids\": \"ids\", \"label\": \"l\"}}", e, &d));
    assert_null(d);
    ds_engine_destroy(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {TEST(float_labels_say_yes_or_no_to_each_class), TEST(an_undecided_class_learns_too), TEST(numbers_are_learned_by_their_squared_error),
                                       TEST(wrong_labels_are_told), TEST(data_files_hold_numbers_and_lists)};
    return RUN(tests);
}
