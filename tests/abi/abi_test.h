/* What the tests of the ABI share. They are C99, use cmocka, and see the library through <dsrt/dsrt.h> only. */
#ifndef ABI_TEST_H
#define ABI_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dsrt/dsrt.h>

/* assert_ok(ds_...(...)): tells the library's message when it fails. */
#define assert_ok(call)                                                                              \
    do {                                                                                             \
        const ds_status status_ = (call);                                                            \
        if (status_ != DS_OK) fail_msg("%s: %s: %s", #call, ds_status_name(status_), ds_last_error()); \
    } while (0)

/* assert_fails(DS_E_..., "part of the message", ds_...(...)) */
#define assert_fails(code, part, call)                                                                                   \
    do {                                                                                                                 \
        const ds_status status_ = (call);                                                                                \
        if (status_ != (code)) fail_msg("%s: is %s, not %s: %s", #call, ds_status_name(status_), #code, ds_last_error()); \
        if (!strstr(ds_last_error(), part)) fail_msg("%s: \"%s\" lacks \"%s\"", #call, ds_last_error(), part);            \
    } while (0)

static inline ds_tensor *f32_tensor(int32_t ndim, const int64_t *shape, const float *values) {
    size_t n = 1;
    ds_tensor *t = NULL;
    int32_t d;
    for (d = 0; d < ndim; ++d) n *= (size_t)shape[d];
    assert_ok(ds_tensor_create(DS_F32, ndim, shape, values, n * sizeof(float), &t));
    return t;
}

/* A batch of `rows` x `width` floats under "x". */
static inline ds_batch *x_batch(int64_t rows, int64_t width, const float *values) {
    const int64_t shape[2] = {rows, width};
    ds_tensor *t = f32_tensor(2, shape, values);
    ds_batch *b = NULL;
    assert_ok(ds_batch_create(&b));
    assert_ok(ds_batch_set(b, "x", t));
    ds_tensor_destroy(t);
    return b;
}

static inline void write_file(const char *path, const char *text) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

#define TEST(name) cmocka_unit_test(name)
#define RUN(tests) cmocka_run_group_tests(tests, NULL, NULL)

#endif
