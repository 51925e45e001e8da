/* A causal model of a few hundred numbers, and batches for it. */
#ifndef TINY_MODEL_H
#define TINY_MODEL_H

#include "abi_test.h"

#define TINY_MODEL                                                                                                               \
    "\"model\": {\"architectures\": [\"GPT2LMHeadModel\"], \"model_type\": \"gpt2\", \"vocab_size\": 11, \"n_positions\": 16, "    \
    "\"n_embd\": 8, \"n_layer\": 1, \"n_head\": 2, \"resid_pdrop\": 0, \"embd_pdrop\": 0, \"attn_pdrop\": 0}, \"threads\": 1"
#define TINY_CONFIG                                                                                       \
    "{" TINY_MODEL ", \"train_micro_batch_size_per_gpu\": 2, \"gradient_accumulation_steps\": 2, "          \
    "\"optimizer\": {\"type\": \"AdamW\", \"params\": {\"lr\": 0.01}}}"

static inline ds_engine *engine_of(const char *config) {
    ds_engine *e = NULL;
    assert_ok(ds_engine_create(config, NULL, &e));
    return e;
}

static inline void set_ids(ds_batch *b, const char *name, int64_t first) {
    const int64_t shape[2] = {2, 4};
    int64_t ids[8], i;
    ds_tensor *t = NULL;
    for (i = 0; i < 8; ++i) ids[i] = (first + i * i) % 11;
    assert_ok(ds_tensor_create(DS_I64, 2, shape, ids, sizeof(ids), &t));
    assert_ok(ds_batch_set(b, name, t));
    ds_tensor_destroy(t);
}

/* Two rows of four ids; with labels the same ids. */
static inline ds_batch *tiny_batch(int64_t first, int labels) {
    ds_batch *b = NULL;
    assert_ok(ds_batch_create(&b));
    set_ids(b, "input_ids", first);
    if (labels) set_ids(b, "labels", first);
    return b;
}

static inline void read_param(ds_engine *e, const char *name, int32_t what, float *values, size_t n) {
    ds_tensor *t = NULL;
    assert_ok(ds_param_get(e, name, what, &t));
    assert_ok(ds_tensor_read(t, DS_F32, values, n * sizeof(float)));
    ds_tensor_destroy(t);
}

static inline double metric(const ds_engine *e, const char *name) {
    double value = -1;
    assert_ok(ds_metric(e, name, &value));
    return value;
}

#endif
