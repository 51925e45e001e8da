/* Tensors: copies in and out, and every way to ask for one that can't be. */
#include "abi_test.h"

static const int64_t two_by_three[2] = {2, 3};

static void contents_come_back_in_any_type(void **state) {
    const float values[6] = {0, 1, -2.5f, 3.25f, 100, -7};
    float f[6];
    double d[6];
    int32_t i32[6];
    int64_t i64[6];
    uint16_t half[6];
    ds_tensor *t = f32_tensor(2, two_by_three, values);
    size_t i;
    (void)state;
    assert_ok(ds_tensor_read(t, DS_F32, f, sizeof(f)));
    assert_memory_equal(f, values, sizeof(f));
    assert_ok(ds_tensor_read(t, DS_F64, d, sizeof(d)));
    assert_ok(ds_tensor_read(t, DS_I32, i32, sizeof(i32)));
    assert_ok(ds_tensor_read(t, DS_I64, i64, sizeof(i64)));
    for (i = 0; i < 6; ++i) {
        assert_true(d[i] == (double)values[i]);
        assert_int_equal(i32[i], (int32_t)values[i]);
        assert_int_equal(i64[i], (int64_t)values[i]);
    }
    assert_ok(ds_tensor_read(t, DS_F16, half, sizeof(half)));
    assert_int_equal(half[1], 0x3c00);
    assert_int_equal(half[2], 0xc100);
    assert_ok(ds_tensor_read(t, DS_BF16, half, sizeof(half)));
    assert_int_equal(half[1], 0x3f80);
    ds_tensor_destroy(t);
}

static void info_gives_type_and_shape(void **state) {
    int32_t dtype = -1, ndim = -1;
    const int64_t *shape = NULL;
    ds_tensor *t = NULL;
    (void)state;
    assert_ok(ds_tensor_create(DS_I64, 2, two_by_three, NULL, 0, &t));
    assert_ok(ds_tensor_info(t, &dtype, &ndim, &shape));
    assert_int_equal(dtype, DS_I64);
    assert_int_equal(ndim, 2);
    assert_memory_equal(shape, two_by_three, sizeof(two_by_three));
    assert_ok(ds_tensor_info(t, NULL, NULL, NULL));
    ds_tensor_destroy(t);
}

static void null_and_no_bytes_are_zeros(void **state) {
    float values[6] = {1, 1, 1, 1, 1, 1};
    const float zeros[6] = {0, 0, 0, 0, 0, 0};
    ds_tensor *t = NULL;
    (void)state;
    assert_ok(ds_tensor_create(DS_F32, 2, two_by_three, NULL, 0, &t));
    assert_ok(ds_tensor_read(t, DS_F32, values, sizeof(values)));
    assert_memory_equal(values, zeros, sizeof(zeros));
    ds_tensor_destroy(t);
}

static void rank_zero_and_empty_shapes(void **state) {
    const double one = 1.5;
    const int64_t none[2] = {0, 4};
    double back = 0;
    int32_t ndim = -1;
    const int64_t *shape = NULL;
    ds_tensor *t = NULL;
    (void)state;
    assert_ok(ds_tensor_create(DS_F64, 0, NULL, &one, sizeof(one), &t));
    assert_ok(ds_tensor_info(t, NULL, &ndim, &shape));
    assert_int_equal(ndim, 0);
    assert_non_null(shape);
    assert_ok(ds_tensor_read(t, DS_F64, &back, sizeof(back)));
    assert_true(back == one);
    ds_tensor_destroy(t);
    assert_ok(ds_tensor_create(DS_F32, 2, none, NULL, 0, &t));
    assert_ok(ds_tensor_read(t, DS_F32, NULL, 0));
    ds_tensor_destroy(t);
}

static void host_memory_may_have_any_alignment(void **state) {
    unsigned char raw[1 + 4 * sizeof(double)], back[1 + 4 * sizeof(double)];
    const double values[4] = {1, 2, 3, 4};
    const int64_t four = 4;
    ds_tensor *t = NULL;
    (void)state;
    memcpy(raw + 1, values, sizeof(values));
    assert_ok(ds_tensor_create(DS_F64, 1, &four, raw + 1, sizeof(values), &t));
    assert_ok(ds_tensor_read(t, DS_F64, back + 1, sizeof(values)));
    assert_memory_equal(raw + 1, back + 1, sizeof(values));
    assert_ok(ds_tensor_read(t, DS_I32, back + 1, 4 * sizeof(int32_t)));
    ds_tensor_destroy(t);
}

