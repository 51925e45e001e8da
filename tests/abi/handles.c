/* Handles: NULL, wrong types, stale ones, forked processes, use by two threads, structs of other sizes, release. */
#include "abi_test.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

static void destroying_null_is_fine(void **state) {
    (void)state;
    ds_tensor_destroy(NULL);
    ds_batch_destroy(NULL);
    ds_engine_destroy(NULL);
    ds_cancel_destroy(NULL);
    ds_tokenizer_destroy(NULL);
    ds_encoding_destroy(NULL);
    ds_data_destroy(NULL);
    ds_graph_destroy(NULL);
    ds_options_destroy(NULL);
}

#define refuses_null(call) assert_int_equal((call), DS_E_INVALID_ARGUMENT)

static void every_call_refuses_null(void **state) {
    float f;
    double d;
    size_t n;
    char *text = NULL;
    const char *name;
    int32_t i = 0, *ids = NULL;
    const int32_t *numbers;
    const int64_t *wide, one = 1;
    ds_tensor *t = NULL;
    ds_encoding *e = NULL;
    (void)state;
    refuses_null(ds_tensor_info(NULL, &i, &i, &wide));
    refuses_null(ds_tensor_read(NULL, DS_F32, &f, 4));
    refuses_null(ds_tensor_to_dlpack(NULL, NULL));
    refuses_null(ds_tensor_to_dlpack_legacy(NULL, NULL));
    refuses_null(ds_batch_get(NULL, "x", &t));
    refuses_null(ds_engine_create("{}", NULL, NULL));
    refuses_null(ds_plan("{}", NULL, NULL));
    refuses_null(ds_forward(NULL, NULL, &f));
    refuses_null(ds_backward(NULL));
    refuses_null(ds_backward_from(NULL, NULL));
    refuses_null(ds_step(NULL));
    refuses_null(ds_zero_grad(NULL));
    refuses_null(ds_train_batch(NULL, NULL, &f));
    refuses_null(ds_eval(NULL, NULL, &f));
    refuses_null(ds_cancel_create(NULL));
    refuses_null(ds_cancel_set(NULL, 1));
    refuses_null(ds_engine_set(NULL, "x", "1"));
    refuses_null(ds_engine_get(NULL, "x", &text));
    refuses_null(ds_output(NULL, "logits", &t));
    refuses_null(ds_metric(NULL, "loss", &d));
    refuses_null(ds_param_count(NULL, &n));
    refuses_null(ds_param_name(NULL, 0, &name));
    refuses_null(ds_param_info(NULL, "w", &i, &wide, &i));
    refuses_null(ds_param_get(NULL, "w", DS_WEIGHT, &t));
    refuses_null(ds_param_set(NULL, "w", DS_WEIGHT, NULL));
    refuses_null(ds_save(NULL, "x", NULL, NULL));
    refuses_null(ds_load(NULL, "x", NULL, NULL));
    refuses_null(ds_export(NULL, "x", NULL));
    refuses_null(ds_tokenizer_load(NULL, NULL));
    refuses_null(ds_tokenizer_encode(NULL, "x", 1, NULL, 0, 1, &e));
    refuses_null(ds_tokenizer_encode_batch(NULL, NULL, NULL, 0, NULL, NULL));
    refuses_null(ds_tokenizer_decode(NULL, &i, 1, 0, &text, &n));
    refuses_null(ds_encoding_ids(NULL, &numbers, &n));
    refuses_null(ds_encoding_type_ids(NULL, &numbers, &n));
    refuses_null(ds_encoding_offsets(NULL, &wide, &n));
    refuses_null(ds_data_open("{}", NULL, NULL));
    refuses_null(ds_data_open(NULL, NULL, NULL));
    refuses_null(ds_data_create(NULL, NULL, NULL));
    refuses_null(ds_data_next(NULL, NULL));
    refuses_null(ds_graph_create(NULL));
    refuses_null(ds_graph_input(NULL, "x", DS_F32, 1, &one, &i));
    refuses_null(ds_graph_param(NULL, "x", DS_F32, 1, &one, NULL, &i));
    refuses_null(ds_graph_op(NULL, "add", &i, 1, NULL, &i, 1));
    refuses_null(ds_graph_ops_json(NULL));
    refuses_null(ds_graph_model(NULL, "x", NULL, &i, 1, "logits", &i));
    refuses_null(ds_graph_parse("", NULL));
    refuses_null(ds_graph_read(NULL, ""));
    refuses_null(ds_graph_define_op(NULL, "x", NULL));
    refuses_null(ds_graph_output(NULL, "x", 0));
    refuses_null(ds_graph_loss(NULL, 0));
    refuses_null(ds_options_create(NULL));
    refuses_null(ds_options_set_graph(NULL, NULL));
    refuses_null(ds_options_set_cancel(NULL, NULL));
    refuses_null(ds_options_set_mpi(NULL, 0));
    refuses_null(ds_options_set_communicator(NULL, NULL));
    refuses_null(ds_options_set_optimizer(NULL, NULL));
    refuses_null(ds_generate(NULL, &i, 1, NULL, NULL, NULL, &ids, &n));
    refuses_null(ds_generate_batch(NULL, &i, &n, 1, NULL, NULL, NULL, &ids, NULL));
    refuses_null(ds_evaluate(NULL, "{}", NULL, &text));
    refuses_null(ds_score(NULL, "[]", "[]", &text));
    refuses_null(ds_text_stream_create(NULL, 0, NULL));
    refuses_null(ds_text_stream_put(NULL, &i, 1, &text, &n));
    refuses_null(ds_config_describe(NULL));
}

