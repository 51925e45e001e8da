/* A host that lives on a libuv loop: steps run on libuv's worker threads, the loop's timer ticks meanwhile, and what the steps found arrives on the
   loop. The loop is the host's alone when it ends. */
#include "tiny_model.h"

#include <uv.h>

typedef struct {
    uv_work_t work;
    uv_timer_t timer;
    uv_async_t told;
    ds_engine *engine;
    ds_batch *batch;
    double heard; /* by the loop: the last step it was told of */
    int ticks, steps;
    float first, last;
    ds_status status;
    char error[512];
} Host;

static void tick(uv_timer_t *t) {
    Host *h = t->data;
    double steps;
    ++h->ticks;
    if (ds_metric(h->engine, "global_steps", &steps) == DS_OK && steps > h->heard) h->heard = steps; /* beside a running call */
}

static void told(uv_async_t *a) { ++((Host *)a->data)->steps; }

static void train(uv_work_t *w) {
    Host *h = w->data;
    int i;
    for (i = 0; i < 300 && h->status >= 0; ++i) {
        h->status = ds_forward(h->engine, h->batch, i ? &h->last : &h->first);
        if (h->status >= 0) h->status = ds_backward(h->engine);
        if (h->status >= 0) h->status = ds_step(h->engine);
        if (h->status >= 0) uv_async_send(&h->told);
    }
    if (h->status < 0) snprintf(h->error, sizeof(h->error), "%s", ds_last_error());
}

static void done(uv_work_t *w, int status) {
    Host *h = w->data;
    assert_int_equal(status, 0);
    uv_close((uv_handle_t *)&h->timer, NULL);
    uv_close((uv_handle_t *)&h->told, NULL);
}

static void the_loop_turns_while_an_engine_trains(void **state) {
    uv_loop_t loop;
    Host h;
    (void)state;
    memset(&h, 0, sizeof(h));
    h.engine = engine_of("{" TINY_MODEL ", \"train_micro_batch_size_per_gpu\": 2, \"optimizer\": {\"type\": \"AdamW\", \"params\": {\"lr\": 0.01}}}");
    h.batch = tiny_batch(1, 1);
    assert_int_equal(uv_loop_init(&loop), 0);
    h.work.data = h.timer.data = h.told.data = &h;
    uv_timer_init(&loop, &h.timer);
    uv_timer_start(&h.timer, tick, 0, 1);
    uv_async_init(&loop, &h.told, told);
    h.told.data = &h;
    assert_int_equal(uv_queue_work(&loop, &h.work, train, done), 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_string_equal(h.error, "");
    assert_true(h.last < h.first);
    assert_true(h.steps >= 1);
    assert_true(h.ticks >= 2);
    assert_true(h.heard >= 1);
    assert_int_equal(uv_loop_close(&loop), 0); /* nothing of anybody else's is on it */
    ds_batch_destroy(h.batch);
    ds_engine_destroy(h.engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {TEST(the_loop_turns_while_an_engine_trains)};
    return RUN(tests);
}
