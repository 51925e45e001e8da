/* reload LIBRARY: a host that loads libdsrt at run time, trains a little on a thread of its own, and unloads it, many times. It is not linked to
   the library: what it knows of it is the header. */
#include <dirent.h>
#include <dlfcn.h>
#include <dsrt/dsrt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const config =
    "{\"model\": {\"architectures\": [\"GPT2LMHeadModel\"], \"model_type\": \"gpt2\", \"vocab_size\": 11, \"n_positions\": 16, \"n_embd\": 8, "
    "\"n_layer\": 1, \"n_head\": 2}, \"device\": \"cpu\", \"threads\": 2, \"train_micro_batch_size_per_gpu\": 1, \"optimizer\": {\"type\": \"SGD\", \"params\": {\"lr\": 0.1}}}";

static int passed, failed;
static void check(int right, const char *what) {
    right ? ++passed : ++failed;
    if (!right) printf("FAILED reload: %s\n", what);
}

static int entries(const char *folder) {
    DIR *d = opendir(folder);
    int n = 0;
    while (readdir(d)) ++n;
    closedir(d);
    return n;
}

static long resident(void) {
    long pages = 0, kept = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (fscanf(f, "%ld %ld", &pages, &kept) != 2) kept = -1;
    fclose(f);
    return kept * sysconf(_SC_PAGESIZE);
}

static int mapped(const char *part) {
    char line[4096];
    int found = 0;
    FILE *f = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof(line), f)) found |= strstr(line, part) != NULL;
    fclose(f);
    return found;
}

typedef struct {
    void *library;
    float loss;
    char error[256];
} Run;

#define GET(name) *(void **)&name = dlsym(r->library, "ds_" #name)

static void *train(void *user) {
    Run *r = user;
    ds_status (*engine_create)(const char *, const ds_options *, ds_engine **);
    ds_status (*tensor_create)(int32_t, int32_t, const int64_t *, const void *, size_t, ds_tensor **);
    ds_status (*batch_create)(ds_batch **);
    ds_status (*batch_set)(ds_batch *, const char *, const ds_tensor *);
    ds_status (*forward)(ds_engine *, const ds_batch *, float *);
    ds_status (*backward)(ds_engine *);
    ds_status (*step)(ds_engine *);
    void (*tensor_destroy)(ds_tensor *);
    void (*batch_destroy)(ds_batch *);
    void (*engine_destroy)(ds_engine *);
    const char *(*last_error)(void);
    const int64_t shape[2] = {1, 4}, ids[4] = {1, 2, 3, 4};
    ds_engine *e = NULL;
    ds_batch *b = NULL;
    ds_tensor *t = NULL;
    GET(engine_create), GET(tensor_create), GET(batch_create), GET(batch_set), GET(forward), GET(backward), GET(step);
    GET(tensor_destroy), GET(batch_destroy), GET(engine_destroy), GET(last_error);
    if (engine_create(config, NULL, &e) || tensor_create(DS_I64, 2, shape, ids, sizeof(ids), &t) || batch_create(&b) ||
        batch_set(b, "input_ids", t) || batch_set(b, "labels", t) || forward(e, b, &r->loss) || backward(e) || step(e))
        snprintf(r->error, sizeof(r->error), "%s", last_error());
    tensor_destroy(t);
    batch_destroy(b);
    engine_destroy(e);
    return NULL;
}

int main(int argc, char **argv) {
    int round, threads = 0, open = 0;
    long before = 0;
    float first = 0;
    if (argc != 2) return 2;
    for (round = 0; round < 40; ++round) {
        Run r;
        pthread_t thread;
        memset(&r, 0, sizeof(r));
        r.library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
        if (!r.library) {
            printf("FAILED reload: %s\n0 passed, 1 failed\n", dlerror());
            return 1;
        }
        pthread_create(&thread, NULL, train, &r);
        pthread_join(thread, NULL);
        if (r.error[0]) {
            printf("FAILED reload: round %d: %s\n", round, r.error);
            ++failed;
            break;
        }
        if (round == 0) first = r.loss;
        if (r.loss != first) check(0, "every round has the same loss");
        if (dlclose(r.library)) check(0, "dlclose");
        if (round == 9) threads = entries("/proc/self/task"), open = entries("/proc/self/fd"), before = resident();
    }
    check(first > 0, "a loss");
    check(entries("/proc/self/task") == threads && threads == 3, "no thread stays"); /* with . and .. */
    check(entries("/proc/self/fd") == open, "no descriptor stays");
    check(resident() - before < 8 << 20, "memory does not grow");
    check(!mapped("/libdsrt.so"), "the library is gone"); /* its folder may have that name, too */
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
