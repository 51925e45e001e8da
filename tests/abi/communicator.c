/* A communicator of the host's own: two "processes", threads of this one, exchange through a queue, and train as one process with two ranks does. */
#include <pthread.h>

#include "abi_test.h"

typedef struct message {
    int32_t from, to;
    uint32_t lane;
    size_t bytes;
    struct message *next;
    char data[];
} message;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static message *first, **last = &first;
static int released, aborted;

typedef struct process {
    int32_t rank;
    int fails;           /* its receive answers an error */
    pthread_t caller;    /* the only thread that may be seen in the callbacks */
    int strangers;       /* calls on other threads */
    ds_status status;
    char error[400];
    float losses[4], weight;
} process;

static int32_t send_to(void *user, int32_t to, uint32_t lane, const void *data, size_t bytes) {
    process *p = user;
    message *m = malloc(sizeof(message) + bytes);
    if (!pthread_equal(pthread_self(), p->caller)) ++p->strangers;
    m->from = p->rank;
    m->to = to;
    m->lane = lane;
    m->bytes = bytes;
    m->next = NULL;
    memcpy(m->data, data, bytes);
    pthread_mutex_lock(&mutex);
    *last = m;
    last = &m->next;
    pthread_mutex_unlock(&mutex);
    return DS_OK;
}

static int32_t receive_from(void *user, int32_t from, uint32_t lane, void *data, size_t bytes, int32_t wait_ms) {
    process *p = user;
    message **at, *m;
    (void)wait_ms;
    if (!pthread_equal(pthread_self(), p->caller)) ++p->strangers;
    if (p->fails) return -77;
    pthread_mutex_lock(&mutex);
    for (at = &first; *at; at = &(*at)->next)
        if ((*at)->from == from && (*at)->to == p->rank && (*at)->lane == lane) break;
    m = *at;
    if (m) {
        *at = m->next;
        if (last == &m->next) last = at;
    }
    pthread_mutex_unlock(&mutex);
    if (!m) return DS_PENDING;
    assert_int_equal(m->bytes, bytes);
    memcpy(data, m->data, bytes);
    free(m);
    return DS_OK;
}

static void on_abort(void *user, const char *why) {
    (void)user;
    assert_true(strlen(why) > 0);
    ++aborted;
}

static void on_release(void *user) {
    (void)user;
    ++released;
}

static const char *const config =
    "{\"model\": {\"model_type\": \"gpt2\", \"architectures\": [\"GPT2LMHeadModel\"], \"n_layer\": 1, \"n_embd\": 16, \"n_head\": 2, \"vocab_size\": 32, \"n_positions\": 16},"
    " \"train_micro_batch_size_per_gpu\": 1, \"parallel\": {\"data\": 2}, \"threads\": 1, \"optimizer\": \"AdamW\", \"comm\": {\"deadline_seconds\": 5}}";

static void train(ds_engine *e, int32_t row, int32_t rows, process *p) {
    int step;
    ds_tensor *t = NULL;
    const char *name = NULL;
    for (step = 0; step < 4 && p->status >= 0; ++step) {
        int32_t ids[16], i;
        const int64_t shape[2] = {rows, 8};
        ds_batch *b = NULL;
        for (i = 0; i < 8 * rows; ++i) ids[i] = (i + 8 * row + 3 * step) * 7 % 32;
        ds_batch_create(&b);
        ds_tensor_create(DS_I32, 2, shape, ids, (size_t)rows * 32, &t);
        ds_batch_set(b, "input_ids", t);
        ds_batch_set(b, "labels", t);
        ds_tensor_destroy(t);
        p->status = ds_forward(e, b, &p->losses[step]);
        ds_batch_destroy(b);
        if (p->status >= 0) p->status = ds_backward(e);
        if (p->status >= 0) p->status = ds_step(e);
    }
    if (p->status >= 0) p->status = ds_param_name(e, 0, &name);
    if (p->status >= 0) p->status = ds_param_get(e, name, DS_WEIGHT, &t);
    if (p->status >= 0) {
        float all[32 * 16];
        p->status = ds_tensor_read(t, DS_F32, all, sizeof all);
        p->weight = all[17];
        ds_tensor_destroy(t);
    }
    if (p->status < 0) snprintf(p->error, sizeof p->error, "%s", ds_last_error());
}

static void *run(void *user) {
    process *p = user;
    ds_communicator_callbacks callbacks = {sizeof callbacks, NULL, 0, 2, send_to, receive_from, on_abort, on_release};
    ds_options *o = NULL;
    ds_engine *e = NULL;
    callbacks.user = p;
    callbacks.rank = p->rank;
    p->caller = pthread_self();
    ds_options_create(&o);
    p->status = ds_options_set_communicator(o, &callbacks);
    if (p->status >= 0) p->status = ds_engine_create(config, o, &e);
    if (p->status < 0) snprintf(p->error, sizeof p->error, "%s", ds_last_error());
    else train(e, p->rank, 1, p);
    ds_engine_destroy(e);
    ds_options_destroy(o);
    return NULL;
}

static void both(process *a, process *b) {
    pthread_t one, two;
    pthread_create(&one, NULL, run, a);
    pthread_create(&two, NULL, run, b);
    pthread_join(one, NULL);
    pthread_join(two, NULL);
}

static void trains_as_one_process_does(void **state) {
    process a = {0}, b = {0}, alone = {0};
    ds_engine *e = NULL;
    (void)state;
    b.rank = 1;
    released = aborted = 0;
    both(&a, &b);
    assert_string_equal(a.error, "");
    assert_string_equal(b.error, "");
    assert_int_equal(a.strangers + b.strangers, 0);
    assert_int_equal(released, 2);
    assert_int_equal(aborted, 0);
    assert_ok(ds_engine_create(config, NULL, &e));
    train(e, 0, 2, &alone);
    assert_string_equal(alone.error, "");
    ds_engine_destroy(e);
    assert_memory_equal(a.losses, alone.losses, sizeof a.losses);
    assert_memory_equal(b.losses, alone.losses, sizeof b.losses);
    assert_true(a.weight == alone.weight && b.weight == alone.weight);
}

static void ends_with_the_hosts_error(void **state) {
    process a = {0}, b = {0};
    (void)state;
    b.rank = 1;
    b.fails = 1;
    aborted = 0;
    both(&a, &b);
    assert_int_equal(b.status, DS_E_USER);
    assert_true(strstr(b.error, "receive()") != NULL);
    assert_true(a.status == DS_E_TIMEOUT || a.status == DS_E_COMM);
    assert_true(aborted >= 1);
}

static void refuses_what_is_incomplete(void **state) {
    ds_communicator_callbacks callbacks = {sizeof callbacks, NULL, 0, 2, send_to, NULL, NULL, NULL};
    ds_options *o = NULL;
    (void)state;
    assert_ok(ds_options_create(&o));
    assert_fails(DS_E_INVALID_ARGUMENT, "receive", ds_options_set_communicator(o, &callbacks));
    callbacks.receive = receive_from;
    callbacks.rank = 2;
    assert_fails(DS_E_INVALID_ARGUMENT, "rank 2", ds_options_set_communicator(o, &callbacks));
    ds_options_destroy(o);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(trains_as_one_process_does), cmocka_unit_test(ends_with_the_hosts_error), cmocka_unit_test(refuses_what_is_incomplete)};
    return cmocka_run_group_tests_name("communicator", tests, NULL, NULL);
}
