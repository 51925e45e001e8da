/* Engines and the host: its graph, optimizer, loss, data, callbacks, threads, cancel switch, files. */
#include "tiny_model.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#define BIAS "transformer.ln_f.bias"

/* y = x w, loss = mean(y * y) */
static ds_graph *small_graph(void) {
    const int64_t x_shape[2] = {-1, 4}, w_shape[2] = {4, 3};
    int32_t in[2], y = -1, square = -1, loss = -1;
    ds_graph *g = NULL;
    assert_ok(ds_graph_create(&g));
    assert_ok(ds_graph_input(g, "x", DS_F32, 2, x_shape, &in[0]));
    assert_ok(ds_graph_param(g, "w", DS_F32, 2, w_shape, "{\"type\": \"ones\"}", &in[1]));
    assert_ok(ds_graph_op(g, "matmul", in, 2, NULL, &y, 1));
    in[0] = in[1] = y;
    assert_ok(ds_graph_op(g, "mul", in, 2, NULL, &square, 1));
    assert_ok(ds_graph_op(g, "mean", &square, 1, NULL, &loss, 1));
    assert_ok(ds_graph_output(g, "y", y));
    assert_ok(ds_graph_loss(g, loss));
    return g;
}

static const char graph_config[] = "{\"train_batch_size\": 2, \"optimizer\": {\"type\": \"SGD\", \"params\": {\"lr\": 0.5}}, "
                                   "\"gradient_clipping\": 0, \"threads\": 1}";

static ds_engine *graph_engine(const char *config, ds_options *o) {
    ds_engine *e = NULL;
    ds_graph *g = small_graph();
    ds_options *options = o;
    if (!o) assert_ok(ds_options_create(&options));
    assert_ok(ds_options_set_graph(options, g));
    ds_graph_destroy(g);
    assert_ok(ds_engine_create(config, options, &e));
    if (!o) ds_options_destroy(options);
    return e;
}

static ds_batch *graph_batch(void) {
    static const float x[8] = {1, 0, 0, 0, 0, 2, 0, 0};
    return x_batch(2, 4, x);
}

static void a_graph_of_the_host_trains(void **state) {
    ds_engine *e = graph_engine(graph_config, NULL);
    ds_batch *b = graph_batch();
    float loss = 0, w[12], y[6];
    ds_tensor *t = NULL;
    (void)state;
    assert_ok(ds_forward(e, b, &loss));
    assert_true(loss == 2.5f); /* the mean of three ones and three fours */
    assert_ok(ds_output(e, "y", &t));
    assert_ok(ds_tensor_read(t, DS_F32, y, sizeof(y)));
    assert_true(y[0] == 1 && y[5] == 2);
    ds_tensor_destroy(t);
    assert_ok(ds_backward(e));
    assert_ok(ds_step(e));
    read_param(e, "w", DS_WEIGHT, w, 12);
    assert_float_equal(w[0], 1 - 0.5 / 3, 1e-6); /* dloss/dw = 2/6 x^T y */
    assert_true(w[6] == 1);
    ds_batch_destroy(b);
    ds_engine_destroy(e);
}

static void a_loss_of_the_host_trains(void **state) {
    const int64_t shape[2] = {2, 3}, wrong[2] = {3, 2};
    const float dy[6] = {1, 0, 0, 0, 1, 0};
    float w[12];
    ds_engine *e = graph_engine(graph_config, NULL);
    ds_batch *b = graph_batch(), *gradients = NULL;
    ds_tensor *t = f32_tensor(2, wrong, dy);
    (void)state;
    assert_ok(ds_batch_create(&gradients));
    assert_ok(ds_forward(e, b, NULL));
    assert_fails(DS_E_INVALID_ARGUMENT, "empty", ds_backward_from(e, gradients));
    assert_ok(ds_batch_set(gradients, "y", t));
    ds_tensor_destroy(t);
    assert_fails(DS_E_INVALID_ARGUMENT, "[2,3]", ds_backward_from(e, gradients));
    t = f32_tensor(2, shape, dy);
    assert_ok(ds_batch_set(gradients, "y", t));
    assert_ok(ds_backward_from(e, gradients));
    assert_ok(ds_step(e));
    read_param(e, "w", DS_WEIGHT, w, 12);
    assert_true(w[0] == 0.5f);      /* x0 = 1, dy = 1 */
    assert_true(w[4] == 1 - 1.0f);  /* x1 = 2, dy = 1 */
    assert_true(w[1] == 1 && w[3] == 1);
    ds_tensor_destroy(t);
    ds_batch_destroy(b);
    ds_batch_destroy(gradients);
    ds_engine_destroy(e);
}

