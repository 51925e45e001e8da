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
        TEST(a_hosts_own_optimizer_updates_and_its_state_is_kept)};
    return RUN(tests);
}
