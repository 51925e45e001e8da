/* What training means: order of calls, accumulation, clipping, groups, gradients and losses in the host's hands, own optimizers and graphs, precision,
   dropout, padding, files. The model is tests/data/models/bert-sentiment (2 layers, 32 wide, 3 labels) unless a test says otherwise. */
#include "abi_test.h"

#include <math.h>
#include <unistd.h>

#define BERT DSRT_TEST_DATA "/models/bert-sentiment"
#define GPT DSRT_TEST_DATA "/models/gpt2"
#define SGD "\"optimizer\": {\"type\": \"SGD\", \"params\": {\"lr\": 0.1}}"

static ds_engine *engine(const char *model, const char *rest) {
    char config[2048];
    ds_engine *e = NULL;
    snprintf(config, sizeof(config), "{\"model\": \"%s\", \"threads\": 2, %s}", model, rest);
    assert_ok(ds_engine_create(config, NULL, &e));
    return e;
}

static void put(ds_batch *b, const char *name, int32_t ndim, int64_t rows, int64_t length, const int32_t *values) {
    const int64_t shape[2] = {rows, length};
    ds_tensor *t = NULL;
    assert_ok(ds_tensor_create(DS_I32, ndim, shape, values, (size_t)(rows * length) * 4, &t));
    assert_ok(ds_batch_set(b, name, t));
    ds_tensor_destroy(t);
}

/* Rows first..first+rows of an endless data set, padded to `length`: row r has 3 + r % 4 tokens; labels are one a row, or for a causal model
   the ids themselves, every third row without any label but one. */