typedef struct {
    ds_engine *engine;
    int calls, released, fail;
    ds_status inner, inner_metric;
    float state_seen;
} Optimizer;

static int32_t update(void *user, const char *parameter, int64_t step, double lr, float *weight, const float *gradient, float *state,
                      size_t n) {
    Optimizer *o = user;
    double value;
    size_t i;
    ++o->calls;
    assert_string_equal(parameter, "w");
    assert_true(step >= 1 && lr >= 0);
    if (o->engine) {
        o->inner = ds_zero_grad(o->engine);
        o->inner_metric = ds_metric(o->engine, "lr", &value);
    }
    if (o->fail) return -5;
    o->state_seen = state[0];
    for (i = 0; i < n; ++i) {
        state[i] += 1;
        weight[i] -= gradient[i] > 0 ? 1 : 0;
    }
    return 0;
}

static void release_optimizer(void *user) { ++((Optimizer *)user)->released; }

static ds_engine *host_optimizer(Optimizer *o) {
    ds_optimizer_callbacks callbacks;
    ds_options *options = NULL;
    ds_engine *e;
    memset(o, 0, sizeof(*o));
    memset(&callbacks, 0, sizeof(callbacks));
    callbacks.struct_size = sizeof(callbacks);
    callbacks.user = o;
    callbacks.floats_per_element = 1;
    callbacks.update = update;
    callbacks.release = release_optimizer;
    assert_ok(ds_options_create(&options));
    assert_ok(ds_options_set_optimizer(options, &callbacks));
    e = graph_engine("{\"train_batch_size\": 2, \"threads\": 1}", options);
    ds_options_destroy(options);
    assert_int_equal(o->released, 0); /* the engine has it still */
    return e;
}

static void an_optimizer_of_the_host_updates(void **state) {
    Optimizer o;
    ds_engine *e = host_optimizer(&o);
    ds_batch *b = graph_batch();
    float w[12];
    int i;
    (void)state;
    o.engine = e;
    for (i = 0; i < 2; ++i) {
        assert_ok(ds_forward(e, b, NULL));
        assert_ok(ds_backward(e));
        assert_ok(ds_step(e));
    }
    assert_int_equal(o.inner, DS_E_BUSY);
    assert_int_equal(o.inner_metric, DS_OK);
    assert_true(o.calls >= 2);
    assert_true(o.state_seen == 1);
    read_param(e, "w", DS_WEIGHT, w, 12);
    assert_true(w[0] == 0 && w[6] == 1);
    ds_batch_destroy(b);
    ds_engine_destroy(e);
    assert_int_equal(o.released, 1);
}

static void a_failing_optimizer_ends_the_step_with_its_code(void **state) {
    char dir[] = "/tmp/dsrt-engine-XXXXXX";
    Optimizer o;
    ds_engine *e = host_optimizer(&o);
    ds_batch *b = graph_batch();
    ds_tensor *t = NULL;
    float w[12];
    double lr;
    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_ok(ds_save(e, dir, NULL, NULL));
    o.fail = 1;
    assert_ok(ds_forward(e, b, NULL));
    assert_ok(ds_backward(e));
    assert_fails(DS_E_USER, "-5", ds_step(e));
    /* It refuses everything but metrics, and says what it allows: half of the weights are new. */
    assert_fails(DS_E_STATE, "ds_load", ds_forward(e, b, NULL));
    assert_fails(DS_E_STATE, "ds_load", ds_param_get(e, "w", DS_WEIGHT, &t));
    assert_null(t);
    assert_fails(DS_E_STATE, "ds_load", ds_output(e, "y", &t));
    assert_fails(DS_E_STATE, "ds_load", ds_engine_set(e, "optimizer.params.lr", "1"));
    assert_fails(DS_E_STATE, "ds_load", ds_save(e, dir, NULL, NULL));
    assert_fails(DS_E_STATE, "ds_load", ds_zero_grad(e));
    assert_ok(ds_metric(e, "lr", &lr));
    o.fail = 0;
    assert_ok(ds_load(e, dir, NULL, NULL));
    assert_ok(ds_forward(e, b, NULL));
    assert_ok(ds_backward(e));
    assert_ok(ds_step(e));
    read_param(e, "w", DS_WEIGHT, w, 12);
    assert_true(w[0] == 0 && w[6] == 1);
    ds_batch_destroy(b);
    ds_engine_destroy(e);
    assert_int_equal(o.released, 1);
}

