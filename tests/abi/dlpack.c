/* DLPack, both structs: what is consumed when, who may write, what is copied. */
#include "abi_test.h"

#include <dsrt/dlpack.h>

/* A producer with one 2 x 3 f32 tensor, that counts how often it was deleted. */
typedef struct {
    DLManagedTensorVersioned managed;
    int64_t shape[2], strides[2];
    float values[6];
    int deleted;
} Producer;

static void on_delete(DLManagedTensorVersioned *m) { ++((Producer *)m->manager_ctx)->deleted; }

static void set_up(Producer *p) {
    int i;
    memset(p, 0, sizeof(*p));
    for (i = 0; i < 6; ++i) p->values[i] = (float)i;
    p->shape[0] = 2;
    p->shape[1] = 3;
    p->strides[0] = 3;
    p->strides[1] = 1;
    p->managed.version.major = 1;
    p->managed.manager_ctx = p;
    p->managed.deleter = on_delete;
    p->managed.dl_tensor.data = p->values;
    p->managed.dl_tensor.device.device_type = kDLCPU;
    p->managed.dl_tensor.ndim = 2;
    p->managed.dl_tensor.dtype.code = kDLFloat;
    p->managed.dl_tensor.dtype.bits = 32;
    p->managed.dl_tensor.dtype.lanes = 1;
    p->managed.dl_tensor.shape = p->shape;
    p->managed.dl_tensor.strides = p->strides;
}

static void import_shares_memory_until_destroyed(void **state) {
    Producer p;
    float back[6];
    ds_tensor *t = NULL;
    (void)state;
    set_up(&p);
    assert_ok(ds_tensor_from_dlpack(&p.managed, &t));
    p.values[4] = 42; /* no copy: the producer's later writes are seen */
    assert_ok(ds_tensor_read(t, DS_F32, back, sizeof(back)));
    assert_memory_equal(back, p.values, sizeof(back));
    assert_int_equal(p.deleted, 0);
    ds_tensor_destroy(t);
    assert_int_equal(p.deleted, 1);
}

static void absent_strides_and_a_byte_offset_are_understood(void **state) {
    Producer p;
    float back[3];
    ds_tensor *t = NULL;
    (void)state;
    set_up(&p);
    p.managed.dl_tensor.strides = NULL;
    p.managed.dl_tensor.byte_offset = 3 * sizeof(float);
    p.shape[0] = 1;
    assert_ok(ds_tensor_from_dlpack(&p.managed, &t));
    assert_ok(ds_tensor_read(t, DS_F32, back, sizeof(back)));
    assert_memory_equal(back, p.values + 3, sizeof(back));
    ds_tensor_destroy(t);
    assert_int_equal(p.deleted, 1);
}

static void other_strides_are_copied_and_consumed_at_once(void **state) {
    const float transposed[6] = {0, 3, 1, 4, 2, 5};
    float back[6];
    Producer p;
    ds_tensor *t = NULL;
    (void)state;
    set_up(&p);
    p.shape[0] = 3;
    p.shape[1] = 2;
    p.strides[0] = 1;
    p.strides[1] = 3;
    assert_ok(ds_tensor_from_dlpack(&p.managed, &t));
    assert_int_equal(p.deleted, 1);
    assert_ok(ds_tensor_read(t, DS_F32, back, sizeof(back)));
    assert_memory_equal(back, transposed, sizeof(back));
    ds_tensor_destroy(t);
    assert_int_equal(p.deleted, 1);
}

static void a_failed_import_leaves_the_struct_to_the_caller(void **state) {
    Producer p;
    ds_tensor *t = (ds_tensor *)&p;
    (void)state;
    set_up(&p);
    assert_fails(DS_E_INVALID_ARGUMENT, "out", ds_tensor_from_dlpack(&p.managed, NULL));
    assert_fails(DS_E_INVALID_ARGUMENT, "src", ds_tensor_from_dlpack(NULL, &t));
    assert_null(t);
    p.managed.version.major = 2;
    assert_fails(DS_E_UNSUPPORTED, "version 2", ds_tensor_from_dlpack(&p.managed, &t));
    p.managed.version.major = 1;
    p.managed.dl_tensor.device.device_type = kDLCUDA;
    assert_fails(DS_E_UNSUPPORTED, "device type 2", ds_tensor_from_dlpack(&p.managed, &t));
    p.managed.dl_tensor.device.device_type = kDLCPU;
    p.managed.dl_tensor.dtype.code = kDLComplex;
    assert_fails(DS_E_UNSUPPORTED, "code 5", ds_tensor_from_dlpack(&p.managed, &t));
    p.managed.dl_tensor.dtype.code = kDLFloat;
    p.managed.dl_tensor.dtype.lanes = 4;
    assert_fails(DS_E_UNSUPPORTED, "4 lanes", ds_tensor_from_dlpack(&p.managed, &t));
    p.managed.dl_tensor.dtype.lanes = 1;
    p.managed.dl_tensor.data = NULL;
    assert_fails(DS_E_INVALID_ARGUMENT, "data", ds_tensor_from_dlpack(&p.managed, &t));
    p.managed.dl_tensor.data = p.values;
    p.shape[1] = -3;
    assert_fails(DS_E_INVALID_ARGUMENT, "-3", ds_tensor_from_dlpack(&p.managed, &t));
    p.managed.dl_tensor.ndim = -1;
    assert_fails(DS_E_INVALID_ARGUMENT, "ndim", ds_tensor_from_dlpack(&p.managed, &t));
    assert_null(t);
    assert_int_equal(p.deleted, 0);
}

