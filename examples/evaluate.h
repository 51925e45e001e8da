/* Loss, and accuracy where rows have a class, over all of a data source. */
#ifndef EXAMPLES_EVALUATE_H
#define EXAMPLES_EVALUATE_H

#include "common.h"

typedef struct scores {
    double loss;
    double accuracy; /* below 0: the model does not classify rows */
    long rows;
} scores;

/* DS_OK, or DS_E_CANCELLED; anything else ends the program. */
ds_status evaluate(ds_engine *e, ds_data *data, scores *out);

#endif