typedef struct {
    ds_engine *engine;
    int at, rows, released, saved, restored, destroys;
    ds_status inner;
} Rows;

static int32_t next(void *user, ds_batch *b) {
    Rows *r = user;
    if (r->destroys) ds_engine_destroy(r->engine);
    if (r->engine) r->inner = ds_step(r->engine);
    if (r->at == r->rows) {
        r->at = 0;
        return DS_END;
    }
    set_ids(b, "input_ids", r->at);
    set_ids(b, "labels", r->at);
    ++r->at;
    return DS_OK;
}

static int32_t save(void *user, char **json) {
    Rows *r = user;
    ++r->saved;
    *json = malloc(32);
    if (!*json) return DS_E_OUT_OF_MEMORY;
    snprintf(*json, 32, "{\"at\": %d}", r->at);
    return DS_OK;
}

static int32_t restore(void *user, const char *json) {
    Rows *r = user;
    const char *number = strstr(json, "\"at\":");
    ++r->restored;
    if (!number) return DS_E_CORRUPT;
    r->at = atoi(number + 5);
    return DS_OK;
}

static void release_rows(void *user) { ++((Rows *)user)->released; }

static ds_data *rows_of(Rows *r, int rows, ds_engine *e) {
    ds_data_source source;
    ds_data *d = NULL;
    memset(r, 0, sizeof(*r));
    r->rows = rows;
    memset(&source, 0, sizeof(source));
    source.struct_size = sizeof(source);
    source.user = r;
    source.next = next;
    source.save = save;
    source.restore = restore;
    source.release = release_rows;
    assert_ok(ds_data_create(&source, e, &d));
    return d;
}

static void whole_batches_come_from_the_hosts_iterator(void **state) {
    Rows r;
    ds_engine *e = engine_of(TINY_CONFIG), *other = engine_of(TINY_CONFIG);
    ds_data *d = rows_of(&r, 4, e);
    ds_batch *b = NULL;
    float loss = 0;
    (void)state;
    assert_ok(ds_batch_create(&b));
    assert_fails(DS_E_INVALID_ARGUMENT, "another engine", ds_train_batch(other, d, &loss));
    assert_ok(ds_train_batch(e, d, &loss));
    assert_true(loss > 0);
    assert_int_equal(r.at, 2); /* accumulation is 2 */
    r.engine = e;
    assert_ok(ds_train_batch(e, d, NULL));
    assert_int_equal(r.inner, DS_E_BUSY);
    r.engine = NULL;
    assert_true(metric(e, "global_steps") == 2);
    assert_int_equal(ds_train_batch(e, d, &loss), DS_END);
    assert_ok(ds_train_batch(e, d, &loss));
    ds_engine_destroy(e);
    assert_fails(DS_E_STATE, "engine", ds_data_next(d, b)); /* what refers to it says so */
    assert_fails(DS_E_STATE, "engine", ds_train_batch(other, d, &loss));
    ds_data_destroy(d);
    assert_int_equal(r.released, 1);
    ds_batch_destroy(b);
    ds_engine_destroy(other);
}

