/* Resume is bit-equal: training 9 steps in one process, or 4 in one and 5 in another, gives the same losses, weights and moments to the last bit.
   Dropout is on, rows are shuffled, two micro-batches make a step, epochs end in the middle, the rate moves, fp16 skips steps and changes its
   scale, and copies in bf16 may be rounded by chance. Usage: train_resume            runs all precisions, each part as a process of its own
                 train_resume PRECISION FOLDER FROM TO OUT    one part */
#include <dsrt/dsrt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kSteps = 9, kHalf = 4, kRows = 22 };
static int passed, failed;

static void must(ds_status s, const char *what) {
    if (s >= 0) return;
    printf("FAILED %s: %s: %s\n", what, ds_status_name(s), ds_last_error());
    exit(1);
}

static ds_engine *make_engine(const char *precision) {
    static const char body[] =
        "\"model\": {\"model_type\": \"gpt2\", \"architectures\": [\"GPT2LMHeadModel\"], \"vocab_size\": 61, \"n_positions\": 32, \"n_embd\": 32,"
        " \"n_layer\": 2, \"n_head\": 4, \"resid_pdrop\": 0.1, \"embd_pdrop\": 0.1, \"attn_pdrop\": 0.1},"
        "\"train_batch_size\": 8, \"gradient_accumulation_steps\": 2, \"gradient_clipping\": 0.5, \"threads\": 2, \"seed\": 7,"
        "\"optimizer\": {\"type\": \"AdamW\", \"params\": {\"lr\": 0.01, \"weight_decay\": 0.1}},"
        "\"scheduler\": {\"type\": \"WarmupCosineLR\", \"params\": {\"total_num_steps\": 12, \"warmup_num_steps\": 3}}";
    char config[2048];
    const char *mode = !strcmp(precision, "bf16")   ? ", \"bf16\": {\"enabled\": true}"
                       : !strcmp(precision, "chance") ? ", \"bf16\": {\"enabled\": true, \"stochastic_rounding\": true}"
                       : !strcmp(precision, "fp16") ? ", \"fp16\": {\"enabled\": true, \"initial_scale_power\": 24, \"hysteresis\": 1, \"loss_scale_window\": 2}"
                                                    : "";
    snprintf(config, sizeof config, "{%s%s}", body, mode);
    ds_engine *e;
    must(ds_engine_create(config, NULL, &e), "ds_engine_create");
    return e;
}

static ds_data *make_data(ds_engine *e, const char *folder) {
    char path[512], options[1024];
    snprintf(path, sizeof path, "%s/rows.jsonl", folder);
    FILE *f = fopen(path, "w");
    unsigned random = 1;
    for (int r = 0; r < kRows; ++r) {
        fputs("{\"ids\": [", f);
        for (int i = 0, n = 5 + r % 20; i < n; ++i) fprintf(f, "%s%u", i ? ", " : "", (random = random * 1103515245u + 12345u) >> 16 & 31);
        fputs("]}\n", f);
    }
    fclose(f);
    snprintf(options, sizeof options, "{\"files\": \"%s\", \"columns\": {\"input_ids\": \"ids\"}, \"group_by_length\": true, \"group_batches\": 2}", path);
    ds_data *data;
    must(ds_data_open(options, e, &data), "ds_data_open");
    return data;
}

static void write_params(ds_engine *e, FILE *f) {
    size_t n;
    must(ds_param_count(e, &n), "ds_param_count");
    for (size_t i = 0; i < n; ++i)
        for (int what = DS_WEIGHT; what <= DS_SECOND_MOMENT; ++what) {
            const char *name;
            ds_tensor *t;
            int32_t ndim;
            const int64_t *shape;
            size_t count = 1;
            if (what == DS_GRAD) continue;
            must(ds_param_name(e, i, &name), "ds_param_name");
            must(ds_param_get(e, name, what, &t), name);
            must(ds_tensor_info(t, NULL, &ndim, &shape), name);
            for (int d = 0; d < ndim; ++d) count *= (size_t)shape[d];
            float *x = malloc(count * 4);
            must(ds_tensor_read(t, DS_F32, x, count * 4), name);
            fwrite(x, 4, count, f);
            free(x);
            ds_tensor_destroy(t);
        }
}

