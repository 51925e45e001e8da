/* Cases of DeepSpeed's own tests that a host can pose, by the numbers of tests/deepspeed.md. */
#include "abi_test.h"

#include <math.h>

/* loss = mean over rows of x . w: the gradient is the mean row. */
static const char kDot[] = "graph m(%x: f32[rows,2], param %w: f32[2] ones) {\n"
                           "  %h = mul %x, %w\n  %s = sum %h {axes = [1]}\n  %loss = mean %s\n"
                           "  loss = %loss\n}\n";

static ds_engine *engine_of(const char *graph, const char *config) {
    ds_graph *g = NULL;
    ds_options *o = NULL;
    ds_engine *e = NULL;
    assert_ok(ds_graph_parse(graph, &g));
    assert_ok(ds_options_create(&o));
    assert_ok(ds_options_set_graph(o, g));
    assert_ok(ds_engine_create(config, o, &e));
    ds_options_destroy(o);
    ds_graph_destroy(g);
    return e;
}

/* A forward and a backward of rows of two. */
static void pass(ds_engine *e, int64_t rows, const float *x) {
    ds_batch *b = x_batch(rows, 2, x);
    float loss;
    assert_ok(ds_forward(e, b, &loss));
    assert_ok(ds_backward(e));
    ds_batch_destroy(b);
}

static void read_w(ds_engine *e, int32_t what, float *w) {
    ds_tensor *t = NULL;
    assert_ok(ds_param_get(e, "w", what, &t));
    assert_ok(ds_tensor_read(t, DS_F32, w, 8));
    ds_tensor_destroy(t);
}

static double metric(ds_engine *e, const char *name) {
    double x = -1;
    assert_ok(ds_metric(e, name, &x));
    return x;
}

/* 13: the legacy curriculum cuts training rows; its metric is the length of the last forward. */
static void lengths_follow_the_curriculum(void **state) {
    static const char *const schedules[] = {
        "\"max_difficulty\": 5, \"min_difficulty\": 1, \"schedule_type\": \"fixed_discrete\", \"schedule_config\": {\"difficulty\": [1, 2, 3, 4, 5], \"max_step\": [2, 4, 6, 8]}",
        "\"max_difficulty\": 10, \"min_difficulty\": 2, \"schedule_type\": \"fixed_linear\", \"schedule_config\": {\"total_curriculum_step\": 8, \"difficulty_step\": 2}"};
    static const int lengths[2][10] = {{1, 1, 2, 2, 3, 3, 4, 4, 5, 5}, {2, 4, 4, 6, 6, 8, 8, 10, 10, 10}};
    const int64_t shape[2] = {1, 12};
    const int32_t ids[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3};
    int s, i;
    (void)state;
    for (s = 0; s < 2; ++s) {
        char config[1024];
        ds_engine *e = NULL;
        ds_batch *b = NULL;
        ds_tensor *t = NULL;
        snprintf(config, sizeof(config), "{\"model\": {\"architectures\": [\"GPT2LMHeadModel\"], \"model_type\": \"gpt2\", \"vocab_size\": 11, \"n_positions\": 16, \"n_embd\": 8, \"n_layer\": 1, "
                 "\"n_head\": 2}, \"threads\": 1, \"train_batch_size\": 1, \"optimizer\": {\"type\": \"AdamW\"}, \"outputs\": [\"logits\"], "
                 "\"curriculum_learning\": {\"enabled\": true, \"curriculum_type\": \"seqlen\", %s}}", schedules[s]);
        assert_ok(ds_engine_create(config, NULL, &e));
        assert_ok(ds_tensor_create(DS_I32, 2, shape, ids, sizeof(ids), &t));
        assert_ok(ds_batch_create(&b));
        assert_ok(ds_batch_set(b, "input_ids", t));
        assert_ok(ds_batch_set(b, "labels", t));
        ds_tensor_destroy(t);
        for (i = 0; i < 10; ++i) {
            const int64_t *found;
            float loss;
            assert_ok(ds_forward(e, b, &loss));
            assert_int_equal((int)metric(e, "curriculum_difficulty"), lengths[s][i]);
            assert_ok(ds_output(e, "logits", &t));
            assert_ok(ds_tensor_info(t, NULL, NULL, &found));
            assert_int_equal(found[1], lengths[s][i]);
            ds_tensor_destroy(t);
            assert_ok(ds_backward(e));
            assert_ok(ds_step(e));
        }
        ds_batch_destroy(b);
        ds_engine_destroy(e);
    }
}

