/* How good the model is on rows of data: ds_evaluate's scores, and what they are called. */
#ifndef EXAMPLES_EVALUATE_H
#define EXAMPLES_EVALUATE_H

#include "common.h"

enum { most_scores = 3 };

/* What a task is known by. */
typedef struct score_kind {
    const char *task, *title; /* title: of the report's chart */
    struct {
        const char *key, *name;
    } scores[most_scores]; /* the first is the one that counts */
    double factor;         /* makes percent of shares */
    const char* unit;
    int rises; /* more is better, up to 100; else the loss decides */
} score_kind;

typedef struct scores {
    double loss;
    const score_kind* kind; /* NULL: the task has no score but the loss */
    double values[most_scores];
    long rows;
} scores;

/* data: as ds_data_open takes it; options: ds_evaluate's, or NULL. DS_OK, or DS_E_CANCELLED; anything else ends the program. */
ds_status evaluate(ds_engine* e, const char* data, const char* options, scores* out);
/* The lower the better, from 0 on. */
double what_counts(const scores* s);
/* ", F1 38.50 %, precision ..." */
void add_scores(text* t, const scores* s);

#endif
