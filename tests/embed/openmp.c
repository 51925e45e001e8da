/* A host that computes with OpenMP itself: its team, its settings and its sums are the same before, during and after training. */
#include "tiny_model.h"

#include <omp.h>
#include <pthread.h>

static double sum(int n) {
    double s = 0;
    int i;
#pragma omp parallel for reduction(+ : s) schedule(static)
    for (i = 1; i <= n; ++i) s += (double)i; /* exact: the team may add in any order */
    return s;
}

static int team(void) {
    int n = 0;
#pragma omp parallel
    {
#pragma omp single
        n = omp_get_num_threads();
    }
    return n;
}

static void *train(void *steps) {
    ds_engine *e = engine_of(TINY_CONFIG);
    ds_batch *b = tiny_batch(1, 1);
    float loss;
    int i;
    for (i = 0; i < *(int *)steps; ++i) {
        assert_ok(ds_forward(e, b, &loss));
        assert_ok(ds_backward(e));
        assert_true(ds_step(e) >= 0);
    }
    ds_batch_destroy(b);
    ds_engine_destroy(e);
    return NULL;
}

static void the_hosts_team_stays(void **state) {
    int steps = 20, i;
    pthread_t other;
    double before;
    omp_sched_t kind;
    int chunk;
    (void)state;
    omp_set_num_threads(3);
    omp_set_dynamic(0);
    omp_set_schedule(omp_sched_guided, 7);
    before = sum(1 << 20);
    train(&steps);
    assert_int_equal(omp_get_max_threads(), 3);
    assert_int_equal(team(), 3);
    assert_int_equal(omp_get_dynamic(), 0);
    omp_get_schedule(&kind, &chunk);
    assert_true(kind == omp_sched_guided && chunk == 7);
    assert_true(sum(1 << 20) == before);
    steps = 200;
    assert_int_equal(pthread_create(&other, NULL, train, &steps), 0);
    for (i = 0; i < 20; ++i) assert_true(sum(1 << 18) == sum(1 << 18));
    pthread_join(other, NULL);
    assert_int_equal(team(), 3);
}

/* Engines inside of a parallel region: one a thread of the team. */
static void engines_live_inside_a_parallel_region(void **state) {
    float losses[3] = {0, 0, 0};
    int i;
    (void)state;
#pragma omp parallel for num_threads(3)
    for (i = 0; i < 3; ++i) {
        ds_engine *e = NULL;
        ds_batch *b = NULL;
        ds_tensor *t = NULL;
        const int64_t shape[2] = {1, 4}, ids[4] = {1, 2, 3, 4};
        if (!ds_engine_create("{" TINY_MODEL ", \"train_micro_batch_size_per_gpu\": 1, \"optimizer\": {\"type\": \"SGD\", \"params\": {\"lr\": 0.1}}}", NULL, &e) &&
            !ds_tensor_create(DS_I64, 2, shape, ids, sizeof(ids), &t) && !ds_batch_create(&b) && !ds_batch_set(b, "input_ids", t) &&
            !ds_batch_set(b, "labels", t) && !ds_forward(e, b, &losses[i]) && !ds_backward(e) && !ds_step(e))
            (void)ds_forward(e, b, &losses[i]);
        ds_tensor_destroy(t);
        ds_batch_destroy(b);
        ds_engine_destroy(e);
    }
    assert_true(losses[0] > 0);
    assert_true(losses[0] == losses[1] && losses[1] == losses[2]);
}

int main(void) {
    const struct CMUnitTest tests[] = {TEST(the_hosts_team_stays), TEST(engines_live_inside_a_parallel_region)};
    return RUN(tests);
}
