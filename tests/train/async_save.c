/* Killed at any moment while it saves in the background, training goes on from a checkpoint that is whole: weights and moments have, to the last
   bit, what an uninterrupted run had after as many steps. Usage: train_async_save          kills and checks
                                                                train_async_save FOLDER   trains from the newest checkpoint there until it is killed */
#include <dsrt/dsrt.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { kSteps = 4000, kKills = 25 };

static void must(ds_status s, const char *what) {
    if (s >= 0) return;
    printf("FAILED %s: %s: %s\n", what, ds_status_name(s), ds_last_error());
    exit(1);
}

static ds_engine *make_engine(void) {
    ds_engine *e;
    must(ds_engine_create("{\"model\": {\"model_type\": \"gpt2\", \"architectures\": [\"GPT2LMHeadModel\"], \"vocab_size\": 199, \"n_positions\": 16, \"n_embd\": 64,"
                          " \"n_layer\": 2, \"n_head\": 4, \"resid_pdrop\": 0.1, \"embd_pdrop\": 0.1, \"attn_pdrop\": 0.1},"
                          "\"train_batch_size\": 2, \"threads\": 1, \"seed\": 3, \"optimizer\": {\"type\": \"AdamW\", \"params\": {\"lr\": 0.001}}}", NULL, &e), "ds_engine_create");
    return e;
}

static double step_of(ds_engine *e) {
    double step = 0;
    must(ds_metric(e, "global_steps", &step), "ds_metric");
    return step;
}

/* One step; its batch follows from its number. */
static void train(ds_engine *e) {
    const int64_t shape[2] = {2, 8};
    int32_t ids[16];
    ds_tensor *t;
    ds_batch *b;
    for (int i = 0; i < 16; ++i) ids[i] = (7 * (int)step_of(e) + 3 * i) % 199;
    must(ds_tensor_create(DS_I32, 2, shape, ids, sizeof ids, &t), "ds_tensor_create");
    must(ds_batch_create(&b), "ds_batch_create");
    must(ds_batch_set(b, "input_ids", t), "input_ids");
    must(ds_batch_set(b, "labels", t), "labels");
    must(ds_forward(e, b, NULL), "ds_forward");
    must(ds_backward(e), "ds_backward");
    must(ds_step(e), "ds_step");
    ds_batch_destroy(b);
    ds_tensor_destroy(t);
}

/* FNV-1a of all weights and moments. */
static uint64_t state_of(ds_engine *e) {
    uint64_t sum = 14695981039346656037u;
    size_t n;
    must(ds_param_count(e, &n), "ds_param_count");
    for (size_t i = 0; i < n; ++i)
        for (int what = DS_WEIGHT; what <= DS_SECOND_MOMENT; ++what) {
            static unsigned char bytes[256 * 64 * 4]; /* the largest: mlp.c_fc */
            const char *name;
            ds_tensor *t;
            int32_t ndim;
            const int64_t *shape;
            size_t size = 4;
            if (what == DS_GRAD) continue;
            must(ds_param_name(e, i, &name), "ds_param_name");
            must(ds_param_get(e, name, what, &t), name);
            must(ds_tensor_info(t, NULL, &ndim, &shape), name);
            for (int d = 0; d < ndim; ++d) size *= (size_t)shape[d];
            must(ds_tensor_read(t, DS_F32, bytes, size), name);
            if (size > sizeof bytes) must(DS_E_INTERNAL, "a parameter is larger than the buffer");
            for (size_t k = 0; k < size; ++k) sum = (sum ^ bytes[k]) * 1099511628211u;
            ds_tensor_destroy(t);
        }
    return sum;
}

/* Saves after every step, under two tags in turn and then each step's own, and is killed somewhere. Writes a byte to standard output for each. */
static void train_until_killed(const char *folder) {
    ds_engine *e = make_engine();
    const ds_status s = ds_load(e, folder, NULL, NULL);
    if (s != DS_E_NOT_FOUND) must(s, "ds_load");
    for (int k = 0;; ++k) {
        train(e);
        must(ds_save(e, folder, k % 3 == 2 ? NULL : k % 3 ? "a" : "b", "{\"async\": true}"), "ds_save");
        if (write(STDOUT_FILENO, "!", 1) != 1) exit(1);
    }
}

static int kill_and_check(const char *self, const char *folder) {
    static uint64_t expected[kSteps];
    ds_engine *whole = make_engine(), *e = make_engine();
    int known = 0, loads = 0, failed = 0, last = 0;
    expected[0] = state_of(whole);
    srand((unsigned)time(NULL));
    for (int k = 0; k < kKills; ++k) {
        int saved[2], status = 0;
        char byte;
        if (pipe(saved) != 0) exit(1);
        const pid_t child = fork();
        if (child == 0) {
            dup2(saved[1], STDOUT_FILENO);
            close(saved[0]), close(saved[1]);
            execl(self, self, folder, (char *)NULL);
            _exit(127);
        }
        close(saved[1]);
        /* After some saves, wherever the machine then is: a clock alone would kill slow runs before they saved anything. */
        for (int saves = 1 + rand() % 6; saves > 0; --saves)
            if (read(saved[0], &byte, 1) != 1) printf("FAILED: the run ended by itself\n"), ++failed, saves = 0;
        usleep((useconds_t)(rand() % 20000));
        kill(child, SIGKILL);
        close(saved[0]);
        if (waitpid(child, &status, 0) < 0 || !WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) printf("FAILED: the run ended by itself with %d\n", status), ++failed;
        const ds_status s = ds_load(e, folder, NULL, NULL);
        if (s == DS_E_NOT_FOUND && loads == 0) continue; /* killed before the first was complete */
        must(s, "ds_load");
        ++loads;
        const int step = (int)step_of(e);
        for (; known < step && known + 1 < kSteps; expected[++known] = state_of(whole)) train(whole);
        if (step >= kSteps) break;
        if (step < last || state_of(e) != expected[step]) printf("FAILED: what was loaded at step %d (after %d) is not what training gives\n", step, last), ++failed;
        last = step;
    }
    ds_engine_destroy(whole);
    ds_engine_destroy(e);
    if (loads < kKills / 3 || last < 10) printf("FAILED: only %d loads, up to step %d: this proves little\n", loads, last), ++failed;
    printf("%d kills, %d loads, %d steps\n%d passed, %d failed\n", kKills, loads, last, loads - failed, failed);
    return failed != 0;
}

int main(int argc, char **argv) {
    char folder[] = "dsrt-async-XXXXXX", command[64];
    if (argc == 2) train_until_killed(argv[1]);
    if (!mkdtemp(folder)) return 1;
    const int result = kill_and_check(argv[0], folder);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) != 0 || result;
}
