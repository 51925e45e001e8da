#include "evaluate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const score_kind kinds[] = {
    {"sequence_classification", "Accuracy, %", {{"accuracy", "accuracy"}}, 100, " %", 1},
    {"token_classification", "Entities, %", {{"f1", "F1"}, {"precision", "precision"}, {"recall", "recall"}}, 100, " %", 1},
    {"question_answering", "Answers, %", {{"f1", "F1"}, {"exact_match", "exact match"}}, 1, " %", 1},
    {"seq2seq", "BLEU", {{"bleu", "BLEU"}}, 1, "", 1},
    {"causal", "Perplexity", {{"perplexity", "perplexity"}}, 1, "", 0},
    {"mlm", "Perplexity", {{"perplexity", "perplexity"}}, 1, "", 0},
};

/* How many labels a batch's mean loss is over. */
static double labels_of(const ds_batch *batch, long *rows) {
    ds_tensor *t;
    if (ds_batch_get(batch, "labels", &t) < 0) must(ds_batch_get(batch, "start_positions", &t), "test data");
    int32_t ndim;
    const int64_t *shape;
    must(ds_tensor_info(t, NULL, &ndim, &shape), "test data");
    *rows += (long)shape[0];
    size_t n = 1;
    for (int i = 0; i < ndim; ++i) n *= (size_t)shape[i];
    int64_t *labels = malloc(n * sizeof *labels);
    must(ds_tensor_read(t, DS_I64, labels, n * sizeof *labels), "labels");
    double counted = 0;
    for (size_t i = 0; i < n; ++i) counted += labels[i] != -100;
    free(labels);
    ds_tensor_destroy(t);
    return counted;
}

static ds_status mean_loss(ds_engine *e, const char *options, scores *out) {
    ds_data *data;
    ds_batch *batch;
    double weight = 0;
    ds_status s = DS_OK;
    must(ds_data_open(options, e, &data), "test data");
    must(ds_batch_create(&batch), "evaluation");
    while (must(ds_data_next(data, batch), "test data") != DS_END) {
        float loss;
        s = ds_eval(e, batch, &loss);
        if (s == DS_E_CANCELLED) break;
        must(s, "evaluation");
        const double labels = labels_of(batch, &out->rows);
        out->loss += labels * loss;
        weight += labels;
    }
    ds_batch_destroy(batch);
    ds_data_destroy(data);
    if (weight > 0) out->loss /= weight;
    return s < 0 ? s : DS_OK;
}

ds_status evaluate(ds_engine *e, const char *data, const char *options, scores *out) {
    char *json;
    memset(out, 0, sizeof *out);
    const ds_status s = ds_evaluate(e, data, options, &json);
    if (s == DS_E_CANCELLED) return s;
    if (s == DS_E_UNSUPPORTED || s == DS_E_INVALID_ARGUMENT) { /* tags may have no names, a task no score */
        if (metric(e, "process") <= 0) fprintf(stderr, "train: no score but the loss: %s\n", ds_last_error());
        return mean_loss(e, data, out);
    }
    must(s, "evaluation");
    out->loss = json_number(json, "loss", 0);
    out->rows = (long)json_number(json, "rows", 0);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; ++k) {
        char task[64];
        snprintf(task, sizeof task, "\"task\":\"%s\"", kinds[k].task);
        if (strstr(json, task) && json_number(json, kinds[k].scores[0].key, -1) >= 0) out->kind = &kinds[k];
    }
    char *types = strstr(json, "\"types\""); /* scores of each kind of entity, under the same names */
    if (types) *types = 0;
    for (int i = 0; out->kind && i < most_scores && out->kind->scores[i].key; ++i)
        out->values[i] = out->kind->factor * json_number(json, out->kind->scores[i].key, 0);
    ds_free(json);
    return DS_OK;
}

double what_counts(const scores *s) { return s->kind && s->kind->rises ? 1 - s->values[0] / 100 : s->loss; }

void add_scores(text *t, const scores *s) {
    for (int i = 0; s->kind && i < most_scores && s->kind->scores[i].key; ++i)
        add(t, ", %s %.2f%s", s->kind->scores[i].name, s->values[i], s->kind->unit);
}