/* Trains from a step, whose checkpoint is in the folder, to another; writes step, status, loss, rate and scale of each, then all tensors. */
static int part(const char *precision, const char *folder, int from, int to, const char *out) {
    ds_engine *e = make_engine(precision);
    ds_data *data = make_data(e, folder);
    char checkpoints[512];
    snprintf(checkpoints, sizeof checkpoints, "%s/checkpoints", folder);
    if (from) must(ds_load(e, checkpoints, NULL, NULL), "ds_load");
    FILE *f = fopen(out, "wb");
    double step = from;
    while (step < to) {
        float loss;
        double lr, scale, skipped;
        const ds_status s = ds_train_batch(e, data, &loss);
        must(s, "ds_train_batch");
        if (s == DS_END) continue;
        must(ds_metric(e, "global_steps", &step), "ds_metric");
        must(ds_metric(e, "lr", &lr), "ds_metric");
        must(ds_metric(e, "loss_scale", &scale), "ds_metric");
        must(ds_metric(e, "skipped_steps", &skipped), "ds_metric");
        if (step > kHalf) fprintf(f, "%.0f %d %a %a %a %.0f\n", step, s, loss, lr, scale, skipped);
    }
    write_params(e, f);
    fclose(f);
    must(ds_save(e, checkpoints, NULL, NULL), "ds_save");
    ds_data_destroy(data);
    ds_engine_destroy(e);
    return 0;
}

static void start(const char *self, const char *precision, const char *folder, const char *from, const char *to, const char *out) {
    const pid_t child = fork();
    if (child == 0) {
        execl(self, self, precision, folder, from, to, out, (char *)NULL);
        _exit(127);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) < 0 || status != 0) printf("FAILED %s: steps %s to %s ended with %d\n", precision, from, to, status), ++failed;
}

static char *contents(const char *path, size_t *size) {
    FILE *f = fopen(path, "rb");
    char *data = calloc(1, 1 << 22);
    *size = f ? fread(data, 1, 1 << 22, f) : 0;
    if (f) fclose(f);
    return data;
}

static void run(const char *self, const char *precision) {
    char folder[] = "/tmp/dsrt-resume-XXXXXX", whole[64], half[64], rest[64], command[128];
    if (!mkdtemp(folder)) printf("FAILED mkdtemp\n"), exit(1);
    snprintf(whole, sizeof whole, "%s/whole", folder);
    snprintf(half, sizeof half, "%s/half", folder);
    snprintf(rest, sizeof rest, "%s/rest", folder);
    start(self, precision, folder, "0", "9", whole);
    snprintf(command, sizeof command, "rm -rf %s/checkpoints", folder);
    if (system(command)) ++failed;
    start(self, precision, folder, "0", "4", half);
    start(self, precision, folder, "4", "9", rest);
    size_t n, m;
    char *a = contents(whole, &n), *b = contents(rest, &m);
    const int equal = n == m && n > 1000 && memcmp(a, b, n) == 0;
    printf("%s resume/%s: %zu bytes of losses, weights and moments\n", equal ? "passed" : "FAILED", precision, n);
    if (!equal) printf("uninterrupted:\n%.400s\nresumed:\n%.400s\n", a, b);
    equal ? ++passed : ++failed;
    free(a);
    free(b);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    if (system(command)) ++failed;
}

int main(int argc, char **argv) {
    if (argc == 6) return part(argv[1], argv[2], atoi(argv[3]), atoi(argv[4]), argv[5]);
    for (const char *const *p = (const char *const[]){"f32", "bf16", "chance", "fp16", NULL}; *p; ++p) run(argv[0], *p);
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