static void any_nonzero_byte_is_true(void **state) {
    const unsigned char bytes[3] = {0, 1, 7};
    int32_t back[3];
    const int64_t three = 3;
    ds_tensor *t = NULL;
    (void)state;
    assert_ok(ds_tensor_create(DS_BOOL, 1, &three, bytes, 3, &t));
    assert_ok(ds_tensor_read(t, DS_I32, back, sizeof(back)));
    assert_int_equal(back[1], 1);
    assert_int_equal(back[2], 1);
    ds_tensor_destroy(t);
}

static void eight_bit_floats_can_be_read_as_wider(void **state) {
    const unsigned char e4m3[3] = {0x38, 0xb8, 0x7e}; /* 1, -1, 448 */
    const int64_t three = 3;
    float f[3];
    unsigned char raw[3];
    ds_tensor *t = NULL;
    (void)state;
    assert_ok(ds_tensor_create(DS_F8E4M3, 1, &three, e4m3, 3, &t));
    assert_ok(ds_tensor_read(t, DS_F32, f, sizeof(f)));
    assert_true(f[0] == 1 && f[1] == -1 && f[2] == 448);
    assert_ok(ds_tensor_read(t, DS_F8E4M3, raw, 3));
    assert_memory_equal(raw, e4m3, 3);
    assert_fails(DS_E_UNSUPPORTED, "f8e5m2", ds_tensor_read(t, DS_F8E5M2, raw, 3));
    ds_tensor_destroy(t);
}

static void bad_arguments_say_what_would_do(void **state) {
    const float values[6] = {0};
    const int64_t negative[2] = {2, -3}, huge[2] = {(int64_t)1 << 40, (int64_t)1 << 40}, large[1] = {(int64_t)1 << 50};
    float back[6];
    ds_tensor *t = (ds_tensor *)&values;
    (void)state;
    assert_fails(DS_E_INVALID_ARGUMENT, "out", ds_tensor_create(DS_F32, 2, two_by_three, values, sizeof(values), NULL));
    assert_fails(DS_E_INVALID_ARGUMENT, "dtype 11", ds_tensor_create(11, 2, two_by_three, values, sizeof(values), &t));
    assert_null(t);
    assert_fails(DS_E_INVALID_ARGUMENT, "dtype -1", ds_tensor_create(-1, 2, two_by_three, values, sizeof(values), &t));
    assert_fails(DS_E_INVALID_ARGUMENT, "24 bytes, but bytes is 20", ds_tensor_create(DS_F32, 2, two_by_three, values, 20, &t));
    assert_fails(DS_E_INVALID_ARGUMENT, "NULL", ds_tensor_create(DS_F32, 2, two_by_three, NULL, 24, &t));
    assert_fails(DS_E_INVALID_ARGUMENT, "shape", ds_tensor_create(DS_F32, 2, NULL, values, 24, &t));
    assert_fails(DS_E_INVALID_ARGUMENT, "ndim", ds_tensor_create(DS_F32, -1, two_by_three, values, 24, &t));
    assert_fails(DS_E_INVALID_ARGUMENT, "ndim", ds_tensor_create(DS_F32, 33, two_by_three, values, 24, &t));
    assert_fails(DS_E_INVALID_ARGUMENT, "-3", ds_tensor_create(DS_F32, 2, negative, NULL, 0, &t));
    assert_fails(DS_E_INVALID_ARGUMENT, "more elements", ds_tensor_create(DS_F32, 2, huge, NULL, 0, &t));
    assert_fails(DS_E_OUT_OF_MEMORY, "bytes", ds_tensor_create(DS_F64, 1, large, NULL, 0, &t));
    assert_null(t);
    t = f32_tensor(2, two_by_three, values);
    assert_fails(DS_E_INVALID_ARGUMENT, "24 bytes, but bytes is 12", ds_tensor_read(t, DS_F32, back, 12));
    assert_fails(DS_E_INVALID_ARGUMENT, "dtype 99", ds_tensor_read(t, 99, back, 24));
    assert_fails(DS_E_INVALID_ARGUMENT, "dst", ds_tensor_read(t, DS_F32, NULL, 24));
    ds_tensor_destroy(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {TEST(contents_come_back_in_any_type),        TEST(info_gives_type_and_shape),
                                       TEST(null_and_no_bytes_are_zeros),           TEST(rank_zero_and_empty_shapes),
                                       TEST(host_memory_may_have_any_alignment),    TEST(any_nonzero_byte_is_true),
                                       TEST(eight_bit_floats_can_be_read_as_wider), TEST(bad_arguments_say_what_would_do)};
    return RUN(tests);
}
