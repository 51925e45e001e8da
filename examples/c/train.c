/* Trains the model of examples/first/config.json, keeps a checkpoint, and lets the model write. Run it from the root of the repository:
       cc -std=c99 examples/c/train.c $(pkg-config --cflags --libs dsrt) -o train && ./train FOLDER STEPS [--resume]
   STEPS counts from the beginning of training, across runs. The last column is the loss again, bit by bit: all languages print the same. */
#include <dsrt/dsrt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fails(ds_status s) { return s < 0 && fprintf(stderr, "%s: %s\n", ds_status_name(s), ds_last_error()); }

static int steps(ds_engine *engine, ds_data *data, double until) {
    double step = 0;
    ds_metric(engine, "global_steps", &step);
    while (step < until) {
        float loss;
        uint32_t bits;
        ds_status s = ds_train_batch(engine, data, &loss);
        if (fails(s)) return 1;
        if (s == DS_END) continue; /* the next call begins the next epoch */
        ds_metric(engine, "global_steps", &step);
        memcpy(&bits, &loss, sizeof bits);
        printf("step %.0f  loss %.4f  %08x\n", step, loss, (unsigned)bits);
    }
    return 0;
}

static int write_on(ds_engine *engine) {
    ds_tokenizer *tokenizer = NULL;
    ds_encoding *prompt = NULL;
    const int32_t *ids;
    int32_t *made = NULL;
    char *text = NULL, *c;
    size_t n;
    int failed = fails(ds_tokenizer_load("examples/pretrain/tokenizer.json", &tokenizer)) ||
                 fails(ds_tokenizer_encode(tokenizer, "'Twas ", 6, NULL, 0, 1, &prompt)) || fails(ds_encoding_ids(prompt, &ids, &n)) ||
                 fails(ds_generate(engine, ids, n, "{\"max_new_tokens\": 60, \"temperature\": 0}", NULL, NULL, &made, &n)) ||
                 fails(ds_tokenizer_decode(tokenizer, made, n, 1, &text, NULL));
    if (!failed) {
        printf("writes: ");
        for (c = text; *c; ++c) *c == '\n' ? fputs(" / ", stdout) : putchar(*c);
        putchar('\n');
    }
    ds_free(text);
    ds_free(made);
    ds_encoding_destroy(prompt);
    ds_tokenizer_destroy(tokenizer);
    return failed;
}

int main(int argc, char **argv) {
    ds_engine *engine = NULL;
    ds_data *data = NULL;
    double step = 0;
    int failed;
    if (argc < 3) return fprintf(stderr, "usage: train FOLDER STEPS [--resume]\n"), 2;
    failed = fails(ds_engine_create("examples/first/config.json", NULL, &engine)) || fails(ds_data_open(NULL, engine, &data));
    if (!failed && argc > 3) {
        failed = fails(ds_load(engine, argv[1], NULL, NULL)) || fails(ds_metric(engine, "global_steps", &step));
        if (!failed) printf("resumed at step %.0f\n", step);
    }
    failed = failed || steps(engine, data, atof(argv[2])) || fails(ds_save(engine, argv[1], NULL, NULL)) || write_on(engine);
    ds_data_destroy(data);
    ds_engine_destroy(engine);
    return failed;
}