static void export_describes_and_outlives_the_tensor(void **state) {
    const float values[6] = {1, 2, 3, 4, 5, 6};
    const int64_t shape[2] = {2, 3};
    DLManagedTensorVersioned *m = NULL;
    ds_tensor *t = f32_tensor(2, shape, values);
    (void)state;
    assert_ok(ds_tensor_to_dlpack(t, &m));
    assert_int_equal(m->version.major, 1);
    assert_int_equal(m->flags & DLPACK_FLAG_BITMASK_READ_ONLY, 0);
    assert_int_equal(m->dl_tensor.device.device_type, kDLCPU);
    assert_int_equal(m->dl_tensor.ndim, 2);
    assert_int_equal(m->dl_tensor.dtype.code, kDLFloat);
    assert_int_equal(m->dl_tensor.dtype.bits, 32);
    assert_int_equal(m->dl_tensor.dtype.lanes, 1);
    assert_int_equal(m->dl_tensor.shape[1], 3);
    assert_int_equal(m->dl_tensor.strides[0], 3);
    assert_int_equal(m->dl_tensor.strides[1], 1);
    assert_int_equal((uintptr_t)m->dl_tensor.data % 64, 0);
    ds_tensor_destroy(t);
    assert_memory_equal((char *)m->dl_tensor.data + m->dl_tensor.byte_offset, values, sizeof(values));
    m->deleter(m);
}

static void writes_through_an_export_reach_the_tensor_but_no_batch(void **state) {
    const float values[6] = {1, 2, 3, 4, 5, 6};
    const int64_t shape[2] = {2, 3};
    float back[6];
    DLManagedTensorVersioned *m = NULL;
    ds_tensor *t = f32_tensor(2, shape, values), *held = NULL;
    ds_batch *b = NULL;
    (void)state;
    assert_ok(ds_batch_create(&b));
    assert_ok(ds_batch_set(b, "before", t));
    assert_ok(ds_tensor_to_dlpack(t, &m));
    assert_ok(ds_batch_set(b, "after", t));
    ((float *)m->dl_tensor.data)[0] = 99;
    assert_ok(ds_tensor_read(t, DS_F32, back, sizeof(back)));
    assert_true(back[0] == 99);
    assert_ok(ds_batch_get(b, "before", &held));
    assert_ok(ds_tensor_read(held, DS_F32, back, sizeof(back)));
    assert_true(back[0] == 1);
    ds_tensor_destroy(held);
    assert_ok(ds_batch_get(b, "after", &held));
    assert_ok(ds_tensor_read(held, DS_F32, back, sizeof(back)));
    assert_true(back[0] == 1);
    m->deleter(m);
    /* And what a batch gives out can be lent without opening the batch to writes. */
    assert_ok(ds_tensor_to_dlpack(held, &m));
    ((float *)m->dl_tensor.data)[0] = 77;
    m->deleter(m);
    ds_tensor_destroy(held);
    assert_ok(ds_batch_get(b, "after", &held));
    assert_ok(ds_tensor_read(held, DS_F32, back, sizeof(back)));
    assert_true(back[0] == 1);
    ds_tensor_destroy(held);
    ds_batch_destroy(b);
    ds_tensor_destroy(t);
}

static void read_only_stays_read_only(void **state) {
    Producer p;
    DLManagedTensorVersioned *m = NULL;
    DLManagedTensor *legacy = NULL;
    ds_tensor *t = NULL;
    (void)state;
    set_up(&p);
    p.managed.flags = DLPACK_FLAG_BITMASK_READ_ONLY;
    assert_ok(ds_tensor_from_dlpack(&p.managed, &t));
    assert_ok(ds_tensor_to_dlpack(t, &m));
    assert_int_equal(m->flags & DLPACK_FLAG_BITMASK_READ_ONLY, DLPACK_FLAG_BITMASK_READ_ONLY);
    assert_ptr_equal(m->dl_tensor.data, p.values);
    assert_ok(ds_tensor_to_dlpack_legacy(t, &legacy)); /* has no flags: so it is a copy */
    assert_ptr_not_equal(legacy->dl_tensor.data, p.values);
    legacy->deleter(legacy);
    ds_tensor_destroy(t);
    assert_int_equal(p.deleted, 0); /* the export still reads it */
    m->deleter(m);
    assert_int_equal(p.deleted, 1);
}

