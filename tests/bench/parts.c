/* Times single parts through the public ABI. Usage:
     bench_parts dispatch                    nanoseconds of a kernel call that does next to nothing
     bench_parts checkpoint DIR              saving and loading GPT-2 124M with its moments, beside a raw write and read of as many bytes
     bench_parts tokenizer PATH TEXT         encoding the lines of a text
     bench_parts create FOLDER               from ds_engine_create to the end of the first step, weights from a Hugging Face folder
   Prints one JSON line. */
#define _POSIX_C_SOURCE 200809L
#include <dirent.h>
#include <dsrt/dsrt.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
static void must(ds_status s, const char *what) {
    if (s >= 0) return;
    fprintf(stderr, "%s: %s: %s\n", what, ds_status_name(s), ds_last_error());
    exit(1);
}
static void die(const char *what) {
    perror(what);
    exit(1);
}
static ds_batch *ids_batch(int64_t rows, int64_t length, int labels) {
    const int64_t shape[2] = {rows, length};
    int32_t *ids = malloc(sizeof *ids * (size_t)(rows * length));
    ds_tensor *t;
    ds_batch *b;
    for (int64_t i = 0; i < rows * length; ++i) ids[i] = (int32_t)(7919 * i % 30000);
    must(ds_tensor_create(DS_I32, 2, shape, ids, sizeof *ids * (size_t)(rows * length), &t), "tensor");
    must(ds_batch_create(&b), "batch");
    must(ds_batch_set(b, "input_ids", t), "batch");
    if (labels) must(ds_batch_set(b, "labels", t), "batch");
    ds_tensor_destroy(t);
    free(ids);
    return b;
}
static void step(ds_engine *e, const ds_batch *b) {
    must(ds_forward(e, b, NULL), "forward");
    must(ds_backward(e), "backward");
    must(ds_step(e), "step");
}

/* A chain of n one-element operations; the time of an evaluation less that of a short chain. */
static double evaluation_seconds(int n) {
    ds_graph *g;
    ds_options *o;
    ds_engine *e;
    ds_batch *b;
    ds_tensor *t;
    const int64_t one[1] = {1};
    int32_t v;
    must(ds_graph_create(&g), "graph");
    must(ds_graph_input(g, "x", DS_F32, 1, one, &v), "input");
    for (int i = 0; i < n; ++i) must(ds_graph_op(g, i % 2 ? "tanh" : "exp", &v, 1, NULL, &v, 1), "op");
    must(ds_graph_output(g, "y", v), "output");
    must(ds_options_create(&o), "options");
    must(ds_options_set_graph(o, g), "options");
    must(ds_engine_create("{\"threads\": 1, \"outputs\": [\"y\"]}", o, &e), "engine");
    must(ds_tensor_create(DS_F32, 1, one, NULL, 0, &t), "tensor");
    must(ds_batch_create(&b), "batch");
    must(ds_batch_set(b, "x", t), "batch");
    double best = 1e9;
    for (int i = 0; i < 200; ++i) {
        const double begin = now();
        must(ds_eval(e, b, NULL), "eval");
        if (now() - begin < best) best = now() - begin;
    }
    ds_batch_destroy(b);
    ds_tensor_destroy(t);
    ds_engine_destroy(e);
    ds_options_destroy(o);
    ds_graph_destroy(g);
    return best;
}
static void dispatch(void) {
    const int few = 100, many = 2100;
    printf("{\"dispatch_ns\": %.1f}\n", 1e9 * (evaluation_seconds(many) - evaluation_seconds(few)) / (many - few));
}

