#include "use.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common.h"

/* An engine that only runs the exported model, in this process alone. */
static ds_engine *open_model(const char *folder, ds_tokenizer **tokenizer) {
    ds_engine *e;
    text config = {NULL, 0};
    add(&config, "{\"model\": ");
    add_json(&config, folder);
    add(&config, ", \"distributed\": \"none\"}");
    must(ds_tokenizer_load(folder, tokenizer), "tokenizer");
    must(ds_engine_create(config.data, NULL, &e), folder);
    free(config.data);
    return e;
}

/* The name of class i in config.json's "id2label". */
static void label_name(const char *config, int i, char *name, size_t size) {
    snprintf(name, size, "class %d", i);
    char key[32];
    snprintf(key, sizeof key, "\"%d\"", i);
    const char *at = strstr(config, "\"id2label\"");
    if (at) at = strstr(at, key);
    if (at) at = strchr(at + strlen(key), '"');
    const char *end = at ? strchr(at + 1, '"') : NULL;
    if (end) snprintf(name, size, "%.*s", (int)(end - at - 1), at + 1);
}

static void classify_one(ds_engine *e, const ds_tokenizer *tokenizer, const char *config, const char *sentence) {
    ds_batch *batch;
    ds_tensor *logits;
    const int64_t *shape;
    must(ds_batch_create(&batch), "batch");
    must(ds_tokenizer_encode_batch(tokenizer, &sentence, NULL, 1, "{\"truncation\": true, \"max_length\": 128}", batch), "tokenizer");
    must(ds_eval(e, batch, NULL), "evaluation");
    must(ds_output(e, "logits", &logits), "logits");
    must(ds_tensor_info(logits, NULL, NULL, &shape), "logits");
    const int n = (int)shape[1];
    float *x = malloc((size_t)n * sizeof *x);
    must(ds_tensor_read(logits, DS_F32, x, (size_t)n * sizeof *x), "logits");
    int best = 0;
    for (int c = 1; c < n; ++c)
        if (x[c] > x[best]) best = c;
    double sum = 0;
    for (int c = 0; c < n; ++c) sum += exp(x[c] - x[best]);
    char name[64];
    label_name(config, best, name, sizeof name);
    printf("%s (%.1f %%): %s\n", name, 100 / sum, sentence);
    fflush(stdout);
    free(x);
    ds_tensor_destroy(logits);
    ds_batch_destroy(batch);
}

void classify(const char *folder, char **sentences, int n) {
    ds_tokenizer *tokenizer;
    ds_engine *e = open_model(folder, &tokenizer);
    char *path = join(folder, "config.json"), *config = read_text(path), *line = NULL;
    size_t capacity = 0;
    const int asks = n == 0 && isatty(STDIN_FILENO);
    for (int i = 0; i < n; ++i) classify_one(e, tokenizer, config, sentences[i]);
    while (n == 0) {
        if (asks) printf("sentence> "), fflush(stdout);
        if (getline(&line, &capacity, stdin) < 0) break;
        line[strcspn(line, "\r\n")] = 0;
        if (*line) classify_one(e, tokenizer, config, line);
    }
    if (asks) printf("\n");
    free(line);
    free(config);
    free(path);
    ds_engine_destroy(e);
    ds_tokenizer_destroy(tokenizer);
}

void continue_text(const char *folder, const char *prompt) {
    ds_tokenizer *tokenizer;
    ds_engine *e = open_model(folder, &tokenizer);
    ds_encoding *encoding;
    const int32_t *ids;
    size_t n, n_new;
    int32_t *new_ids;
    char *out;
    must(ds_tokenizer_encode(tokenizer, prompt, strlen(prompt), NULL, 0, 1, &encoding), "prompt");
    must(ds_encoding_ids(encoding, &ids, &n), "prompt");
    must(ds_generate(e, ids, n, "{\"max_new_tokens\": 240, \"temperature\": 0.8, \"top_k\": 40}", NULL, NULL, &new_ids, &n_new), "generation");
    must(ds_tokenizer_decode(tokenizer, new_ids, n_new, 1, &out, NULL), "generation");
    printf("%s%s\n", prompt, out);
    ds_free(out);
    ds_free(new_ids);
    ds_encoding_destroy(encoding);
    ds_engine_destroy(e);
    ds_tokenizer_destroy(tokenizer);
}