static void a_batch_has_the_contents_as_of_the_call(void **state) {
    Producer p;
    float back[6];
    ds_tensor *t = NULL, *held = NULL;
    ds_batch *b = NULL;
    (void)state;
    set_up(&p);
    assert_ok(ds_batch_create(&b));
    assert_ok(ds_tensor_from_dlpack(&p.managed, &t));
    assert_ok(ds_batch_set(b, "x", t));
    ds_tensor_destroy(t);
    assert_int_equal(p.deleted, 1);
    p.values[0] = 1000;
    assert_ok(ds_batch_get(b, "x", &held));
    assert_ok(ds_tensor_read(held, DS_F32, back, sizeof(back)));
    assert_true(back[0] == 0);
    ds_tensor_destroy(held);
    ds_batch_destroy(b);
}

static int legacy_deleted;
static void on_delete_legacy(DLManagedTensor *m) {
    (void)m;
    ++legacy_deleted;
}

static void the_legacy_struct_works_both_ways(void **state) {
    Producer p;
    DLManagedTensor in, *out = NULL;
    int32_t dtype = -1;
    ds_tensor *t = NULL;
    (void)state;
    set_up(&p);
    legacy_deleted = 0;
    memset(&in, 0, sizeof(in));
    in.dl_tensor = p.managed.dl_tensor;
    in.deleter = on_delete_legacy;
    assert_fails(DS_E_INVALID_ARGUMENT, "src", ds_tensor_from_dlpack_legacy(NULL, &t));
    assert_ok(ds_tensor_from_dlpack_legacy(&in, &t));
    assert_ok(ds_tensor_info(t, &dtype, NULL, NULL));
    assert_int_equal(dtype, DS_F32);
    assert_ok(ds_tensor_to_dlpack_legacy(t, &out));
    assert_ptr_equal(out->dl_tensor.data, p.values);
    ds_tensor_destroy(t);
    assert_int_equal(legacy_deleted, 0);
    out->deleter(out);
    assert_int_equal(legacy_deleted, 1);
}

static void every_type_makes_the_round_trip(void **state) {
    static const struct { int32_t dtype; uint8_t code, bits; } rows[] = {
        {DS_F32, kDLFloat, 32}, {DS_F16, kDLFloat, 16}, {DS_BF16, kDLBfloat, 16}, {DS_F64, kDLFloat, 64}, {DS_I32, kDLInt, 32}, {DS_I64,
                                                                                                                                 kDLInt,
                                                                                                                                     64},
        {DS_U8, kDLUInt, 8}, {DS_BOOL, kDLBool, 8}, {DS_I8, kDLInt, 8}, {DS_F8E4M3, kDLFloat8_e4m3fn, 8}, {DS_F8E5M2, kDLFloat8_e5m2, 8}};
    const int64_t shape[1] = {4};
    size_t i;
    (void)state;
    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); ++i) {
        DLManagedTensorVersioned *m = NULL;
        ds_tensor *t = NULL, *back = NULL;
        int32_t dtype = -1;
        assert_ok(ds_tensor_create(rows[i].dtype, 1, shape, NULL, 0, &t));
        assert_ok(ds_tensor_to_dlpack(t, &m));
        assert_int_equal(m->dl_tensor.dtype.code, rows[i].code);
        assert_int_equal(m->dl_tensor.dtype.bits, rows[i].bits);
        assert_ok(ds_tensor_from_dlpack(m, &back)); /* our own struct, consumed by ourselves */
        assert_ok(ds_tensor_info(back, &dtype, NULL, NULL));
        assert_int_equal(dtype, rows[i].dtype);
        ds_tensor_destroy(t);
        ds_tensor_destroy(back);
    }
}

static void rank_zero_and_empty_tensors_cross(void **state) {
    const float one = 1;
    const int64_t none[2] = {0, 3};
    float back = 0;
    DLManagedTensorVersioned *m = NULL;
    ds_tensor *t = f32_tensor(0, NULL, &one), *again = NULL;
    (void)state;
    assert_ok(ds_tensor_to_dlpack(t, &m));
    assert_int_equal(m->dl_tensor.ndim, 0);
    assert_ok(ds_tensor_from_dlpack(m, &again));
    assert_ok(ds_tensor_read(again, DS_F32, &back, sizeof(back)));
    assert_true(back == 1);
    ds_tensor_destroy(t);
    ds_tensor_destroy(again);
    t = f32_tensor(2, none, NULL);
    assert_ok(ds_tensor_to_dlpack(t, &m));
    assert_null(m->dl_tensor.data);
    assert_ok(ds_tensor_from_dlpack(m, &again));
    ds_tensor_destroy(t);
    ds_tensor_destroy(again);
}

int main(void) {
    const struct CMUnitTest tests[] = {TEST(import_shares_memory_until_destroyed),
                                       TEST(absent_strides_and_a_byte_offset_are_understood),
                                       TEST(other_strides_are_copied_and_consumed_at_once),
                                       TEST(a_failed_import_leaves_the_struct_to_the_caller),
                                       TEST(export_describes_and_outlives_the_tensor),
                                       TEST(writes_through_an_export_reach_the_tensor_but_no_batch),
                                       TEST(read_only_stays_read_only),
                                       TEST(a_batch_has_the_contents_as_of_the_call),
                                       TEST(the_legacy_struct_works_both_ways),
                                       TEST(every_type_makes_the_round_trip),
                                       TEST(rank_zero_and_empty_tensors_cross)};
    return RUN(tests);
}