static int64_t folder_bytes(const char *folder) {
    int64_t sum = 0;
    char path[4096];
    DIR *d = opendir(folder);
    if (!d) die(folder);
    for (struct dirent *entry; (entry = readdir(d));) {
        struct stat s;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (stat(path, &s) == 0 && S_ISREG(s.st_mode)) sum += s.st_size;
    }
    closedir(d);
    return sum;
}
static void raw(const char *path, int64_t bytes, double *write_s, double *read_s) {
    enum { kPiece = 8 << 20 };
    char *piece = malloc(kPiece);
    memset(piece, 7, kPiece);
    double begin = now();
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    if (fd < 0) die(path);
    for (int64_t left = bytes; left > 0; left -= kPiece)
        if (write(fd, piece, (size_t)(left < kPiece ? left : kPiece)) < 0) die(path);
    fsync(fd);
    close(fd);
    *write_s = now() - begin;
    begin = now();
    fd = open(path, O_RDONLY);
    while (read(fd, piece, kPiece) > 0) {}
    close(fd);
    *read_s = now() - begin;
    unlink(path);
    free(piece);
}
static void checkpoint(const char *dir) {
    ds_engine *e;
    char path[4096];
    double save, load, write_s, read_s;
    must(ds_engine_create("{\"model\": {\"model_type\": \"gpt2\", \"architectures\": [\"GPT2LMHeadModel\"]}, \"train_batch_size\": 1,"
                          "\"optimizer\": {\"type\": \"AdamW\", \"params\": {\"lr\": 1e-4}}}", NULL, &e), "engine");
    ds_batch *b = ids_batch(1, 16, 1);
    step(e, b);
    double begin = now();
    must(ds_save(e, dir, "bench", NULL), "save");
    save = now() - begin;
    begin = now();
    must(ds_load(e, dir, "bench", NULL), "load");
    load = now() - begin;
    snprintf(path, sizeof path, "%s/bench", dir);
    const int64_t bytes = folder_bytes(path);
    snprintf(path, sizeof path, "%s/raw", dir);
    raw(path, bytes, &write_s, &read_s);
    printf("{\"bytes\": %lld, \"save_s\": %.3f, \"load_s\": %.3f, \"raw_write_s\": %.3f, \"raw_read_s\": %.3f}\n", (long long)bytes, save, load, write_s, read_s);
    ds_batch_destroy(b);
    ds_engine_destroy(e);
}

static void tokenizer(const char *path, const char *text_path) {
    ds_tokenizer *t;
    char *line = NULL;
    size_t capacity = 0, tokens = 0, bytes = 0;
    must(ds_tokenizer_load(path, &t), "tokenizer");
    FILE *f = fopen(text_path, "r");
    if (!f) die(text_path);
    const double begin = now();
    for (ssize_t n; (n = getline(&line, &capacity, f)) >= 0;) {
        ds_encoding *e;
        const int32_t *ids;
        size_t count;
        must(ds_tokenizer_encode(t, line, (size_t)n, NULL, 0, 0, &e), "encode");
        must(ds_encoding_ids(e, &ids, &count), "ids");
        tokens += count;
        bytes += (size_t)n;
        ds_encoding_destroy(e);
    }
    const double seconds = now() - begin;
    printf("{\"seconds\": %.4f, \"tokens\": %zu, \"bytes\": %zu}\n", seconds, tokens, bytes);
    free(line);
    fclose(f);
    ds_tokenizer_destroy(t);
}

static void create(const char *folder) {
    ds_engine *e;
    char config[4200];
    snprintf(config, sizeof config, "{\"model\": \"%s\", \"train_batch_size\": 1, \"optimizer\": {\"type\": \"AdamW\", \"params\": {\"lr\": 1e-4}}}", folder);
    ds_batch *b = ids_batch(1, 16, 1);
    const double begin = now();
    must(ds_engine_create(config, NULL, &e), "engine");
    const double made = now() - begin;
    step(e, b);
    printf("{\"create_s\": %.3f, \"to_first_step_s\": %.3f}\n", made, now() - begin);
    ds_batch_destroy(b);
    ds_engine_destroy(e);
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    if (!strcmp(what, "dispatch") && argc == 2) dispatch();
    else if (!strcmp(what, "checkpoint") && argc == 3) checkpoint(argv[2]);
    else if (!strcmp(what, "tokenizer") && argc == 4) tokenizer(argv[2], argv[3]);
    else if (!strcmp(what, "create") && argc == 3) create(argv[2]);
    else return fprintf(stderr, "usage: bench_parts dispatch | checkpoint DIR | tokenizer PATH TEXT | create FOLDER\n"), 2;
    return 0;
}
