/* What a host may do itself: read and replace gradients, take the gradient of its own loss, update with its own optimizer. */
#include "training.h"

#include <unistd.h>

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

/* Of a step: one with a loss of the host's own, or with so many labelled rows. */
static void add_micro_batch(ds_engine *e, int labelled) {
    ds_batch *b = rows_of(labelled, labelled ? labelled : 4, 8, 0), *g;
    if (labelled) train(e, b);
    else {
        assert_ok(ds_forward(e, b, NULL));
        g = gradient_of_logits(e, 4);
        assert_ok(ds_backward_from(e, g));
        ds_batch_destroy(g);
    }
    ds_batch_destroy(b);
}

static float *gradient_of_step(const char *layout, const int *micro_batches, int count, size_t *n) {
    char rest[256];
    ds_engine *e;
    float *gradient;
    int i;
    snprintf(rest, sizeof(rest), "%s\"train_micro_batch_size_per_gpu\": 4, \"gradient_accumulation_steps\": %d, " SGD, layout, count);
    e = engine(BERT, rest);
    for (i = 0; i < count; ++i) add_micro_batch(e, micro_batches[i]);
    gradient = everything(e, DS_GRAD, n);
    ds_engine_destroy(e);
    return gradient;
}

static void a_loss_of_the_hosts_own_weighs_the_same_wherever_it_comes_in_a_step(void **state) {
    const char *const layouts[] = {"", "\"parallel\": {\"pipeline\": 2}, "};
    const int three[][3] = {{4, 2, 0}, {4, 0, 2}, {0, 4, 2}}, two[][2] = {{0, 4}, {4, 0}}, host = 0, labelled = 4;
    size_t layout, order, n, i;
    (void)state;
    for (layout = 0; layout < 2; ++layout) {
        float *mean = gradient_of_step(layouts[layout], &host, 1, &n), *other = gradient_of_step(layouts[layout], &labelled, 1, &n);
        for (i = 0; i < n; ++i) mean[i] = (mean[i] + other[i]) / 2;
        free(other);
        for (order = 0; order < 2; ++order) {
            other = gradient_of_step(layouts[layout], two[order], 2, &n);
            if (difference(other, mean, n) > 1e-5) fail_msg("%s two %zu: gradients differ by %g", layouts[layout], order, difference(other, mean, n));
            free(other);
        }
        free(mean);
        mean = gradient_of_step(layouts[layout], three[0], 3, &n);
        for (order = 1; order < 3; ++order) {
            other = gradient_of_step(layouts[layout], three[order], 3, &n);
            if (difference(other, mean, n) > 1e-5) fail_msg("%s three %zu: gradients differ by %g", layouts[layout], order, difference(other, mean, n));
            free(other);
        }
        free(mean);
    }
}

static float *one(ds_engine *e, const char *name, int32_t what, size_t *n) {
    ds_tensor *t = NULL;
    float *x;
    assert_ok(ds_param_get(e, name, what, &t));
    *n = count_of(t);
    x = malloc(*n * sizeof(float));
    assert_ok(ds_tensor_read(t, DS_F32, x, *n * sizeof(float)));
    ds_tensor_destroy(t);
    return x;
}

/* A gradient of the whole output, of numbers that differ. */
static ds_batch *gradient_for(ds_engine *e, const char *output) {
    ds_tensor *t = NULL, *values;
    ds_batch *b = NULL;
    int32_t ndim;
    const int64_t *shape;
    float *x;
    size_t n, i;
    assert_ok(ds_output(e, output, &t));
    assert_ok(ds_tensor_info(t, NULL, &ndim, &shape));
    n = count_of(t);
    x = malloc(n * sizeof(float));
    for (i = 0; i < n; ++i) x[i] = (float)(i % 3) - 0.5f;
    values = f32_tensor(ndim, shape, x);
    assert_ok(ds_batch_create(&b));
    assert_ok(ds_batch_set(b, output, values));
    ds_tensor_destroy(values);
    ds_tensor_destroy(t);
    free(x);
    return b;
}