static void destroyed_and_foreign_handles_are_refused(void **state) {
    const float one = 1;
    float back;
    ds_batch *b = NULL;
    ds_cancel *c = NULL;
    ds_tensor *t = f32_tensor(0, NULL, &one), *fresh;
    int i;
    (void)state;
    assert_ok(ds_batch_create(&b));
    assert_fails(DS_E_INVALID_ARGUMENT, "this is a ds_batch", ds_tensor_read((ds_tensor *)b, DS_F32, &back, 4));
    assert_fails(DS_E_INVALID_ARGUMENT, "not a live", ds_tensor_read((ds_tensor *)&back, DS_F32, &back, 4));
    ds_tensor_destroy((ds_tensor *)b); /* another type: nothing happens */
    assert_ok(ds_batch_set(b, "x", t));
    ds_tensor_destroy(t);
    ds_tensor_destroy(t);
    assert_fails(DS_E_STATE, "destroyed", ds_tensor_read(t, DS_F32, &back, 4));
    for (i = 0; i < 100; ++i) { /* its address isn't given to the next ones */
        fresh = f32_tensor(0, NULL, &one);
        assert_ptr_not_equal(fresh, t);
        ds_tensor_destroy(fresh);
    }
    assert_fails(DS_E_STATE, "destroyed", ds_batch_set(b, "x", t));
    ds_batch_destroy(b);
    assert_ok(ds_cancel_create(&c));
    assert_ok(ds_cancel_set(c, 1));
    assert_ok(ds_cancel_set(c, 0));
    assert_fails(DS_E_INVALID_ARGUMENT, "0 or 1", ds_cancel_set(c, 2));
    ds_cancel_destroy(c);
    assert_fails(DS_E_STATE, "destroyed", ds_cancel_set(c, 1));
    ds_cancel_destroy(c);
}

static void many_handles_come_and_go(void **state) {
    ds_batch *all[6000];
    ds_cancel *c;
    int i;
    (void)state;
    for (i = 0; i < 6000; ++i) assert_ok(ds_batch_create(&all[i]));
    for (i = 0; i < 6000; ++i) ds_batch_destroy(all[(i * 7) % 6000]);
    for (i = 0; i < 3000; ++i) {
        assert_ok(ds_cancel_create(&c));
        assert_ok(ds_cancel_set(c, 1));
        ds_cancel_destroy(c);
    }
}

static void a_forked_child_has_no_handles(void **state) {
    const float one = 1;
    ds_tensor *t = f32_tensor(0, NULL, &one);
    ds_cancel *c = NULL;
    float back = 0;
    int status;
    pid_t child;
    (void)state;
    assert_ok(ds_cancel_create(&c));
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        ds_batch *b = NULL;
        int failed = 0;
        failed |= ds_tensor_read(t, DS_F32, &back, 4) != DS_E_STATE || !strstr(ds_last_error(), "fork");
        failed |= (ds_cancel_set(c, 1) != DS_E_STATE) << 1;
        ds_tensor_destroy(t);
        ds_cancel_destroy(c);
        failed |= (ds_tensor_read(t, DS_F32, &back, 4) != DS_E_STATE) << 2;
        failed |= (ds_batch_create(&b) != DS_OK) << 3; /* new ones work */
        failed |= (ds_batch_set(b, "x", t) != DS_E_STATE) << 4;
        ds_batch_destroy(b);
        _exit(failed);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_ok(ds_tensor_read(t, DS_F32, &back, 4));
    assert_true(back == 1);
    ds_tensor_destroy(t);
    ds_cancel_destroy(c);
}

/* A data source whose next() does what a test asks for. */
typedef struct {
    ds_data *data;
    ds_batch *kept;
    int mode, released;
    ds_status inner;
    pthread_barrier_t *inside, *leave;
} Host;

