/* Times whole training steps of llm.c (GPT-2 124M, f32, OpenMP): the peer of bench_step, with the same batches. Compiled against a checkout:
   cc -Ofast -march=native -fopenmp -DOMP -DTESTING -I LLMC llmc_step.c -lm. Usage: llmc_step B T [steps]. Prints one JSON line. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "train_gpt2.c"

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* llm.c takes weights from a file of its own; random ones of GPT-2's size serve here. */
static void write_weights(const char *path) {
    int header[256] = {20240326, 3, 1024, 50257, 12, 12, 768, 50304};
    GPT2Config config = {.max_seq_len = 1024, .vocab_size = 50257, .num_layers = 12, .num_heads = 12, .channels = 768, .padded_vocab_size = 50304};
    size_t sizes[NUM_PARAMETER_TENSORS], n = 0, i;
    FILE *f = fopenCheck(path, "wb");
    fill_in_parameter_sizes(sizes, config);
    for (i = 0; i < NUM_PARAMETER_TENSORS; ++i) n += sizes[i];
    fwrite(header, sizeof(int), 256, f);
    for (i = 0; i < n; ++i) {
        const float w = 0.02f * (2.0f * (float)rand() / (float)RAND_MAX - 1.0f);
        fwrite(&w, sizeof w, 1, f);
    }
    fcloseCheck(f);
}

int main(int argc, char **argv) {
    const size_t B = argc > 1 ? (size_t)atoi(argv[1]) : 4, T = argc > 2 ? (size_t)atoi(argv[2]) : 64;
    const int steps = argc > 3 ? atoi(argv[3]) : 8, skipped = steps > 4 ? 3 : 0;
    char path[] = "/tmp/llmc-XXXXXX";
    double *seconds = malloc((size_t)steps * sizeof *seconds);
    int *inputs = malloc(B * T * sizeof *inputs), *targets = malloc(B * T * sizeof *targets);
    struct rusage usage;
    GPT2 model;
    size_t i;
    int step;
    close(mkstemp(path));
    write_weights(path);
    gpt2_build_from_checkpoint(&model, path);
    remove(path);
    for (i = 0; i < B * T; ++i) {
        inputs[i] = (int)((7919 * i + 13) % 30000);
        targets[i] = (int)((7919 * i + 26) % 30000);
    }
    for (step = 0; step < steps; ++step) {
        const double begin = now();
        gpt2_forward(&model, inputs, targets, B, T);
        gpt2_zero_grad(&model);
        gpt2_backward(&model);
        gpt2_update(&model, 1e-4f, 0.9f, 0.999f, 1e-8f, 0.01f, step + 1);
        seconds[step] = now() - begin;
    }
    qsort(seconds + skipped, (size_t)(steps - skipped), sizeof *seconds, ascending);
    getrusage(RUSAGE_SELF, &usage);
    printf("\n{\"peer\": \"llm.c\", \"median_s\": %.4f, \"min_s\": %.4f, \"peak_rss_mib\": %ld}\n", seconds[skipped + (steps - skipped) / 2], seconds[skipped],
           usage.ru_maxrss / 1024);
    gpt2_free(&model);
    return 0;
}
