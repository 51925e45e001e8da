/* Codes, versions, the last error, build info. */
#include "abi_test.h"

#include <pthread.h>

static void every_code_has_its_name(void **state) {
    static const struct { ds_status code; const char *name; } rows[] = {
        {0, "DS_OK"}, {1, "DS_SKIPPED"}, {2, "DS_PENDING"}, {3, "DS_END"}, {-1, "DS_E_INVALID_ARGUMENT"}, {-2, "DS_E_CONFIG"},
        {-3, "DS_E_NOT_FOUND"}, {-4, "DS_E_IO"}, {-5, "DS_E_CORRUPT"}, {-6, "DS_E_OUT_OF_MEMORY"}, {-7, "DS_E_UNSUPPORTED"}, {-8,
                                                                                                                              "DS_E_STATE"},
        {-9, "DS_E_BUSY"}, {-10, "DS_E_COMM"}, {-11, "DS_E_TIMEOUT"}, {-12, "DS_E_CANCELLED"}, {-13, "DS_E_DEVICE"}, {-14, "DS_E_USER"},
        {-15, "DS_E_INTERNAL"}};
    size_t i;
    (void)state;
    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); ++i) assert_string_equal(ds_status_name(rows[i].code), rows[i].name);
    assert_non_null(ds_status_name(4));
    assert_non_null(ds_status_name(-16));
    assert_non_null(ds_status_name(INT32_MIN));
}

static void versions_agree_with_the_header(void **state) {
    (void)state;
    assert_string_equal(ds_version(), "0.1.0");
    assert_int_equal(ds_abi_version() >> 16, DS_ABI_VERSION >> 16);
    assert_true(ds_abi_version() >= DS_ABI_VERSION);
}

static void build_info_is_json_with_its_parts(void **state) {
    static const char *const keys[] = {"\"version\"", "\"compiler\"", "\"cpu\"", "\"in_use\"", "\"optional\"", "\"devices\""};
    const char *info = ds_build_info();
    size_t i;
    (void)state;
    assert_int_equal(info[0], '{');
    assert_int_equal(info[strlen(info) - 1], '}');
    for (i = 0; i < sizeof(keys) / sizeof(keys[0]); ++i)
        if (!strstr(info, keys[i])) fail_msg("%s lacks %s", info, keys[i]);
    assert_ptr_equal(info, ds_build_info());
}

static void the_last_error_stays_until_the_next_failure(void **state) {
    ds_batch *b = NULL;
    const char *text;
    char copy[512];
    (void)state;
    assert_fails(DS_E_INVALID_ARGUMENT, "out", ds_batch_create(NULL));
    text = ds_last_error();
    strncpy(copy, text, sizeof(copy) - 1);
    copy[sizeof(copy) - 1] = 0;
    assert_ok(ds_batch_create(&b));
    ds_batch_destroy(b);
    ds_batch_destroy(b); /* a second time: refused, and silent */
    ds_free(NULL);
    assert_ptr_equal(text, ds_last_error());
    assert_string_equal(copy, ds_last_error());
}

static void *empty_in_a_new_thread(void *unused) {
    (void)unused;
    return ds_last_error()[0] ? (void *)1 : NULL;
}

static void the_last_error_is_of_this_thread(void **state) {
    pthread_t thread;
    void *failed;
    (void)state;
    assert_fails(DS_E_INVALID_ARGUMENT, "out", ds_batch_create(NULL));
    assert_int_equal(pthread_create(&thread, NULL, empty_in_a_new_thread, NULL), 0);
    assert_int_equal(pthread_join(thread, &failed), 0);
    assert_null(failed);
}

static void the_last_error_is_valid_utf8_whatever_the_argument(void **state) {
    ds_batch *b = NULL;
    ds_tensor *t = NULL;
    (void)state;
    assert_ok(ds_batch_create(&b));
    assert_fails(DS_E_INVALID_ARGUMENT, "\xef\xbf\xbd", ds_batch_get(b, "a\xff\xfe", &t));
    assert_null(strchr(ds_last_error(), '\xff'));
    ds_batch_destroy(b);
}

static void config_describe_lists_keys(void **state) {
    static const char *const keys[] = {"train_batch_size", "gradient_clipping", "optimizer", "scheduler", "fp16", "param_groups",
                                       "loss_normalization"};
    char *text = NULL;
    size_t i;
    (void)state;
    assert_fails(DS_E_INVALID_ARGUMENT, "text", ds_config_describe(NULL));
    assert_ok(ds_config_describe(&text));
    for (i = 0; i < sizeof(keys) / sizeof(keys[0]); ++i)
        if (!strstr(text, keys[i])) fail_msg("%s is missing", keys[i]);
    ds_free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {TEST(every_code_has_its_name),
                                       TEST(versions_agree_with_the_header),
                                       TEST(build_info_is_json_with_its_parts),
                                       TEST(the_last_error_stays_until_the_next_failure),
                                       TEST(the_last_error_is_of_this_thread),
                                       TEST(the_last_error_is_valid_utf8_whatever_the_argument),
                                       TEST(config_describe_lists_keys)};
    return RUN(tests);
}
