/* The log: levels, sinks, release, and silence. */
#include "abi_test.h"

#include <unistd.h>

typedef struct {
    int messages, released, quiet;
    int32_t last_level;
    ds_status inner;
} Sink;

static void on_message(int32_t level, const char *component, const char *message, void *user) {
    Sink *s = user;
    ds_batch *b = NULL;
    ++s->messages;
    s->last_level = level;
    assert_true(component[0] && message[0]);
    s->inner = ds_batch_create(&b); /* dsrt may be called, and what that logs comes later, not deeper */
    ds_batch_destroy(b);
    if (s->quiet) return;
    ds_batch_create(NULL);
    ds_batch_create(NULL);
}

static void on_release(void *user) { ++((Sink *)user)->released; }

static void a_failing_call_is_logged_at_debug(void **state) {
    Sink s = {0, 0, 1, -1, -1};
    (void)state;
    assert_ok(ds_set_log(on_message, DS_LOG_DEBUG, &s, on_release));
    assert_int_equal(ds_batch_create(NULL), DS_E_INVALID_ARGUMENT);
    assert_int_equal(s.messages, 1);
    assert_int_equal(s.last_level, DS_LOG_DEBUG);
    assert_int_equal(s.inner, DS_OK);
    assert_ok(ds_set_log(NULL, DS_LOG_WARN, NULL, NULL));
    assert_int_equal(s.released, 1);
    assert_int_equal(ds_batch_create(NULL), DS_E_INVALID_ARGUMENT);
    assert_int_equal(s.messages, 1);
}

static void a_sink_that_causes_messages_does_not_run_for_ever(void **state) {
    Sink s = {0, 0, 0, -1, -1};
    (void)state;
    assert_ok(ds_set_log(on_message, DS_LOG_TRACE, &s, on_release));
    assert_int_equal(ds_batch_create(NULL), DS_E_INVALID_ARGUMENT);
    assert_int_equal(s.messages, 1 + 2); /* the call's, and what its delivery caused; what that caused is dropped */
    assert_ok(ds_set_log(NULL, DS_LOG_WARN, NULL, NULL));
    assert_int_equal(s.released, 1);
}

static void levels_filter(void **state) {
    Sink s = {0, 0, 1, -1, -1};
    (void)state;
    assert_ok(ds_set_log(on_message, DS_LOG_INFO, &s, on_release));
    assert_int_equal(ds_batch_create(NULL), DS_E_INVALID_ARGUMENT);
    assert_ok(ds_set_log(on_message, DS_LOG_OFF, &s, on_release));
    assert_int_equal(s.released, 1);
    assert_int_equal(ds_batch_create(NULL), DS_E_INVALID_ARGUMENT);
    assert_int_equal(s.messages, 0);
    assert_ok(ds_set_log(NULL, DS_LOG_WARN, NULL, NULL));
    assert_int_equal(s.released, 2);
}

static void a_failed_call_keeps_the_sink_and_releases_nothing(void **state) {
    Sink s = {0, 0, 1, -1, -1}, refused = {0, 0, 1, -1, -1};
    (void)state;
    assert_ok(ds_set_log(on_message, DS_LOG_DEBUG, &s, on_release));
    assert_fails(DS_E_INVALID_ARGUMENT, "level", ds_set_log(on_message, 6, &refused, on_release));
    assert_fails(DS_E_INVALID_ARGUMENT, "level", ds_set_log(on_message, -1, &refused, on_release));
    assert_int_equal(refused.released, 0);
    assert_int_equal(s.released, 0);
    assert_int_equal(s.messages, 2);
    assert_ok(ds_set_log(NULL, DS_LOG_WARN, NULL, NULL));
}

static void nothing_is_printed_below_warn(void **state) {
    int ends[2], out, err;
    char c;
    (void)state;
    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    out = dup(1);
    err = dup(2);
    dup2(ends[1], 1);
    dup2(ends[1], 2);
    ds_set_log(NULL, DS_LOG_TRACE, NULL, NULL);
    ds_batch_create(NULL);
    fflush(NULL);
    dup2(out, 1);
    dup2(err, 2);
    close(out);
    close(err);
    close(ends[1]);
    assert_int_equal(read(ends[0], &c, 1), 0); /* the end of an empty pipe */
    close(ends[0]);
}

int main(void) {
    const struct CMUnitTest tests[] = {TEST(a_failing_call_is_logged_at_debug), TEST(a_sink_that_causes_messages_does_not_run_for_ever),
                                       TEST(levels_filter), TEST(a_failed_call_keeps_the_sink_and_releases_nothing),
                                       TEST(nothing_is_printed_below_warn)};
    return RUN(tests);
}
