/* What the programs about training share: engines of the small test models, batches, and sums over all parameters.
   The model is tests/data/models/bert-sentiment (2 layers, 32 wide, 3 labels) unless a test says otherwise. Not every program uses all. */
#ifndef DSRT_TESTS_ABI_TRAINING_H
#define DSRT_TESTS_ABI_TRAINING_H

#include "abi_test.h"

#include <math.h>

#define BERT DSRT_TEST_DATA "/models/bert-sentiment"
#define GPT DSRT_TEST_DATA "/models/gpt2"
#define UNUSED __attribute__((unused))
#define SGD "\"optimizer\": {\"type\": \"SGD\", \"params\": {\"lr\": 0.1}}"

static UNUSED ds_engine *engine(const char *model, const char *rest) {
    char config[2048];
    ds_engine *e = NULL;
    snprintf(config, sizeof(config), "{\"model\": \"%s\", \"threads\": 2, %s}", model, rest);
    assert_ok(ds_engine_create(config, NULL, &e));
    return e;
}

static UNUSED void put(ds_batch *b, const char *name, int32_t ndim, int64_t rows, int64_t length, const int32_t *values) {
    const int64_t shape[2] = {rows, length};
    ds_tensor *t = NULL;
    assert_ok(ds_tensor_create(DS_I32, ndim, shape, values, (size_t)(rows * length) * 4, &t));
    assert_ok(ds_batch_set(b, name, t));
    ds_tensor_destroy(t);
}

/* Rows first..first+rows of an endless data set, padded to `length`: row r has 3 + r % 4 tokens; labels are one a row, or for a causal model
   the ids themselves, every third row without any label but one. */
static UNUSED ds_batch *rows_of(int first, int rows, int length, int causal) {
    ds_batch *b = NULL;
    int32_t ids[512] = {0}, mask[512] = {0}, labels[512];
    int r, t;
    assert_true(rows * length <= 512);
    for (r = 0; r < rows * length; ++r) labels[r] = -100;
    for (r = 0; r < rows; ++r)
        for (t = 0; t < 3 + (first + r) % 4; ++t) {
            ids[r * length + t] = 5 + (7 * (first + r) + 3 * t) % 80;
            mask[r * length + t] = 1;
            if (causal && ((first + r) % 3 != 2 || t == 1)) labels[r * length + t] = ids[r * length + t];
        }
    assert_ok(ds_batch_create(&b));
    put(b, "input_ids", 2, rows, length, ids);
    put(b, "attention_mask", 2, rows, length, mask);
    if (causal) put(b, "labels", 2, rows, length, labels);
    else {
        for (r = 0; r < rows; ++r) labels[r] = (first + r) % 3;
        put(b, "labels", 1, rows, 1, labels);
    }
    return b;
}

static UNUSED double metric(ds_engine *e, const char *name) {
    double x = -1;
    assert_ok(ds_metric(e, name, &x));
    return x;
}

static UNUSED size_t count_of(const ds_tensor *t) {
    int32_t ndim, i;
    const int64_t *shape;
    size_t n = 1;
    assert_ok(ds_tensor_info(t, NULL, &ndim, &shape));
    for (i = 0; i < ndim; ++i) n *= (size_t)shape[i];
    return n;
}

/* All parameters' weights or gradients, one after the other. */
static UNUSED float *everything(ds_engine *e, int32_t what, size_t *n) {
    size_t count = 0, i, at = 0;
    float *all = NULL;
    assert_ok(ds_param_count(e, &count));
    for (i = 0; i < count; ++i) {
        const char *name;
        ds_tensor *t = NULL;
        size_t m;
        assert_ok(ds_param_name(e, i, &name));
        assert_ok(ds_param_get(e, name, what, &t));
        m = count_of(t);
        all = realloc(all, (at + m) * sizeof(float));
        assert_ok(ds_tensor_read(t, DS_F32, all + at, m * sizeof(float)));
        ds_tensor_destroy(t);
        at += m;
    }
    *n = at;
    return all;
}

static UNUSED double difference(const float *a, const float *b, size_t n) {
    double d = 0, s = 1e-30;
    size_t i;
    for (i = 0; i < n; ++i) d += ((double)a[i] - b[i]) * ((double)a[i] - b[i]), s += (double)b[i] * b[i];
    return sqrt(d / s);
}

static UNUSED double norm_of(const float *a, size_t n) {
    double s = 0;
    size_t i;
    for (i = 0; i < n; ++i) s += (double)a[i] * a[i];
    return sqrt(s);
}

static UNUSED double relative_of(ds_engine *a, ds_engine *b, int32_t what) {
    size_t n, m;
    float *x = everything(a, what, &n), *y = everything(b, what, &m);
    double d;
    assert_int_equal(n, m);
    d = difference(x, y, n);
    free(x);
    free(y);
    return d;
}

static UNUSED float train(ds_engine *e, ds_batch *b) {
    float loss = -1;
    assert_ok(ds_forward(e, b, &loss));
    assert_ok(ds_backward(e));
    return loss;
}

#endif