static ds_batch *rows_of(int first, int rows, int length, int causal) {
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

static double metric(ds_engine *e, const char *name) {
    double x = -1;
    assert_ok(ds_metric(e, name, &x));
    return x;
}

static size_t count_of(const ds_tensor *t) {
    int32_t ndim, i;
    const int64_t *shape;
    size_t n = 1;
    assert_ok(ds_tensor_info(t, NULL, &ndim, &shape));
    for (i = 0; i < ndim; ++i) n *= (size_t)shape[i];
    return n;
}

/* All parameters' weights or gradients, one after the other. */
static float *everything(ds_engine *e, int32_t what, size_t *n) {
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

static double difference(const float *a, const float *b, size_t n) {
    double d = 0, s = 1e-30;
    size_t i;
    for (i = 0; i < n; ++i) d += ((double)a[i] - b[i]) * ((double)a[i] - b[i]), s += (double)b[i] * b[i];
    return sqrt(d / s);
}

static double norm_of(const float *a, size_t n) {
    double s = 0;
    size_t i;
    for (i = 0; i < n; ++i) s += (double)a[i] * a[i];
    return sqrt(s);
}

static double relative_of(ds_engine *a, ds_engine *b, int32_t what) {
    size_t n, m;
    float *x = everything(a, what, &n), *y = everything(b, what, &m);
    double d;
    assert_int_equal(n, m);
    d = difference(x, y, n);
    free(x);
    free(y);
    return d;
}

static float train(ds_engine *e, ds_batch *b) {
    float loss = -1;
    assert_ok(ds_forward(e, b, &loss));
    assert_ok(ds_backward(e));
    return loss;
}

static void the_order_of_calls_is_checked(void **state) {
    ds_engine *e = engine(BERT, "\"train_micro_batch_size_per_gpu\": 2, \"gradient_accumulation_steps\": 2, " SGD);
    ds_batch *b = rows_of(0, 2, 8, 0);
    float loss;
    (void)state;
    assert_fails(DS_E_STATE, "ds_forward first", ds_backward(e));
    assert_fails(DS_E_STATE, "no backward", ds_step(e));
    train(e, b);
    assert_fails(DS_E_STATE, "had its backward already", ds_backward(e));
    assert_int_equal(ds_step(e), DS_PENDING);
    train(e, b);
    assert_ok(ds_forward(e, b, &loss));
    assert_fails(DS_E_STATE, "gradient_accumulation_steps", ds_backward(e));
    assert_ok(ds_step(e));
    assert_fails(DS_E_STATE, "no backward", ds_step(e));
    assert_fails(DS_E_STATE, "ds_forward first", ds_backward(e)); /* the update dropped the forward */
    assert_true(metric(e, "global_steps") == 1 && metric(e, "micro_steps") == 2 && metric(e, "global_samples") == 4);
    /* zero_grad drops gradients and their count, and keeps the counters; a forward without backward is dropped by the next */
    train(e, b);
    assert_ok(ds_zero_grad(e));
    assert_true(metric(e, "micro_steps") == 3 && metric(e, "global_steps") == 1);
    assert_fails(DS_E_STATE, "no backward", ds_step(e));
    assert_ok(ds_forward(e, b, NULL));
    train(e, b);
    train(e, b);
    assert_ok(ds_step(e));
    assert_true(metric(e, "global_steps") == 2);
    ds_batch_destroy(b);
    ds_engine_destroy(e);
}

static void accumulation_equals_one_large_batch(void **state) {
    const char *const normalizations[] = {"batch", "micro_batch"};
    int causal, n, i;
    (void)state;
    for (causal = 0; causal < 2; ++causal)
        for (n = 0; n < 2; ++n) {
            char rest[512];
            ds_engine *one, *four;
            ds_batch *all = rows_of(0, 8, 8, causal);
            double found;
            snprintf(rest, sizeof(rest), "\"train_batch_size\": 8, \"train_micro_batch_size_per_gpu\": 8, \"gradient_clipping\": 0, " SGD);
            one = engine(causal ? GPT : BERT, rest);
            snprintf(rest, sizeof(rest), "\"train_batch_size\": 8, \"train_micro_batch_size_per_gpu\": 2, \"gradient_clipping\": 0, "
                     "\"loss_normalization\": \"%s\", " SGD, normalizations[n]);
            four = engine(causal ? GPT : BERT, rest);
            train(one, all);
            for (i = 0; i < 4; ++i) {
                ds_batch *part = rows_of(2 * i, 2, 8, causal);
                train(four, part);
                ds_batch_destroy(part);
            }
            found = relative_of(four, one, DS_GRAD);
            /* Without ragged labels both weigh alike. With them, only "batch" is the large batch's mean. */
            if (!causal || n == 0) assert_true(found < 2e-5);
            else assert_true(found > 1e-2);
            if (n == 0) {
                assert_ok(ds_step(one));
                assert_ok(ds_step(four));
                assert_true(relative_of(four, one, DS_WEIGHT) < 1e-6);
            }
            ds_batch_destroy(all);
            ds_engine_destroy(one);
            ds_engine_destroy(four);
        }
}

static void gradients_are_clipped_by_norm_or_by_value(void **state) {
    const char *const clips[] = {"0", "0.05", "{\"norm\": 0.05}", "{\"value\": 0.001}"};
    int c;
    (void)state;
    for (c = 0; c < 4; ++c) {
        char rest[256];
        ds_engine *e;
        ds_batch *b = rows_of(0, 2, 8, 0);
        size_t n, i;
        float *before, *grad, *after;
        double norm, factor;
        snprintf(rest, sizeof(rest), "\"train_batch_size\": 2, \"gradient_clipping\": %s, " SGD, clips[c]);
        e = engine(BERT, rest);
        before = everything(e, DS_WEIGHT, &n);
        train(e, b);
        grad = everything(e, DS_GRAD, &n);
        norm = norm_of(grad, n);
        assert_true(norm > 0.05);
        assert_ok(ds_step(e));
        after = everything(e, DS_WEIGHT, &n);
        assert_true(fabs(metric(e, "grad_norm") / norm - 1) < 1e-4);
        factor = c == 1 || c == 2 ? 0.05 / (norm + 1e-6) : 1;
        for (i = 0; i < n; ++i) {
            double g = grad[i] * factor;
            if (c == 3) g = g > 0.001 ? 0.001 : g < -0.001 ? -0.001 : g;
            before[i] = (float)(before[i] - 0.1 * g);
        }
        assert_true(difference(after, before, n) < 1e-7);
        free(before);
        free(grad);
        free(after);
        ds_batch_destroy(b);
        ds_engine_destroy(e);
    }
}

static void groups_have_settings_of_their_own(void **state) {
    const char *const rest =
        "\"train_batch_size\": 2, \"gradient_clipping\": 0, \"optimizer\": {\"type\": \"SGD\", \"params\": {\"lr\": 0.1, \"weight_decay\": 0.5}}, "
        "\"param_groups\": [{\"match\": [\"bert.embeddings.*\"], \"frozen\": true}, {\"match\": [\"*.bias\"], \"weight_decay\": 0, \"lr\": 0.01}]";
    ds_engine *e = engine(BERT, rest);
    ds_batch *b = rows_of(0, 2, 8, 0);
    size_t count, k;
    int32_t ndim, trainable;
    const int64_t *shape;
    (void)state;
    assert_ok(ds_param_count(e, &count));
    train(e, b);
    for (k = 0; k < 2; ++k) {
        static float w[4096], g[4096], now[4096];
        const char *name = k == 0 ? "classifier.bias" : "classifier.weight";
        const double lr = k == 0 ? 0.01 : 0.1, decay = k == 0 ? 0 : 0.5;
        ds_tensor *t = NULL;
        size_t n, i;
        ds_engine *fresh = engine(BERT, rest);
        train(fresh, b);
        assert_ok(ds_param_get(fresh, name, DS_WEIGHT, &t));
        n = count_of(t);
        assert_ok(ds_tensor_read(t, DS_F32, w, n * 4));
        ds_tensor_destroy(t);
        assert_ok(ds_param_get(fresh, name, DS_GRAD, &t));
        assert_ok(ds_tensor_read(t, DS_F32, g, n * 4));
        ds_tensor_destroy(t);
        assert_ok(ds_step(fresh));
        assert_ok(ds_param_get(fresh, name, DS_WEIGHT, &t));
        assert_ok(ds_tensor_read(t, DS_F32, now, n * 4));
        ds_tensor_destroy(t);
        for (i = 0; i < n; ++i) w[i] = (float)(w[i] - lr * (g[i] + decay * w[i]));
        assert_true(difference(now, w, n) < 1e-6);
        ds_engine_destroy(fresh);
    }
    assert_ok(ds_param_info(e, "bert.embeddings.word_embeddings.weight", &ndim, &shape, &trainable));
    assert_true(ndim == 2 && shape[0] == 97 && shape[1] == 32 && trainable == 0);
    ds_batch_destroy(b);
    ds_engine_destroy(e);
    e = NULL;
    assert_fails(DS_E_CONFIG, "nothing.like.it*",
                 ds_engine_create("{\"model\": \"" BERT "\", \"train_batch_size\": 2, " SGD ", \"param_groups\": [{\"match\": [\"nothing.like.it*\"], \"lr\": 1}]}", NULL, &e));
    assert_null(e);
}

static void a_host_reads_and_replaces_gradients_at_the_boundary(void **state) {
    ds_engine *e = engine(BERT, "\"train_micro_batch_size_per_gpu\": 2, \"gradient_accumulation_steps\": 2, \"gradient_clipping\": 0, " SGD);
    ds_batch *b = rows_of(0, 2, 8, 0);
    float w[3], now[3];
    const float twos[3] = {2, 2, 2};
    const int64_t shape[1] = {3};
    ds_tensor *g = f32_tensor(1, shape, twos), *t = NULL;
    size_t n;
    float *zero;
    (void)state;
    train(e, b);
    assert_fails(DS_E_STATE, "boundary", ds_param_set(e, "classifier.bias", DS_GRAD, g));
    train(e, b);
    assert_ok(ds_param_get(e, "classifier.bias", DS_WEIGHT, &t));
    assert_ok(ds_tensor_read(t, DS_F32, w, sizeof(w)));
    ds_tensor_destroy(t);
    assert_ok(ds_param_set(e, "classifier.bias", DS_GRAD, g));
    assert_ok(ds_param_get(e, "classifier.bias", DS_GRAD, &t));
    assert_ok(ds_tensor_read(t, DS_F32, now, sizeof(now)));
    ds_tensor_destroy(t);
    assert_true(now[0] == 2 && now[1] == 2 && now[2] == 2);
    assert_ok(ds_step(e));
    assert_ok(ds_param_get(e, "classifier.bias", DS_WEIGHT, &t));
    assert_ok(ds_tensor_read(t, DS_F32, now, sizeof(now)));
    ds_tensor_destroy(t);
    assert_true(fabs(now[0] - (w[0] - 0.2)) < 1e-6 && metric(e, "grad_norm") >= sqrt(12) - 1e-6);
    zero = everything(e, DS_GRAD, &n);
    assert_true(norm_of(zero, n) == 0);
    free(zero);
    assert_fails(DS_E_STATE, "boundary", ds_param_set(e, "classifier.bias", DS_GRAD, g));
    assert_fails(DS_E_NOT_FOUND, "classifier.bia", ds_param_set(e, "classifier.bia", DS_WEIGHT, g));
    assert_fails(DS_E_INVALID_ARGUMENT, "[3,32]", ds_param_set(e, "classifier.weight", DS_WEIGHT, g));
    assert_fails(DS_E_UNSUPPORTED, "second moment", ds_param_get(e, "classifier.bias", DS_SECOND_MOMENT, &t));
    assert_fails(DS_E_INVALID_ARGUMENT, "what must be", ds_param_get(e, "classifier.bias", 9, &t));
    ds_tensor_destroy(g);
    ds_batch_destroy(b);
    ds_engine_destroy(e);
}

/* The gradient of the mean cross-entropy by the logits, computed by the host. */
static ds_batch *gradient_of_logits(ds_engine *e, int rows) {
    float x[24], g[24];
    const int64_t shape[2] = {rows, 3};
    ds_tensor *t = NULL;
    ds_batch *b = NULL;
    int r, c;
    assert_ok(ds_output(e, "logits", &t));
    assert_ok(ds_tensor_read(t, DS_F32, x, (size_t)rows * 12));
    ds_tensor_destroy(t);
    for (r = 0; r < rows; ++r) {
        double sum = 0;
        for (c = 0; c < 3; ++c) sum += exp(x[3 * r + c]);
        for (c = 0; c < 3; ++c) g[3 * r + c] = (float)((exp(x[3 * r + c]) / sum - (c == r % 3)) / rows);
    }
    t = f32_tensor(2, shape, g);
    assert_ok(ds_batch_create(&b));
    assert_ok(ds_batch_set(b, "logits", t));
    ds_tensor_destroy(t);
    return b;
}

static void a_loss_of_the_hosts_own_gives_the_same_gradients(void **state) {
    const char *const precisions[] = {"", "\"fp16\": {\"enabled\": true, \"initial_scale_power\": 8}, "};
    int p;
    (void)state;
    for (p = 0; p < 2; ++p) {
        char rest[256];
        ds_engine *built_in, *own;
        ds_batch *b = rows_of(0, 4, 8, 0), *g, *wrong = NULL;
        const int64_t shape[1] = {4};
        ds_tensor *t;
        snprintf(rest, sizeof(rest), "%s\"train_batch_size\": 4, " SGD, precisions[p]);
        built_in = engine(BERT, rest);
        own = engine(BERT, rest);
        train(built_in, b);
        assert_ok(ds_forward(own, b, NULL));
        g = gradient_of_logits(own, 4);
        assert_ok(ds_batch_create(&wrong));
        assert_fails(DS_E_INVALID_ARGUMENT, "empty", ds_backward_from(own, wrong));
        t = f32_tensor(1, shape, NULL == g ? NULL : (const float[4]){0, 0, 0, 0});
        assert_ok(ds_batch_set(wrong, "logits", t));
        assert_fails(DS_E_INVALID_ARGUMENT, "[4,3]", ds_backward_from(own, wrong));
        assert_ok(ds_batch_set(wrong, "logit", t));
        assert_fails(DS_E_INVALID_ARGUMENT, "logit", ds_backward_from(own, wrong));
        ds_tensor_destroy(t);
        ds_batch_destroy(wrong);
        assert_ok(ds_backward_from(own, g));
        assert_true(relative_of(own, built_in, DS_GRAD) < (p ? 2e-2 : 1e-5));
        ds_batch_destroy(g);
        ds_batch_destroy(b);
        ds_engine_destroy(own);
        ds_engine_destroy(built_in);
    }
}

static int releases, updates;
static void released(void *user) { releases += user == (void *)&releases; }
static int32_t momentum_sgd(void *user, const char *parameter, int64_t step, double lr, float *weight, const float *gradient, float *state, size_t n) {
    size_t i;
    (void)user;
    if (!parameter || step < 1) return -1;
    for (i = 0; i < n; ++i) {
        state[i] = (step == 1 ? 0 : 0.9f * state[i]) + gradient[i];
        weight[i] -= (float)lr * state[i];
    }
    ++updates;
    return 0;
}
static int32_t refuses(void *user, const char *parameter, int64_t step, double lr, float *weight, const float *gradient, float *state, size_t n) {
    (void)user, (void)parameter, (void)step, (void)lr, (void)weight, (void)gradient, (void)state, (void)n;
    return -3;
}

static ds_engine *own_engine(int32_t (*update)(void *, const char *, int64_t, double, float *, const float *, float *, size_t)) {
    ds_optimizer_callbacks callbacks;
    ds_options *o = NULL;
    ds_engine *e = NULL;
    memset(&callbacks, 0, sizeof(callbacks));
    callbacks.struct_size = sizeof(callbacks);
    callbacks.user = &releases;
    callbacks.floats_per_element = 1;
    callbacks.update = update;
    callbacks.release = released;
    assert_ok(ds_options_create(&o));
    assert_ok(ds_options_set_optimizer(o, &callbacks));
    assert_ok(ds_engine_create("{\"model\": \"" BERT "\", \"train_batch_size\": 2, \"gradient_clipping\": 0, \"optimizer\": {\"type\": \"SGD\", \"params\": {\"lr\": 0.05, \"momentum\": 0.9}}}", o, &e));
    ds_options_destroy(o);
    return e;
}

static void a_hosts_own_optimizer_updates_and_its_state_is_kept(void **state) {
    char dir[] = "/tmp/dsrt-engine-XXXXXX";
    ds_engine *own, *again, *built_in = engine(BERT, "\"train_batch_size\": 2, \"gradient_clipping\": 0, \"optimizer\": {\"type\": \"SGD\", \"params\": {\"lr\": 0.05, \"momentum\": 0.9}}");
    ds_batch *b = rows_of(0, 2, 8, 0);
    int i;
    (void)state;
    assert_non_null(mkdtemp(dir));
    releases = updates = 0;
    own = own_engine(momentum_sgd);
    for (i = 0; i < 3; ++i) {
        train(built_in, b);
        assert_ok(ds_step(built_in));
        train(own, b);
        assert_ok(ds_step(own));
        assert_true(relative_of(own, built_in, DS_WEIGHT) < 1e-6);
        if (i == 1) assert_ok(ds_save(own, dir, "t", NULL));
    }
    assert_true(updates > 0 && releases == 0);
    again = own_engine(momentum_sgd);
    assert_ok(ds_load(again, dir, "t", NULL));
    train(again, b);
    assert_ok(ds_step(again));
    assert_true(relative_of(again, own, DS_WEIGHT) == 0);
    ds_engine_destroy(own);
    assert_int_equal(releases, 1);
    ds_engine_destroy(again);
    assert_int_equal(releases, 2);
    again = own_engine(refuses);
    train(again, b);
    assert_fails(DS_E_USER, "-3", ds_step(again));
    ds_engine_destroy(again);
    ds_engine_destroy(built_in);
    ds_batch_destroy(b);
}

static void fp16_overflow_skips_and_halves_the_scale(void **state) {
    ds_engine *e = engine(BERT, "\"train_batch_size\": 2, \"fp16\": {\"enabled\": true, \"initial_scale_power\": 4, \"hysteresis\": 1}, " SGD);
    ds_batch *b = rows_of(0, 2, 8, 0);
    size_t n, i;
    float huge[96], *before, *after;
    const int64_t shape[2] = {3, 32};
    ds_tensor *t;
    (void)state;
    assert_true(metric(e, "loss_scale") == 16);
    train(e, b);
    assert_ok(ds_step(e));
    for (i = 0; i < 96; ++i) huge[i] = i % 2 ? 6e4f : -6e4f;
    t = f32_tensor(2, shape, huge);
    assert_ok(ds_param_set(e, "classifier.weight", DS_WEIGHT, t));
    ds_tensor_destroy(t);
    before = everything(e, DS_WEIGHT, &n);
    train(e, b);
    assert_int_equal(ds_step(e), DS_SKIPPED);
    after = everything(e, DS_WEIGHT, &n);
    assert_memory_equal(before, after, n * sizeof(float));
    assert_true(metric(e, "loss_scale") == 8 && metric(e, "skipped_steps") == 1 && metric(e, "global_steps") == 2);
    for (i = 0; i < 6; ++i) {
        train(e, b);
        assert_int_equal(ds_step(e), DS_SKIPPED);
    }
    assert_true(metric(e, "loss_scale") == 1); /* the least there is: it goes on skipping and never raises */
    free(before);
    free(after);
    ds_batch_destroy(b);
    ds_engine_destroy(e);
}

static void evaluation_leaves_a_pending_forward_alone(void **state) {
    ds_engine *a = engine(BERT, "\"train_batch_size\": 2, " SGD), *c = engine(BERT, "\"train_batch_size\": 2, " SGD);
    ds_batch *b = rows_of(0, 2, 8, 0), *other = rows_of(4, 3, 16, 0);
    float loss, other_loss;
    (void)state;
    train(a, b);
    assert_ok(ds_forward(c, b, &loss));
    assert_ok(ds_eval(c, other, &other_loss));
    assert_true(other_loss != loss);
    assert_ok(ds_backward(c));
    assert_true(relative_of(a, c, DS_GRAD) == 0);
    assert_ok(ds_eval(c, b, &other_loss));
    assert_true(fabs(other_loss - loss) < 1e-6);
    assert_true(relative_of(a, c, DS_GRAD) == 0);
    assert_ok(ds_step(c));
    ds_batch_destroy(b);
    ds_batch_destroy(other);
    ds_engine_destroy(a);
    ds_engine_destroy(c);
}

static void masked_positions_read_zero_unless_outputs_names_them(void **state) {
    int whole;
    (void)state;
    for (whole = 0; whole < 2; ++whole) {
        ds_engine *e = engine(GPT, whole ? "\"outputs\": [\"logits\"], \"train_batch_size\": 2, " SGD : "\"train_batch_size\": 2, " SGD);
        ds_batch *b = rows_of(0, 2, 8, 1); /* rows of 3 and 4 tokens */
        ds_tensor *t = NULL;
        size_t n, i, width;
        float *x;
        double masked = 0, real = 0;
        assert_ok(ds_eval(e, b, NULL));
        assert_ok(ds_output(e, "logits", &t));
        n = count_of(t);
        width = n / 16;
        x = malloc(n * 4);
        assert_ok(ds_tensor_read(t, DS_F32, x, n * 4));
        for (i = 0; i < n; ++i) *(i / width % 8 < 3 + i / width / 8 ? &real : &masked) += fabs(x[i]);
        assert_true(real > 0 && (masked > 0) == (whole == 1));
        free(x);
        ds_tensor_destroy(t);
        assert_fails(DS_E_NOT_FOUND, "logits", ds_output(e, "logit", &t));
        ds_batch_destroy(b);
        ds_engine_destroy(e);
    }
}

static void padding_changes_nothing(void **state) {
    int causal;
    (void)state;
    for (causal = 0; causal < 2; ++causal) {
        ds_engine *a = engine(causal ? GPT : BERT, "\"train_batch_size\": 4, " SGD), *c = engine(causal ? GPT : BERT, "\"train_batch_size\": 4, " SGD);
        ds_batch *tight = rows_of(0, 4, 8, causal), *padded = rows_of(0, 4, 24, causal);
        assert_true(train(a, tight) == train(c, padded));
        assert_true(relative_of(a, c, DS_GRAD) < 1e-6);
        ds_batch_destroy(tight);
        ds_batch_destroy(padded);
        ds_engine_destroy(a);
        ds_engine_destroy(c);
    }
}

static float dropout_loss(const char *seed, int length, int forwards) {
    char rest[256];
    ds_engine *e;
    ds_batch *b = rows_of(0, 4, length, 0);
    float loss = 0;
    snprintf(rest, sizeof(rest), "\"train_batch_size\": 4, \"seed\": %s, \"model_overrides\": {\"hidden_dropout_prob\": 0.3, \"attention_probs_dropout_prob\": 0.2}, " SGD, seed);
    e = engine(BERT, rest);
    while (forwards--) assert_ok(ds_forward(e, b, &loss));
    ds_batch_destroy(b);
    ds_engine_destroy(e);
    return loss;
}

static void dropout_follows_seed_and_step_and_not_the_padding(void **state) {
    const float loss = dropout_loss("1", 8, 1);
    (void)state;
    assert_true(loss == dropout_loss("1", 8, 1));
    assert_true(loss != dropout_loss("2", 8, 1));
    assert_true(loss != dropout_loss("1", 8, 2));
}

static void checkpoints_and_exported_folders_reload_the_same(void **state) {
    char dir[] = "/tmp/dsrt-engine-XXXXXX", folder[64], config[512];
    const char *const rest = "\"train_batch_size\": 2, \"optimizer\": {\"type\": \"AdamW\", \"params\": {\"lr\": 0.01}}, "
                             "\"scheduler\": {\"type\": \"WarmupLR\", \"params\": {\"warmup_num_steps\": 10}}";
    ds_engine *a = engine(BERT, rest), *c = engine(BERT, rest), *d = NULL;
    ds_batch *b = rows_of(0, 2, 8, 0);
    float loss, loss_too;
    int i;
    (void)state;
    assert_non_null(mkdtemp(dir));
    for (i = 0; i < 2; ++i) {
        train(a, b);
        assert_ok(ds_step(a));
    }
    assert_fails(DS_E_NOT_FOUND, "latest", ds_load(c, dir, NULL, NULL));
    assert_ok(ds_save(a, dir, NULL, "{\"client_state\": {\"epoch\": 3}}"));
    assert_ok(ds_load(c, dir, NULL, NULL));
    assert_true(metric(c, "global_steps") == 2 && metric(c, "lr") == metric(a, "lr"));
    for (i = 0; i < 2; ++i) {
        assert_true(train(a, b) == train(c, b));
        assert_ok(ds_step(a));
        assert_ok(ds_step(c));
    }
    assert_true(relative_of(a, c, DS_WEIGHT) == 0 && relative_of(a, c, DS_SECOND_MOMENT) == 0);
    train(a, b);
    assert_fails(DS_E_STATE, "micro-batches", ds_save(a, dir, "x", NULL));
    assert_fails(DS_E_INVALID_ARGUMENT, "client_stat", ds_save(c, dir, "x", "{\"client_stat\": 1}"));
    assert_fails(DS_E_NOT_FOUND, "nowhere", ds_load(c, dir, "nowhere", NULL));
    snprintf(folder, sizeof(folder), "%s/hf", dir);
    assert_ok(ds_export(c, folder, NULL));
    snprintf(config, sizeof(config), "{\"model\": \"%s\", \"train_batch_size\": 2}", folder);
    assert_ok(ds_engine_create(config, NULL, &d));
    assert_ok(ds_eval(c, b, &loss));
    assert_ok(ds_eval(d, b, &loss_too));
    assert_true(loss == loss_too);
    ds_batch_destroy(b);
    ds_engine_destroy(a);
    ds_engine_destroy(c);
    ds_engine_destroy(d);
}

static void bad_batches_are_refused_by_name(void **state) {
    static int32_t ids[16] = {5, 6, 7, 8};
    ds_engine *e = engine(BERT, "\"train_batch_size\": 2, " SGD);
    ds_batch *b = NULL;
    ds_tensor *t = NULL;
    const int64_t shape[2] = {2, 4};
    const float floats[8] = {0};
    float loss;
    (void)state;
    assert_ok(ds_batch_create(&b));
    assert_fails(DS_E_INVALID_ARGUMENT, "input_ids is missing", ds_forward(e, b, NULL));
    put(b, "input_ids", 2, 2, 4, ids);
    assert_fails(DS_E_INVALID_ARGUMENT, "no labels", ds_forward(e, b, &loss));
    assert_ok(ds_forward(e, b, NULL));
    assert_fails(DS_E_STATE, "no labels", ds_backward(e));
    ids[5] = 97;
    put(b, "input_ids", 2, 2, 4, ids);
    assert_fails(DS_E_INVALID_ARGUMENT, "input_ids: element [1, 1] is 97, outside 0..96", ds_forward(e, b, NULL));
    ids[5] = -1;
    put(b, "input_ids", 2, 2, 4, ids);
    assert_fails(DS_E_INVALID_ARGUMENT, "[1, 1] is -1", ds_forward(e, b, NULL));
    ids[5] = 1;
    put(b, "input_ids", 2, 2, 4, ids);
    put(b, "attention_mask", 2, 4, 2, ids);
    assert_fails(DS_E_INVALID_ARGUMENT, "attention_mask: must be [2,4] as input_ids demands, but is [4,2]", ds_forward(e, b, NULL));
    put(b, "attention_mask", 2, 2, 4, ids);
    put(b, "labels", 2, 2, 4, ids);
    assert_fails(DS_E_INVALID_ARGUMENT, "labels", ds_forward(e, b, NULL));
    ids[0] = 3;
    put(b, "labels", 1, 2, 1, ids);
    assert_fails(DS_E_INVALID_ARGUMENT, "outside 0..2", ds_forward(e, b, NULL));
    ids[0] = ids[1] = 2;
    put(b, "labels", 1, 2, 1, ids);
    put(b, "token_type_ids", 2, 2, 4, ids);
    assert_fails(DS_E_INVALID_ARGUMENT, "token_type_ids", ds_forward(e, b, NULL));
    ids[0] = ids[1] = ids[2] = ids[3] = 0;
    put(b, "token_type_ids", 2, 2, 4, (const int32_t[8]){0, 1, 0, 1, 1, 1, 0, 0});
    assert_ok(ds_forward(e, b, &loss));
    put(b, "input_idz", 2, 2, 4, ids);
    assert_fails(DS_E_INVALID_ARGUMENT, "input_idz", ds_forward(e, b, NULL));
    ds_batch_destroy(b);
    assert_ok(ds_batch_create(&b));
    assert_ok(ds_tensor_create(DS_F32, 2, shape, floats, sizeof(floats), &t));
    assert_ok(ds_batch_set(b, "input_ids", t));
    assert_fails(DS_E_INVALID_ARGUMENT, "input_ids: must hold integers, not f32", ds_forward(e, b, NULL));
    ds_tensor_destroy(t);
    ds_batch_destroy(b);
    b = rows_of(0, 2, 48, 0);
    assert_fails(DS_E_INVALID_ARGUMENT, "40 positions", ds_forward(e, b, NULL));
    ds_batch_destroy(b);
    assert_fails(DS_E_INVALID_ARGUMENT, "NULL", ds_forward(e, NULL, NULL));
    ds_engine_destroy(e);
}

static void settings_are_read_and_changed_at_run_time(void **state) {
    ds_engine *e = engine(BERT, "\"train_batch_size\": 2, " SGD);
    char *json = NULL;
    (void)state;
    assert_ok(ds_engine_set(e, "optimizer.params.lr", "0.25"));
    assert_true(fabs(metric(e, "lr") - 0.25) < 1e-12);
    assert_ok(ds_engine_get(e, "optimizer.params.lr", &json));
    assert_string_equal(json, "0.25");
    ds_free(json);
    assert_ok(ds_engine_get(e, "", &json));
    assert_non_null(strstr(json, "gradient_clipping"));
    ds_free(json);
    assert_ok(ds_engine_set(e, "gradient_clipping", "{\"value\": 2}"));
    assert_ok(ds_engine_set(e, "scheduler", "{\"type\": \"StepLR\", \"params\": {\"step_size\": 1, \"gamma\": 0.5}}"));
    assert_fails(DS_E_UNSUPPORTED, "train_batch_size", ds_engine_set(e, "train_batch_size", "4"));
    assert_fails(DS_E_CONFIG, "gradient_clipping", ds_engine_set(e, "gradient_cliping", "1"));
    assert_true(ds_engine_set(e, "gradient_clipping", "\"much\"") < 0);
    assert_true(ds_engine_set(e, "gradient_clipping", "{") < 0);
    assert_true(ds_engine_get(e, "no_such_key", &json) < 0);
    assert_null(json);
    {
        double x;
        assert_fails(DS_E_NOT_FOUND, "grad_norm", ds_metric(e, "grad_nrm", &x));
    }
    ds_engine_destroy(e);
}

static ds_engine *graph_engine(ds_graph *g, const char *config) {
    ds_options *o = NULL;
    ds_engine *e = NULL;
    assert_ok(ds_options_create(&o));
    assert_ok(ds_options_set_graph(o, g));
    assert_ok(ds_engine_create(config, o, &e));
    ds_options_destroy(o);
    return e;
}

static int32_t op(ds_graph *g, const char *name, int32_t a, int32_t b, int32_t c, const char *attrs, size_t outputs) {
    int32_t in[3], out[4] = {-1, -1, -1, -1};
    in[0] = a, in[1] = b, in[2] = c;
    assert_ok(ds_graph_op(g, name, in, c >= 0 ? 3 : b >= 0 ? 2 : 1, attrs, out, outputs));
    return out[0];
}

static void a_perceptron_built_by_the_host_learns(void **state) {
    const int64_t x_shape[2] = {-1, 4}, y_shape[1] = {-1}, up[2] = {16, 4}, down[2] = {2, 16}, bias[1] = {16}, shape[2] = {8, 4};
    ds_graph *g = NULL;
    ds_engine *e;
    ds_batch *b = NULL;
    ds_tensor *t;
    int32_t x, labels, w, v, c, y, i, r, ids[8];
    float values[32], first = 0, loss = 0;
    (void)state;
    assert_ok(ds_graph_create(&g));
    assert_ok(ds_graph_input(g, "x", DS_F32, 2, x_shape, &x));
    assert_ok(ds_graph_input(g, "labels", DS_I64, 1, y_shape, &labels));
    assert_ok(ds_graph_param(g, "up", DS_F32, 2, up, "{\"type\": \"normal\", \"std\": 0.5}", &w));
    assert_ok(ds_graph_param(g, "bias", DS_F32, 1, bias, NULL, &c));
    assert_ok(ds_graph_param(g, "down", DS_F32, 2, down, "{\"type\": \"uniform\", \"bound\": 0.5}", &v));
    y = op(g, "matmul", op(g, "gelu", op(g, "matmul", x, w, c, "{\"transpose_b\": true}", 1), -1, -1, NULL, 1), v, -1, "{\"transpose_b\": true}", 1);
    assert_ok(ds_graph_output(g, "logits", y));
    assert_ok(ds_graph_loss(g, op(g, "cross_entropy", y, labels, -1, NULL, 2)));
    e = graph_engine(g, "{\"train_batch_size\": 8, \"optimizer\": {\"type\": \"AdamW\", \"params\": {\"lr\": 0.02}}}");
    ds_graph_destroy(g);
    for (r = 0; r < 8; ++r) {
        for (i = 0; i < 4; ++i) values[4 * r + i] = (float)((r * 5 + i * 3) % 7) - 3;
        ids[r] = r % 2;
    }
    assert_ok(ds_batch_create(&b));
    t = f32_tensor(2, shape, values);
    assert_ok(ds_batch_set(b, "x", t));
    ds_tensor_destroy(t);
    put(b, "labels", 1, 8, 1, ids);
    for (i = 0; i < 60; ++i) {
        loss = train(e, b);
        if (i == 0) first = loss;
        assert_ok(ds_step(e));
    }
    assert_true(loss < 0.3f * first);
    ids[3] = 2;
    put(b, "labels", 1, 8, 1, ids);
    assert_fails(DS_E_INVALID_ARGUMENT, "labels: element 3 is 2, outside 0..1", ds_forward(e, b, NULL));
    put(b, "wrong", 1, 8, 1, ids);
    assert_fails(DS_E_INVALID_ARGUMENT, "wrong is not an input of the graph; its inputs are x, labels", ds_forward(e, b, NULL));
    assert_fails(DS_E_UNSUPPORTED, "ds_save", ds_export(e, "/tmp/none", NULL));
    ds_batch_destroy(b);
    ds_engine_destroy(e);
}

/* The article's MyModel: dropout and a linear layer around BERT's pooled output. With the head's own weights it is the family's classifier. */
static void a_hosts_graph_wraps_bert(void **state) {
    const int64_t grid[2] = {-1, -1}, rows[1] = {-1}, w_shape[2] = {3, 32}, b_shape[1] = {3};
    ds_graph *g = NULL;
    ds_engine *mine, *family = engine(BERT, "\"train_batch_size\": 4, " SGD);
    ds_batch *b = rows_of(0, 4, 8, 0);
    ds_tensor *t = NULL;
    int32_t in[2], labels, pooled, w, c, y;
    float loss, loss_too;
    (void)state;
    assert_ok(ds_graph_create(&g));
    assert_ok(ds_graph_input(g, "input_ids", DS_I64, 2, grid, &in[0]));
    assert_ok(ds_graph_input(g, "attention_mask", DS_I64, 2, grid, &in[1]));
    assert_ok(ds_graph_input(g, "labels", DS_I64, 1, rows, &labels));
    assert_fails(DS_E_NOT_FOUND, "pooler_output", ds_graph_model(g, BERT, "{\"prefix\": \"bert.\"}", in, 2, "pooled", &pooled));
    assert_ok(ds_graph_model(g, BERT, "{\"prefix\": \"bert.\"}", in, 2, "pooler_output", &pooled));
    assert_ok(ds_graph_param(g, "classifier.weight", DS_F32, 2, w_shape, "{\"type\": \"normal\", \"std\": 0.02}", &w));
    assert_ok(ds_graph_param(g, "classifier.bias", DS_F32, 1, b_shape, NULL, &c));
    y = op(g, "matmul", op(g, "dropout", pooled, -1, -1, "{\"p\": 0}", 1), w, c, "{\"transpose_b\": true}", 1);
    assert_ok(ds_graph_output(g, "logits", y));
    assert_ok(ds_graph_loss(g, op(g, "cross_entropy", y, labels, -1, NULL, 2)));
    mine = graph_engine(g, "{\"train_batch_size\": 4, \"threads\": 2, " SGD "}");
    ds_graph_destroy(g);
    assert_ok(ds_param_get(family, "classifier.weight", DS_WEIGHT, &t));
    assert_ok(ds_param_set(mine, "classifier.weight", DS_WEIGHT, t));
    ds_tensor_destroy(t);
    assert_ok(ds_param_get(family, "classifier.bias", DS_WEIGHT, &t));
    assert_ok(ds_param_set(mine, "classifier.bias", DS_WEIGHT, t));
    ds_tensor_destroy(t);
    loss = train(mine, b);
    loss_too = train(family, b);
    assert_true(fabs(loss - loss_too) < 1e-6);
    {
        float x[1024], z[1024];
        ds_tensor *s = NULL;
        assert_ok(ds_param_get(mine, "bert.encoder.layer.0.attention.self.query.weight", DS_GRAD, &t));
        assert_ok(ds_param_get(family, "bert.encoder.layer.0.attention.self.query.weight", DS_GRAD, &s));
        assert_ok(ds_tensor_read(t, DS_F32, x, sizeof(x)));
        assert_ok(ds_tensor_read(s, DS_F32, z, sizeof(z)));
        assert_true(difference(x, z, 1024) < 1e-5);
        ds_tensor_destroy(t);
        ds_tensor_destroy(s);
    }
    assert_ok(ds_step(mine));
    ds_batch_destroy(b);
    ds_engine_destroy(mine);
    ds_engine_destroy(family);
}

static void a_text_file_is_a_model(void **state) {
    char dir[] = "/tmp/dsrt-engine-XXXXXX", path[64], config[256];
    const int64_t shape[2] = {2, 3};
    const float values[6] = {1, 2, 3, 4, 5, 6};
    ds_engine *e = NULL;
    ds_batch *b = NULL;
    ds_tensor *t;
    float loss, again;
    FILE *f;
    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/model.ds", dir);
    f = fopen(path, "w");
    assert_non_null(f);
    fputs("graph line(%x: f32[rows,3], param %w: f32[3] ones) {\n  %y = mul %x, %w\n  %z = mul %y, %y\n  %loss = mean %z\n  output y = %y\n  loss = %loss\n}\n", f);
    fclose(f);
    snprintf(config, sizeof(config), "{\"model\": \"%s\", \"train_batch_size\": 2, " SGD "}", path);
    assert_ok(ds_engine_create(config, NULL, &e));
    assert_ok(ds_batch_create(&b));
    t = f32_tensor(2, shape, values);
    assert_ok(ds_batch_set(b, "x", t));
    ds_tensor_destroy(t);
    loss = train(e, b);
    assert_true(fabs(loss - 91.0 / 6) < 1e-5);
    assert_ok(ds_step(e));
    assert_ok(ds_forward(e, b, &again));
    assert_true(again < loss);
    ds_engine_destroy(e);
    e = NULL;
    f = fopen(path, "w");
    fputs("graph line(%x: f32[rows,3]) {\n  %y = mull %x, %x\n}\n", f);
    fclose(f);
    assert_fails(DS_E_INVALID_ARGUMENT, "model.ds: line 2: there is no op 'mull'", ds_engine_create(config, NULL, &e));
    ds_batch_destroy(b);
}

static void two_engines_live_side_by_side(void **state) {
    ds_engine *a = engine(BERT, "\"train_batch_size\": 2, " SGD), *alone = engine(BERT, "\"train_batch_size\": 2, " SGD), *other = engine(GPT, "\"train_batch_size\": 2, \"bf16\": true, " SGD);
    ds_batch *b = rows_of(0, 2, 8, 0), *c = rows_of(0, 2, 8, 1);
    int i;
    (void)state;
    for (i = 0; i < 3; ++i) {
        assert_ok(ds_forward(a, b, NULL));
        assert_ok(ds_forward(other, c, NULL));
        assert_ok(ds_backward(a));
        assert_ok(ds_backward(other));
        assert_ok(ds_step(other));
        assert_ok(ds_step(a));
        train(alone, b);
        assert_ok(ds_step(alone));
    }
    assert_true(relative_of(a, alone, DS_WEIGHT) == 0);
    ds_engine_destroy(other);
    train(a, b);
    ds_engine_destroy(a);
    ds_engine_destroy(alone);
    ds_batch_destroy(b);
    ds_batch_destroy(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(the_order_of_calls_is_checked), TEST(accumulation_equals_one_large_batch), TEST(gradients_are_clipped_by_norm_or_by_value),
        TEST(groups_have_settings_of_their_own), TEST(a_host_reads_and_replaces_gradients_at_the_boundary),
        TEST(a_loss_of_the_hosts_own_gives_the_same_gradients), TEST(a_hosts_own_optimizer_updates_and_its_state_is_kept),
        TEST(fp16_overflow_skips_and_halves_the_scale), TEST(evaluation_leaves_a_pending_forward_alone),
        TEST(masked_positions_read_zero_unless_outputs_names_them), TEST(padding_changes_nothing),
        TEST(dropout_follows_seed_and_step_and_not_the_padding), TEST(checkpoints_and_exported_folders_reload_the_same),
        TEST(bad_batches_are_refused_by_name), TEST(settings_are_read_and_changed_at_run_time), TEST(a_perceptron_built_by_the_host_learns),
        TEST(a_hosts_graph_wraps_bert), TEST(a_text_file_is_a_model), TEST(two_engines_live_side_by_side)};
    return RUN(tests);
}
