#include "evaluate.h"

#include <stdlib.h>

static size_t count_of(const ds_tensor *t, int32_t *ndim, const int64_t **shape) {
    must(ds_tensor_info(t, NULL, ndim, shape), "evaluation");
    size_t n = 1;
    for (int i = 0; i < *ndim; ++i) n *= (size_t)(*shape)[i];
    return n;
}

/* Rows whose largest logit is their label. */
static long count_right(ds_engine *e, const int64_t *labels, size_t rows) {
    ds_tensor *logits;
    int32_t ndim;
    const int64_t *shape;
    must(ds_output(e, "logits", &logits), "logits");
    const size_t n = count_of(logits, &ndim, &shape), classes = n / rows;
    float *x = malloc(n * sizeof *x);
    must(ds_tensor_read(logits, DS_F32, x, n * sizeof *x), "logits");
    ds_tensor_destroy(logits);
    long right = 0;
    for (size_t r = 0; r < rows; ++r) {
        size_t best = 0;
        for (size_t c = 1; c < classes; ++c)
            if (x[r * classes + c] > x[r * classes + best]) best = c;
        right += (int64_t)best == labels[r];
    }
    free(x);
    return right;
}

ds_status evaluate(ds_engine *e, ds_data *data, scores *out) {
    ds_batch *batch;
    double loss_sum = 0, weight = 0;
    long right = 0, rows_seen = 0;
    int classifies = 1;
    must(ds_batch_create(&batch), "evaluation");
    for (;;) {
        if (must(ds_data_next(data, batch), "test data") == DS_END) break;
        float loss;
        const ds_status s = ds_eval(e, batch, &loss);
        if (s == DS_E_CANCELLED) {
            ds_batch_destroy(batch);
            return s;
        }
        must(s, "evaluation");
        ds_tensor *t;
        if (ds_batch_get(batch, "labels", &t) < 0) must(ds_batch_get(batch, "start_positions", &t), "test data"), classifies = 0;
        int32_t ndim;
        const int64_t *shape;
        const size_t n = count_of(t, &ndim, &shape);
        int64_t *labels = malloc(n * sizeof *labels);
        must(ds_tensor_read(t, DS_I64, labels, n * sizeof *labels), "labels");
        size_t counted = 0;
        for (size_t i = 0; i < n; ++i) counted += labels[i] != -100;
        loss_sum += loss * (double)counted;
        weight += (double)counted;
        rows_seen += (long)shape[0];
        classifies &= ndim == 1;
        if (classifies) right += count_right(e, labels, n);
        free(labels);
        ds_tensor_destroy(t);
    }
    ds_batch_destroy(batch);
    out->loss = weight > 0 ? loss_sum / weight : 0;
    out->accuracy = classifies && weight > 0 ? (double)right / weight : -1;
    out->rows = rows_seen;
    return DS_OK;
}