/* The head's memory holds the step before: torch would have no gradient there. */
static void a_head_that_the_hosts_loss_does_not_reach_has_gradient_zero(void **state) {
    const char *const layouts[] = {"", "\"parallel\": {\"data\": 2}, \"zero_optimization\": {\"stage\": 2}, ", "\"parallel\": {\"data\": 2}, \"zero_optimization\": {\"stage\": 3}, ",
                                   "\"parallel\": {\"tensor\": 2}, ", "\"parallel\": {\"pipeline\": 2}, "};
    size_t layout;
    (void)state;
    for (layout = 0; layout < sizeof(layouts) / sizeof(layouts[0]); ++layout) {
        char rest[512];
        ds_engine *e;
        ds_batch *labelled = rows_of(0, 2, 8, 1), *bare = rows_of(0, 2, 8, 0), *unlabelled = NULL, *g;
        ds_tensor *t = NULL;
        size_t n;
        float *before, *after, *gradient;
        snprintf(rest, sizeof(rest), "%s\"model_overrides\": {\"tie_word_embeddings\": false}, \"train_batch_size\": 2, " SGD, layouts[layout]);
        e = engine(GPT, rest);
        train(e, labelled);
        assert_ok(ds_step(e));
        assert_ok(ds_batch_create(&unlabelled));
        assert_ok(ds_batch_get(bare, "input_ids", &t));
        assert_ok(ds_batch_set(unlabelled, "input_ids", t));
        ds_tensor_destroy(t);
        before = one(e, "lm_head.weight", DS_WEIGHT, &n);
        assert_ok(ds_forward(e, unlabelled, NULL));
        g = gradient_for(e, "last_hidden_state");
        assert_ok(ds_backward_from(e, g));
        gradient = one(e, "lm_head.weight", DS_GRAD, &n);
        if (norm_of(gradient, n) != 0) fail_msg("%s: the gradient of the head is %g", layouts[layout], norm_of(gradient, n));
        free(gradient);
        gradient = one(e, "transformer.wte.weight", DS_GRAD, &n);
        assert_true(norm_of(gradient, n) > 0);
        assert_ok(ds_step(e));
        after = one(e, "lm_head.weight", DS_WEIGHT, &n);
        assert_true(difference(after, before, n) == 0);
        free(before);
        free(after);
        free(gradient);
        ds_batch_destroy(g);
        ds_batch_destroy(labelled);
        ds_batch_destroy(bare);
        ds_batch_destroy(unlabelled);
        ds_engine_destroy(e);
    }
}

static void gradients_dropped_after_a_forward_are_not_in_its_backward(void **state) {
    const char *const layouts[] = {"", "\"parallel\": {\"data\": 2}, ", "\"parallel\": {\"data\": 2}, \"zero_optimization\": {\"stage\": 2}, ", "\"parallel\": {\"pipeline\": 2}, "};
    size_t layout;
    (void)state;
    for (layout = 0; layout < sizeof(layouts) / sizeof(layouts[0]); ++layout) {
        char rest[512];
        ds_engine *e, *fresh;
        ds_batch *first = rows_of(0, 2, 8, 0), *second = rows_of(2, 2, 8, 0);
        snprintf(rest, sizeof(rest), "%s\"gradient_accumulation_steps\": 2, \"train_batch_size\": 4, " SGD, layouts[layout]);
        e = engine(BERT, rest);
        fresh = engine(BERT, rest);
        train(e, first);
        assert_ok(ds_forward(e, second, NULL));
        assert_ok(ds_zero_grad(e));
        assert_ok(ds_backward(e));
        train(fresh, second);
        if (relative_of(e, fresh, DS_GRAD) > 1e-6) fail_msg("%s: gradients differ by %g", layouts[layout], relative_of(e, fresh, DS_GRAD));
        train(e, first);
        train(fresh, first);
        assert_ok(ds_step(e));
        assert_ok(ds_step(fresh));
        assert_true(relative_of(e, fresh, DS_WEIGHT) < 1e-6);
        ds_batch_destroy(first);
        ds_batch_destroy(second);
        ds_engine_destroy(e);
        ds_engine_destroy(fresh);
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

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_host_reads_and_replaces_gradients_at_the_boundary), TEST(a_loss_of_the_hosts_own_gives_the_same_gradients),
        TEST(a_loss_of_the_hosts_own_weighs_the_same_wherever_it_comes_in_a_step),
        TEST(a_head_that_the_hosts_loss_does_not_reach_has_gradient_zero), TEST(gradients_dropped_after_a_forward_are_not_in_its_backward),
        TEST(a_hosts_own_optimizer_updates_and_its_state_is_kept)};
    return RUN(tests);
}