/* 21: two experts a token, of which each takes two; earlier tokens come first (DeepSpeed's drop policy "position"). Expert e writes column e. */
static void experts_take_their_capacity_first_come_first_served(void **state) {
    static const char graph[] = "graph m(%x: f32[rows,4], param %a: f32[4,4] zeros, param %b: f32[4,4] zeros, param %c: f32[4,4] zeros, param %d: f32[4,4] zeros) {\n"
                                "  %p, %i = top_k %x {k = 2}\n"
                                "  %tokens, %ends, %places, %counts = expert_rows %i {experts = 4, capacity_factor = 1, min_capacity = 2}\n"
                                "  %own = embedding %x, %tokens\n  %h = grouped_matmul %own, %ends, %a, %b, %c, %d\n  %y = combine %h, %p, %places\n"
                                "  output y = %y\n}\n";
    static const float logits[16] = {.11f, .2f, .1f, .3f, .3f, .4f, .11f, .1f, .11f, .1f, .6f, .5f, .1f, .11f, .7f, .8f};
    static const int taken[16] = {0, 1, 0, 1, 1, 1, 0, 0, 0, 0, 1, 1, 0, 0, 1, 0}; /* of the last token, the first choice is expert 3: full */
    static const int64_t square[2] = {4, 4};
    const char *const names[4] = {"a", "b", "c", "d"};
    float y[16];
    int i, k;
    ds_engine *e = engine_of(graph, "{}");
    ds_batch *b = x_batch(4, 4, logits);
    ds_tensor *t = NULL;
    (void)state;
    for (k = 0; k < 4; ++k) {
        float column[16] = {0};
        for (i = 0; i < 4; ++i) column[4 * i + k] = 1;
        t = f32_tensor(2, square, column);
        assert_ok(ds_param_set(e, names[k], DS_WEIGHT, t));
        ds_tensor_destroy(t);
    }
    assert_ok(ds_eval(e, b, NULL));
    assert_ok(ds_output(e, "y", &t));
    assert_ok(ds_tensor_read(t, DS_F32, y, sizeof(y)));
    ds_tensor_destroy(t);
    for (i = 0; i < 16; ++i) assert_int_equal(y[i] != 0, taken[i]);
    ds_batch_destroy(b);
    ds_engine_destroy(e);
}

/* 22: two ranks with the gradient [1, 2] each. */
static void ranks_gradients_are_averaged_or_added(void **state) {
    static const float rows[4] = {1, 2, 1, 2};
    int stage, sum;
    (void)state;
    for (stage = 0; stage < 3; ++stage)
        for (sum = 0; sum < 2; ++sum) {
            char config[512];
            float w[2];
            ds_engine *e;
            snprintf(config, sizeof(config), "{\"train_micro_batch_size_per_gpu\": 1, \"parallel\": {\"data\": 2}, \"threads\": 1, \"gradient_clipping\": 0, \"zero_allow_untested_optimizer\": true, "
                     "\"gradient_allreduce_op\": \"%s\", \"zero_optimization\": {\"stage\": %d, \"allgather_bucket_size\": 1000}, \"optimizer\": {\"type\": \"SGD\", \"params\": {\"lr\": 1}}}",
                     sum ? "sum" : "mean", stage);
            e = engine_of(kDot, config);
            pass(e, 2, rows);
            assert_ok(ds_step(e));
            read_w(e, DS_WEIGHT, w);
            assert_true(w[0] == (sum ? -1 : 0) && w[1] == (sum ? -3 : -1)); /* from 1, 1 */
            ds_engine_destroy(e);
        }
}