enum { FILLS, USES_ITSELF, DESTROYS_ITSELF, FAILS, ENDS, WAITS, KEEPS_THE_BATCH };

static int32_t next(void *user, ds_batch *b) {
    Host *h = user;
    const float one = 1;
    ds_tensor *t;
    switch (h->mode) {
    case USES_ITSELF: h->inner = ds_data_next(h->data, b); break;
    case DESTROYS_ITSELF: ds_data_destroy(h->data); h->inner = h->released; break;
    case FAILS: return -77;
    case ENDS: return DS_END;
    case WAITS: pthread_barrier_wait(h->inside); pthread_barrier_wait(h->leave); break;
    case KEEPS_THE_BATCH: h->kept = b; break;
    }
    t = f32_tensor(0, NULL, &one);
    assert_ok(ds_batch_set(b, "x", t));
    ds_tensor_destroy(t);
    return DS_OK;
}

static void on_release(void *user) { ++((Host *)user)->released; }

static ds_data *host_data(Host *h, int mode) {
    ds_data_source source;
    memset(&source, 0, sizeof(source));
    source.struct_size = sizeof(source);
    source.user = h;
    source.next = next;
    source.release = on_release;
    memset(h, 0, sizeof(*h));
    h->mode = mode;
    assert_ok(ds_data_create(&source, NULL, &h->data));
    return h->data;
}

static void a_callback_that_uses_its_own_handle_finds_it_busy(void **state) {
    Host h;
    ds_batch *b = NULL;
    (void)state;
    assert_ok(ds_batch_create(&b));
    host_data(&h, USES_ITSELF);
    assert_ok(ds_data_next(h.data, b));
    assert_int_equal(h.inner, DS_E_BUSY);
    assert_int_equal(h.released, 0);
    ds_data_destroy(h.data);
    assert_int_equal(h.released, 1);
    ds_batch_destroy(b);
}

static void destroying_inside_a_callback_waits_for_its_return(void **state) {
    Host h;
    ds_batch *b = NULL;
    ds_tensor *x = NULL;
    (void)state;
    assert_ok(ds_batch_create(&b));
    host_data(&h, DESTROYS_ITSELF);
    assert_ok(ds_data_next(h.data, b));
    assert_int_equal(h.inner, 0); /* not yet released inside */
    assert_int_equal(h.released, 1);
    assert_fails(DS_E_STATE, "destroyed", ds_data_next(h.data, b));
    assert_ok(ds_batch_get(b, "x", &x));
    ds_tensor_destroy(x);
    ds_batch_destroy(b);
}

static void a_batch_lent_to_a_callback_ends_with_it(void **state) {
    Host h;
    ds_batch *b = NULL;
    ds_tensor *x = NULL;
    (void)state;
    assert_ok(ds_batch_create(&b));
    host_data(&h, KEEPS_THE_BATCH);
    assert_ok(ds_data_next(h.data, b));
    assert_fails(DS_E_STATE, "destroyed", ds_batch_get(h.kept, "x", &x));
    ds_data_destroy(h.data);
    ds_batch_destroy(b);
}

static void *run_next(void *user) {
    Host *h = user;
    ds_batch *b = NULL;
    assert_ok(ds_batch_create(&b));
    h->inner = ds_data_next(h->data, b);
    ds_batch_destroy(b);
    return NULL;
}

static void *destroy_it(void *user) {
    Host *h = user;
    ds_data_destroy(h->data);
    assert_int_equal(h->released, 1); /* it waited for the call, and freed the handle itself */
    return NULL;
}

static void a_second_thread_finds_the_handle_busy_and_a_destroy_waits(void **state) {
    Host h;
    pthread_barrier_t inside, leave;
    pthread_t thread, destroyer;
    ds_batch *b = NULL;
    (void)state;
    assert_int_equal(pthread_barrier_init(&inside, NULL, 2), 0);
    assert_int_equal(pthread_barrier_init(&leave, NULL, 2), 0);
    assert_ok(ds_batch_create(&b));
    host_data(&h, WAITS);
    h.inside = &inside;
    h.leave = &leave;
    assert_int_equal(pthread_create(&thread, NULL, run_next, &h), 0);
    pthread_barrier_wait(&inside);
    assert_fails(DS_E_BUSY, "d: this ds_data is in use", ds_data_next(h.data, b));
    assert_int_equal(pthread_create(&destroyer, NULL, destroy_it, &h), 0);
    usleep(20000);
    assert_int_equal(h.released, 0);
    pthread_barrier_wait(&leave);
    pthread_join(thread, NULL);
    pthread_join(destroyer, NULL);
    assert_int_equal(h.inner, DS_OK);
    assert_int_equal(h.released, 1);
    ds_batch_destroy(b);
    pthread_barrier_destroy(&inside);
    pthread_barrier_destroy(&leave);
}