static void an_epoch_that_ends_within_a_step_is_told_by_the_next_call(void **state) {
    char folder[] = "/tmp/dsrt-abi-XXXXXX", command[64];
    Rows r, s;
    ds_engine *e = engine_of(TINY_CONFIG), *other = engine_of(TINY_CONFIG);
    ds_data *d = rows_of(&r, 3, e), *resumed = rows_of(&s, 3, other); /* accumulation is 2: a whole step and half a one */
    float first = 0, second = 0;
    int epoch;
    (void)state;
    assert_non_null(mkdtemp(folder));
    for (epoch = 0; epoch < 2; ++epoch) {
        assert_ok(ds_train_batch(e, d, NULL));
        assert_ok(ds_train_batch(e, d, NULL));
        assert_true(metric(e, "global_steps") == 2 * epoch + 2 && metric(e, "micro_steps") == 3 * epoch + 3);
        if (epoch == 1) assert_ok(ds_save(e, folder, NULL, NULL));
        assert_int_equal(ds_train_batch(e, d, NULL), DS_END);
    }
    assert_ok(ds_train_batch(e, d, &first));
    assert_ok(ds_load(other, folder, NULL, NULL));
    assert_int_equal(ds_train_batch(other, resumed, NULL), DS_END); /* also after a resume */
    assert_ok(ds_train_batch(other, resumed, &second));
    assert_true(first == second);
    ds_data_destroy(d);
    ds_data_destroy(resumed);
    ds_engine_destroy(e);
    ds_engine_destroy(other);
    snprintf(command, sizeof(command), "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

static void destroying_the_engine_inside_its_callback_waits(void **state) {
    Rows r;
    ds_engine *e = engine_of(TINY_CONFIG);
    ds_data *d = rows_of(&r, 4, NULL);
    float loss = 0;
    (void)state;
    r.engine = e;
    r.destroys = 1;
    (void)ds_train_batch(e, d, &loss);
    assert_int_equal(r.inner, DS_E_STATE);
    assert_fails(DS_E_STATE, "destroyed", ds_train_batch(e, d, &loss));
    ds_data_destroy(d);
}

static void the_cancel_switch_ends_calls(void **state) {
    ds_options *o = NULL;
    ds_cancel *c = NULL;
    ds_engine *e = NULL;
    ds_batch *b = tiny_batch(1, 1);
    float before = 0, after = 0;
    (void)state;
    assert_ok(ds_cancel_create(&c));
    assert_ok(ds_options_create(&o));
    assert_ok(ds_options_set_cancel(o, c));
    assert_ok(ds_engine_create(TINY_CONFIG, o, &e));
    ds_options_destroy(o);
    assert_ok(ds_forward(e, b, &before));
    assert_ok(ds_cancel_set(c, 1));
    assert_fails(DS_E_CANCELLED, "", ds_forward(e, b, &after));
    assert_ok(ds_cancel_set(c, 0));
    assert_ok(ds_forward(e, b, &after));
    assert_true(before == after);
    ds_cancel_destroy(c); /* the engine doesn't mind */
    assert_ok(ds_forward(e, b, &after));
    ds_batch_destroy(b);
    ds_engine_destroy(e);
}

static void *train_until_it_ends(void *user) {
    ds_engine *e = user;
    ds_batch *b = tiny_batch(1, 1);
    ds_status status = DS_OK;
    while (status >= 0) {
        status = ds_forward(e, b, NULL);
        if (status >= 0) status = ds_backward(e);
        if (status >= 0) status = ds_step(e);
    }
    ds_batch_destroy(b);
    return (void *)(intptr_t)status;
}

static void destroying_on_another_thread_cancels_and_waits(void **state) {
    int round, wait;
    (void)state;
    for (round = 0; round < 5; ++round) {
        ds_engine *e = engine_of(TINY_CONFIG);
        pthread_t thread;
        void *ended = NULL;
        double value = 0;
        assert_int_equal(pthread_create(&thread, NULL, train_until_it_ends, e), 0);
        for (wait = 0; value < 3 && wait < 10000; ++wait) {
            assert_ok(ds_metric(e, "global_steps", &value)); /* from any thread, at any time */
            usleep(1000);
        }
        assert_true(value >= 3);
        ds_engine_destroy(e);
        pthread_join(thread, &ended);
        if ((intptr_t)ended != DS_E_CANCELLED && (intptr_t)ended != DS_E_STATE) fail_msg("ended with %d", (int)(intptr_t)ended);
    }
}

static void a_forked_child_leaves_the_engine_alone(void **state) {
    ds_engine *e = engine_of(TINY_CONFIG);
    ds_batch *b = tiny_batch(1, 1);
    float loss = 0;
    int status;
    pid_t child;
    (void)state;
    assert_ok(ds_forward(e, b, &loss));
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        double value;
        int failed = ds_forward(e, b, &loss) != DS_E_STATE;
        failed |= (ds_metric(e, "loss", &value) != DS_E_STATE) << 1;
        ds_engine_destroy(e);
        _exit(failed);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_ok(ds_backward(e));
    ds_batch_destroy(b);
    ds_engine_destroy(e);
}

static int heard;
static int32_t stop_after_two(const int32_t *ids, size_t n, void *user) {
    (void)ids;
    heard += (int)n;
    return user ? -9 : heard >= 2;
}

static void generation_can_be_heard_and_stopped(void **state) {
    const int32_t prompt[2] = {1, 2};
    int32_t *ids = NULL;
    size_t n = 9;
    ds_engine *e = engine_of(TINY_CONFIG);
    (void)state;
    assert_ok(ds_generate(e, prompt, 2, "{\"max_new_tokens\": 3, \"eos_id\": -1}", NULL, NULL, &ids, &n));
    assert_int_equal(n, 3);
    ds_free(ids);
    heard = 0;
    assert_ok(ds_generate(e, prompt, 2, "{\"max_new_tokens\": 8, \"eos_id\": -1}", stop_after_two, NULL, &ids, &n));
    assert_int_equal(n, 2);
    ds_free(ids);
    assert_fails(DS_E_USER, "-9", ds_generate(e, prompt, 2, NULL, stop_after_two, &heard, &ids, &n));
    assert_null(ids);
    assert_int_equal(n, 0);
    assert_fails(DS_E_INVALID_ARGUMENT, "temperatur", ds_generate(e, prompt, 2, "{\"temperatur\": 1}", NULL, NULL, &ids, &n));
    assert_fails(DS_E_INVALID_ARGUMENT, "prompt", ds_generate(e, NULL, 2, NULL, NULL, NULL, &ids, &n));
    ds_engine_destroy(e);
}

static void a_checkpoint_restores_everything(void **state) {
    char folder[] = "/tmp/dsrt-abi-XXXXXX", command[64];
    Rows r, s;
    ds_engine *e = engine_of(TINY_CONFIG), *other = engine_of(TINY_CONFIG);
    ds_data *d = rows_of(&r, 6, e), *resumed = rows_of(&s, 6, other);
    float first = 0, second = 0;
    (void)state;
    assert_non_null(mkdtemp(folder));
    assert_fails(DS_E_NOT_FOUND, folder, ds_load(other, folder, NULL, NULL));
    assert_fails(DS_E_INVALID_ARGUMENT, "options_json", ds_save(e, folder, NULL, "[]"));
    assert_fails(DS_E_INVALID_ARGUMENT, "options_json", ds_save(e, folder, NULL, "{"));
    assert_ok(ds_train_batch(e, d, NULL));
    assert_ok(ds_save(e, folder, NULL, NULL));
    assert_true(r.saved >= 1);
    assert_ok(ds_train_batch(e, d, &first));
    assert_ok(ds_load(other, folder, NULL, NULL));
    assert_int_equal(s.restored, 1);
    assert_int_equal(s.at, 2);
    assert_true(metric(other, "global_steps") == 1);
    assert_ok(ds_train_batch(other, resumed, &second));
    assert_true(first == second);
    assert_fails(DS_E_NOT_FOUND, "no_such_tag", ds_load(other, folder, "no_such_tag", NULL));
    assert_ok(ds_export(e, folder, NULL));
    ds_data_destroy(d);
    ds_data_destroy(resumed);
    ds_engine_destroy(e);
    ds_engine_destroy(other);
    snprintf(command, sizeof(command), "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {TEST(a_graph_of_the_host_trains),
                                       TEST(a_loss_of_the_host_trains),
                                       TEST(an_optimizer_of_the_host_updates),
                                       TEST(a_failing_optimizer_ends_the_step_with_its_code),
                                       TEST(whole_batches_come_from_the_hosts_iterator),
                                       TEST(an_epoch_that_ends_within_a_step_is_told_by_the_next_call),
                                       TEST(destroying_the_engine_inside_its_callback_waits),
                                       TEST(the_cancel_switch_ends_calls),
                                       TEST(destroying_on_another_thread_cancels_and_waits),
                                       TEST(a_forked_child_leaves_the_engine_alone),
                                       TEST(generation_can_be_heard_and_stopped),
                                       TEST(a_checkpoint_restores_everything)};
    return RUN(tests);
}