/* 23: "Adam" decays apart from the gradient unless adam_w_mode is false, "AdamW" always; where it runs changes nothing. */
static void adams_names_say_how_weights_decay(void **state) {
    static const float rows[2] = {0, 0};
    int row;
    (void)state;
    for (row = 0; row < 16; ++row) {
        const int w_name = row & 1, offload = row & 2, torch = row & 4, w_mode = row & 8;
        char config[512];
        float w[2];
        ds_engine *e;
        snprintf(config, sizeof(config), "{\"train_batch_size\": 1, \"threads\": 1, \"zero_optimization\": {\"stage\": 2%s}, \"optimizer\": {\"type\": \"%s\", \"params\": {\"lr\": 0.1, "
                 "\"weight_decay\": 0.1, \"torch_adam\": %s, \"adam_w_mode\": %s}}}", offload ? ", \"offload_optimizer\": {\"device\": \"cpu\"}" : "", w_name ? "AdamW" : "Adam",
                 torch ? "true" : "false", w_mode ? "true" : "false");
        e = engine_of(kDot, config);
        pass(e, 1, rows);
        assert_ok(ds_step(e));
        read_w(e, DS_WEIGHT, w);
        assert_true(fabs(w[0] - (w_name || w_mode ? 0.99 : 0.9)) < 1e-6); /* else the decay is a gradient, of which Adam takes the sign */
        ds_engine_destroy(e);
    }
}

/* 24: the norm is all ranks'; what overflows on one overflows everywhere. */
static void one_ranks_norm_and_overflow_are_everybodys(void **state) {
    static const float ones[4] = {1, 1, 1, 1}, bad[4] = {1, 1, INFINITY, 1};
    int stage;
    (void)state;
    for (stage = 0; stage < 4; ++stage) {
        char config[512];
        float w[2];
        ds_engine *e;
        snprintf(config, sizeof(config), "{\"train_micro_batch_size_per_gpu\": 1, \"parallel\": {\"data\": 2}, \"threads\": 1, \"gradient_clipping\": 0.1, \"fp16\": {\"enabled\": true, \"initial_scale_power\": 4, "
                 "\"hysteresis\": 1}, \"zero_optimization\": {\"stage\": %d, \"stage3_param_persistence_threshold\": 0}, \"optimizer\": {\"type\": \"SGD\", \"params\": {\"lr\": 1}}, "
                 "\"scheduler\": {\"type\": \"StepLR\", \"params\": {\"step_size\": 1, \"gamma\": 0.5}}}", stage);
        e = engine_of(kDot, config);
        pass(e, 2, bad);
        assert_int_equal(ds_step(e), DS_SKIPPED);
        read_w(e, DS_WEIGHT, w);
        assert_true(w[0] == 1 && w[1] == 1 && metric(e, "loss_scale") == 8 && metric(e, "skipped_steps") == 1 && metric(e, "global_steps") == 1 && metric(e, "lr") == 1);
        pass(e, 2, ones);
        assert_ok(ds_step(e));
        read_w(e, DS_WEIGHT, w);
        assert_true(fabs(metric(e, "grad_norm") - sqrt(2)) < 1e-6 && fabs(1 - w[0] - .0707106) < 1e-6 && fabs(1 - w[1] - .0707106) < 1e-6 && metric(e, "lr") == 0.5);
        ds_engine_destroy(e);
    }
}

/* DS_GRAD is what the update applies, also where gradients go to other ranks in fewer bits. */
static void gradients_read_as_they_were_sent(void **state) {
    static const char *const types[] = {"bf16", "fp16"};
    static const float rows[4] = {1.001f, 2.003f, 3, 4};
    int type, stage;
    (void)state;
    for (type = 0; type < 2; ++type)
        for (stage = 0; stage < 2; ++stage) {
            char config[512];
            float g[2], w[2];
            ds_engine *e;
            snprintf(config, sizeof(config), "{\"train_micro_batch_size_per_gpu\": 1, \"parallel\": {\"data\": 2}, \"threads\": 1, \"gradient_clipping\": 0, \"communication_data_type\": \"%s\", "
                     "\"zero_optimization\": {\"stage\": %d}, \"optimizer\": {\"type\": \"SGD\", \"params\": {\"lr\": 1}}}", types[type], stage);
            e = engine_of(kDot, config);
            pass(e, 2, rows);
            read_w(e, DS_GRAD, g);
            assert_true(g[0] != (rows[0] + rows[2]) / 2);
            assert_ok(ds_step(e));
            read_w(e, DS_WEIGHT, w);
            assert_true(w[0] == 1 - g[0] && w[1] == 1 - g[1]);
            ds_engine_destroy(e);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {TEST(lengths_follow_the_curriculum), TEST(experts_take_their_capacity_first_come_first_served), TEST(ranks_gradients_are_averaged_or_added),
                                       TEST(adams_names_say_how_weights_decay), TEST(one_ranks_norm_and_overflow_are_everybodys), TEST(gradients_read_as_they_were_sent)};
    return RUN(tests);
}
