/* The command line of `train`. */
#ifndef EXAMPLES_ARGS_H
#define EXAMPLES_ARGS_H

typedef struct arguments {
    char* config;       /* JSON text or a path, for ds_engine_create; NULL: the environment's */
    const char* output; /* folder for checkpoints, the report, the summary and the exported model */
    long epochs, steps; /* steps 0: as many as the epochs have */
    long eval_every, eval_rows, patience, save_every;
    const char* eval_data;    /* file with the options of ds_data_open; NULL: the config's data with "take": "test" */
    const char* eval_options; /* JSON; NULL: none */
    const char *title, *prompt;
    int resume, local_rank, export_model, quantized;
    const char *classify, *write; /* a folder: no training */
    char** words;
    int n_words;
} arguments;

arguments read_arguments(int argc, char** argv);

#endif
