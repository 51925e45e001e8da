/* Steps: order of calls, accumulation, clipping, groups, overflow, settings at run time, engines side by side. */
#include "training.h"

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

static void what_an_optimizer_takes_by_default_is_read(void **state) {
    static const char *const wanted[][2] = {{"optimizer.params.betas", "[0.9,0.999]"}, {"optimizer.params.lr", "0.5"}, {"optimizer.params.eps", "1e-06"},
                                            {"optimizer.params.weight_decay", "0.0"}, {"optimizer.params.bias_correction", "true"}};
    ds_engine *e = engine(BERT, "\"train_batch_size\": 2, \"optimizer\": {\"type\": \"AdamW\", \"params\": {\"lr\": 0.5, \"eps\": 1e-6, \"betas\": \"auto\"}}");
    char *json = NULL;
    size_t i;
    (void)state;
    for (i = 0; i < sizeof(wanted) / sizeof(*wanted); ++i) {
        assert_ok(ds_engine_get(e, wanted[i][0], &json));
        assert_string_equal(json, wanted[i][1]);
        ds_free(json);
    }
    assert_ok(ds_engine_get(e, "", &json));
    assert_non_null(strstr(json, "\"betas\":[0.9,0.999]"));
    ds_free(json);
    assert_fails(DS_E_NOT_FOUND, "optimizer.params.momentum", ds_engine_get(e, "optimizer.params.momentum", &json));
    ds_engine_destroy(e);
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
        TEST(the_order_of_calls_is_checked), TEST(accumulation_equals_one_large_batch),
        TEST(gradients_are_clipped_by_norm_or_by_value), TEST(groups_have_settings_of_their_own),
        TEST(fp16_overflow_skips_and_halves_the_scale), TEST(settings_are_read_and_changed_at_run_time), TEST(what_an_optimizer_takes_by_default_is_read),
        TEST(two_engines_live_side_by_side)};
    return RUN(tests);
}
