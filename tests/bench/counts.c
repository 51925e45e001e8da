/* What counts.sh has counted: the library's work besides kernels. Usage: bench_counts dispatch | tokenizer PATH | plan */
#include <dsrt/dsrt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(ds_status s, const char *what) {
    if (s >= 0) return;
    fprintf(stderr, "%s: %s: %s\n", what, ds_status_name(s), ds_last_error());
    exit(1);
}

/* A chain of one-element operations. */
static void dispatch(void) {
    enum { kOps = 400, kRuns = 5 };
    ds_graph *g;
    ds_options *o;
    ds_engine *e;
    ds_batch *b;
    ds_tensor *t;
    const int64_t one[1] = {1};
    int32_t v;
    must(ds_graph_create(&g), "graph");
    must(ds_graph_input(g, "x", DS_F32, 1, one, &v), "input");
    for (int i = 0; i < kOps; ++i) must(ds_graph_op(g, i % 2 ? "tanh" : "exp", &v, 1, NULL, &v, 1), "op");
    must(ds_graph_output(g, "y", v), "output");
    must(ds_options_create(&o), "options");
    must(ds_options_set_graph(o, g), "options");
    must(ds_engine_create("{\"threads\": 1, \"outputs\": [\"y\"]}", o, &e), "engine");
    must(ds_tensor_create(DS_F32, 1, one, NULL, 0, &t), "tensor");
    must(ds_batch_create(&b), "batch");
    must(ds_batch_set(b, "x", t), "batch");
    for (int i = 0; i < kRuns; ++i) must(ds_eval(e, b, NULL), "eval");
    ds_batch_destroy(b);
    ds_tensor_destroy(t);
    ds_engine_destroy(e);
    ds_options_destroy(o);
    ds_graph_destroy(g);
}

/* Lines of words that a generator spells: some are common, some are not, and some hold digits and signs. */
static void tokenizer(const char *path) {
    static const char *const common[] = {"the ", "of ", "and ", "training ", "is ", "a ", "model ", "It's ", "2026, ", "(f32) ", "ünïcödé ", "\"quoted\" ", "over ", "batches. "};
    ds_tokenizer *t;
    uint32_t state = 1;
    must(ds_tokenizer_load(path, &t), "tokenizer");
    for (int line = 0; line < 200; ++line) {
        char text[512] = "";
        size_t n = 0;
        ds_encoding *e;
        while (n < 300) {
            state = state * 1664525u + 1013904223u;
            if (state >> 30) {
                const char *word = common[(state >> 8) % (sizeof common / sizeof *common)];
                memcpy(text + n, word, strlen(word));
                n += strlen(word);
            } else {
                for (uint32_t length = 2 + (state >> 20) % 9, i = 0; i < length; ++i) state = state * 1664525u + 1013904223u, text[n++] = (char)('a' + (state >> 24) % 26);
                text[n++] = ' ';
            }
        }
        must(ds_tokenizer_encode(t, text, n, NULL, 0, 0, &e), "encode");
        ds_encoding_destroy(e);
    }
    ds_tokenizer_destroy(t);
}

/* GPT-2's twelve layers, from the config to the plan. */
static void plan(void) {
    char *report;
    must(ds_plan("{\"model\": {\"model_type\": \"gpt2\", \"architectures\": [\"GPT2LMHeadModel\"]}, \"train_batch_size\": 4, \"threads\": 1, \"bf16\": {\"enabled\": true},"
                 "\"optimizer\": {\"type\": \"AdamW\", \"params\": {\"lr\": 1e-4}}}", NULL, &report), "plan");
    ds_free(report);
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    if (!strcmp(what, "dispatch") && argc == 2) dispatch();
    else if (!strcmp(what, "tokenizer") && argc == 3) tokenizer(argv[2]);
    else if (!strcmp(what, "plan") && argc == 2) plan();
    else return fprintf(stderr, "usage: bench_counts dispatch | tokenizer PATH | plan\n"), 2;
    return 0;
}
