/* Data without an engine: a host's own iterator, and files. */
#include "abi_test.h"

#include <unistd.h>

typedef struct {
    int64_t at, rows, released;
} Counter;

static int32_t next(void *user, ds_batch *b) {
    Counter *c = user;
    const int64_t one = 1;
    ds_tensor *t = NULL;
    ds_status status;
    if (c->at == c->rows) {
        c->at = 0;
        return DS_END;
    }
    status = ds_tensor_create(DS_I64, 1, &one, &c->at, sizeof(c->at), &t);
    if (status == DS_OK) status = ds_batch_set(b, "input_ids", t);
    ds_tensor_destroy(t);
    ++c->at;
    return status;
}

static void release(void *user) { ++((Counter *)user)->released; }

static void epochs_end_and_begin_again(void **state) {
    ds_data_source source;
    Counter c = {0, 3, 0};
    ds_data *d = NULL;
    ds_batch *b = NULL;
    ds_tensor *t = NULL;
    int epoch;
    int64_t i, value;
    (void)state;
    memset(&source, 0, sizeof(source));
    source.struct_size = sizeof(source);
    source.user = &c;
    source.next = next;
    source.release = release;
    assert_ok(ds_data_create(&source, NULL, &d));
    assert_ok(ds_batch_create(&b));
    for (epoch = 0; epoch < 2; ++epoch) {
        for (i = 0; i < 3; ++i) {
            assert_ok(ds_data_next(d, b));
            assert_ok(ds_batch_get(b, "input_ids", &t));
            assert_ok(ds_tensor_read(t, DS_I64, &value, sizeof(value)));
            assert_int_equal(value, i);
            ds_tensor_destroy(t);
        }
        assert_int_equal(ds_data_next(d, b), DS_END);
        assert_fails(DS_E_NOT_FOUND, "none", ds_batch_get(b, "input_ids", &t));
    }
    ds_batch_destroy(b);
    assert_int_equal(c.released, 0);
    ds_data_destroy(d);
    assert_int_equal(c.released, 1);
}

static void bad_options_are_told(void **state) {
    ds_data *d = (ds_data *)state;
    (void)state;
    assert_fails(DS_E_INVALID_ARGUMENT, "out", ds_data_open("{}", NULL, NULL));
    assert_int_equal(ds_data_open("{\"files\": [", NULL, &d) < 0, 1);
    assert_null(d);
    assert_fails(DS_E_INVALID_ARGUMENT, "object", ds_data_open("[]", NULL, &d));
    assert_true(ds_data_open("{\"no_such_option\": 1}", NULL, &d) < 0);
    assert_non_null(strstr(ds_last_error(), "no_such_option"));
    assert_null(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {TEST(epochs_end_and_begin_again), TEST(bad_options_are_told)};
    return RUN(tests);
}