static void a_callback_that_fails_is_told_from_one_that_ends(void **state) {
    Host h;
    ds_batch *b = NULL;
    (void)state;
    assert_ok(ds_batch_create(&b));
    host_data(&h, FAILS);
    assert_fails(DS_E_USER, "-77", ds_data_next(h.data, b));
    h.mode = ENDS;
    assert_int_equal(ds_data_next(h.data, b), DS_END);
    h.mode = FILLS;
    assert_ok(ds_data_next(h.data, b));
    ds_data_destroy(h.data);
    ds_batch_destroy(b);
}

static void structs_of_other_versions_are_read_by_their_size(void **state) {
    struct { ds_data_source known; size_t later[2]; } newer;
    Host h;
    ds_data *d = NULL;
    (void)state;
    memset(&newer, 0, sizeof(newer));
    memset(&h, 0, sizeof(h));
    newer.known.user = &h;
    newer.known.next = next;
    newer.known.release = on_release;
    assert_fails(DS_E_INVALID_ARGUMENT, "struct_size is 0", ds_data_create(&newer.known, NULL, &d));
    newer.known.struct_size = sizeof(newer);
    assert_ok(ds_data_create(&newer.known, NULL, &d)); /* larger, the rest zero */
    ds_data_destroy(d);
    assert_int_equal(h.released, 1);
    newer.later[1] = 1;
    assert_fails(DS_E_UNSUPPORTED, "struct_size", ds_data_create(&newer.known, NULL, &d));
    assert_null(d);
    newer.known.struct_size = offsetof(ds_data_source, release); /* smaller: no release */
    assert_ok(ds_data_create(&newer.known, NULL, &d));
    ds_data_destroy(d);
    newer.known.struct_size = offsetof(ds_data_source, next); /* and without a required field */
    assert_fails(DS_E_INVALID_ARGUMENT, "next", ds_data_create(&newer.known, NULL, &d));
    newer.known.struct_size = sizeof(ds_data_source);
    newer.known.next = NULL;
    assert_fails(DS_E_INVALID_ARGUMENT, "next", ds_data_create(&newer.known, NULL, &d));
    assert_int_equal(h.released, 1); /* never for calls that failed */
}

static int32_t update(void *user, const char *parameter, int64_t step, double lr, float *weight, const float *gradient, float *state,
                      size_t n) {
    (void)user, (void)parameter, (void)step, (void)lr, (void)weight, (void)gradient, (void)state, (void)n;
    return 0;
}

static void options_keep_what_they_are_given(void **state) {
    ds_optimizer_callbacks callbacks;
    ds_options *o = NULL;
    ds_cancel *c = NULL;
    Host first, second;
    (void)state;
    memset(&callbacks, 0, sizeof(callbacks));
    memset(&first, 0, sizeof(first));
    memset(&second, 0, sizeof(second));
    callbacks.struct_size = sizeof(callbacks);
    callbacks.floats_per_element = 2;
    callbacks.user = &first;
    callbacks.release = on_release;
    assert_ok(ds_options_create(&o));
    assert_fails(DS_E_INVALID_ARGUMENT, "update", ds_options_set_optimizer(o, &callbacks));
    callbacks.update = update;
    callbacks.floats_per_element = -1;
    assert_fails(DS_E_INVALID_ARGUMENT, "floats_per_element", ds_options_set_optimizer(o, &callbacks));
    callbacks.floats_per_element = 2;
    assert_ok(ds_options_set_optimizer(o, &callbacks));
    callbacks.user = &second;
    assert_ok(ds_options_set_optimizer(o, &callbacks)); /* replaces the first */
    assert_int_equal(first.released, 1);
    assert_ok(ds_cancel_create(&c));
    assert_ok(ds_options_set_cancel(o, c));
    ds_cancel_destroy(c);
    ds_options_destroy(o);
    assert_int_equal(second.released, 1);
    assert_int_equal(first.released, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {TEST(destroying_null_is_fine),
                                       TEST(every_call_refuses_null),
                                       TEST(destroyed_and_foreign_handles_are_refused),
                                       TEST(many_handles_come_and_go),
                                       TEST(a_forked_child_has_no_handles),
                                       TEST(a_callback_that_uses_its_own_handle_finds_it_busy),
                                       TEST(destroying_inside_a_callback_waits_for_its_return),
                                       TEST(a_batch_lent_to_a_callback_ends_with_it),
                                       TEST(a_second_thread_finds_the_handle_busy_and_a_destroy_waits),
                                       TEST(a_callback_that_fails_is_told_from_one_that_ends),
                                       TEST(structs_of_other_versions_are_read_by_their_size),
                                       TEST(options_keep_what_they_are_given)};
    return RUN(tests);
}
