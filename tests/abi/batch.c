/* Batches. */
#include "abi_test.h"

static void contents_stay_as_of_the_call(void **state) {
    const int64_t two = 2;
    const float first[2] = {1, 2}, second[2] = {3, 4};
    float back[2];
    ds_batch *b = NULL;
    ds_tensor *t = f32_tensor(1, &two, first), *out = NULL;
    (void)state;
    assert_ok(ds_batch_create(&b));
    assert_ok(ds_batch_set(b, "input_ids", t));
    ds_tensor_destroy(t);
    assert_ok(ds_batch_get(b, "input_ids", &out));
    t = f32_tensor(1, &two, second);
    assert_ok(ds_batch_set(b, "input_ids", t)); /* replaces */
    ds_tensor_destroy(t);
    assert_ok(ds_tensor_read(out, DS_F32, back, sizeof(back)));
    assert_memory_equal(back, first, sizeof(first));
    ds_tensor_destroy(out);
    assert_ok(ds_batch_get(b, "input_ids", &out));
    ds_batch_destroy(b); /* any order */
    assert_ok(ds_tensor_read(out, DS_F32, back, sizeof(back)));
    assert_memory_equal(back, second, sizeof(second));
    ds_tensor_destroy(out);
}

static void missing_names_are_told_with_those_there_are(void **state) {
    const float one = 1;
    ds_batch *b = NULL;
    ds_tensor *t = f32_tensor(0, NULL, &one), *out = t;
    (void)state;
    assert_ok(ds_batch_create(&b));
    assert_fails(DS_E_NOT_FOUND, "none", ds_batch_get(b, "labels", &out));
    assert_null(out);
    assert_ok(ds_batch_set(b, "labels", t));
    assert_fails(DS_E_NOT_FOUND, "labels", ds_batch_get(b, "label", &out));
    ds_tensor_destroy(t);
    ds_batch_destroy(b);
}

static void null_and_empty_names_are_refused(void **state) {
    const float one = 1;
    ds_batch *b = NULL;
    ds_tensor *t = f32_tensor(0, NULL, &one), *out = NULL;
    (void)state;
    assert_ok(ds_batch_create(&b));
    assert_fails(DS_E_INVALID_ARGUMENT, "name", ds_batch_set(b, NULL, t));
    assert_fails(DS_E_INVALID_ARGUMENT, "name", ds_batch_set(b, "", t));
    assert_fails(DS_E_INVALID_ARGUMENT, "UTF-8", ds_batch_set(b, "\xc3(", t));
    assert_fails(DS_E_INVALID_ARGUMENT, "t must not be NULL", ds_batch_set(b, "x", NULL));
    assert_fails(DS_E_INVALID_ARGUMENT, "b must not be NULL", ds_batch_set(NULL, "x", t));
    assert_fails(DS_E_INVALID_ARGUMENT, "name", ds_batch_get(b, NULL, &out));
    assert_fails(DS_E_INVALID_ARGUMENT, "out", ds_batch_get(b, "x", NULL));
    ds_tensor_destroy(t);
    ds_batch_destroy(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {TEST(contents_stay_as_of_the_call), TEST(missing_names_are_told_with_those_there_are),
                                       TEST(null_and_empty_names_are_refused)};
    return RUN(tests);
}
