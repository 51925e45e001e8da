/* Times whole training steps (forward, backward, update) through the public ABI, on models built from their configs with random weights, or on a
   Hugging Face folder (an argument with a slash), of the work that its last part names, if one does. Batches follow from a formula that peers/torch_step.py has too.
   Processes that torchrun's variables tell of take near-even parts of the rows; gradient_accumulation_steps cut a step's rows into micro-batches.
   Usage: bench_step WORK|FOLDER B T f32|bf16 [steps] [threads] [more of the config's JSON]       (`works` below)
   Prints one JSON line: median and minimum seconds a step, tokens a second, peak resident memory, the losses. */
#define _POSIX_C_SOURCE 200809L
#include <dsrt/dsrt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define GPT2 "{\"model_type\":\"gpt2\",\"architectures\":[\"GPT2LMHeadModel\"],\"resid_pdrop\":0,\"embd_pdrop\":0,\"attn_pdrop\":0}"
#define BERT(head) "{\"model_type\":\"bert\",\"architectures\":[\"BertFor" head "\"],\"hidden_dropout_prob\":0,\"attention_probs_dropout_prob\":0,\"num_labels\":2}"

enum labels { TOKENS, ROWS, MASKED /* one of seven tokens */, RESPONSES /* the last quarter of each row */ };

static const struct work {
    const char *name, *model;
    enum labels labels;
    const char *more; /* of the config */
} works[] = {
    {"gpt2", GPT2, TOKENS, NULL},
    {"gpt2-lora", GPT2, TOKENS, "\"lora\": {\"r\": 8, \"alpha\": 16, \"target_modules\": [\"c_attn\"]}"},
    {"gpt2-responses", GPT2, RESPONSES, NULL},
    {"gpt2-in-backward", GPT2, TOKENS, "\"optimizer_in_backward\": true"}, /* by ds_train_batch, which lets go of gradients */
    {"llama110m", "{\"model_type\":\"llama\",\"architectures\":[\"LlamaForCausalLM\"],\"hidden_size\":768,\"intermediate_size\":2048,\"num_hidden_layers\":12,"
                  "\"num_attention_heads\":12,\"num_key_value_heads\":4,\"vocab_size\":32000,\"max_position_embeddings\":2048,\"tie_word_embeddings\":true}", TOKENS, NULL},
    {"llama8b2", "{\"model_type\":\"llama\",\"architectures\":[\"LlamaForCausalLM\"],\"hidden_size\":4096,\"intermediate_size\":14336,\"num_hidden_layers\":2,"
                 "\"num_attention_heads\":32,\"num_key_value_heads\":8,\"vocab_size\":32000,\"max_position_embeddings\":8192,\"tie_word_embeddings\":true}", TOKENS, NULL}, /* two layers of LLaMA 8B's size */
    {"t5small", "{\"model_type\":\"t5\",\"architectures\":[\"T5ForConditionalGeneration\"],\"d_model\":512,\"d_ff\":2048,\"d_kv\":64,\"num_layers\":6,\"num_heads\":8,"
                "\"vocab_size\":32128,\"dropout_rate\":0,\"decoder_start_token_id\":0,\"pad_token_id\":0}", TOKENS, NULL},
    {"bert", BERT("SequenceClassification"), ROWS, NULL},
    {"bert-mlm", BERT("MaskedLM"), MASKED, NULL}};

static const struct work *work_of(const char *name) {
    const char *slash = strrchr(name, '/');
    for (size_t i = 0; i < sizeof works / sizeof *works; ++i)
        if (strcmp(works[i].name, slash ? slash + 1 : name) == 0) return &works[i];
    static const struct work tokens = {"", NULL, TOKENS, NULL}, rows = {"", NULL, ROWS, NULL};
    if (slash) return strstr(slash, "bert") ? &rows : &tokens;
    fprintf(stderr, "unknown work %s\n", name);
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
static int ascending(const void *a, const void *b) { return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b); }
static void must(ds_status s, const char *what) {
    if (s >= 0) return;
    fprintf(stderr, "%s: %s: %s\n", what, ds_status_name(s), ds_last_error());
    exit(1);
}
/* Element i is (7919 i + 13 salt) mod below. */
static void put(ds_batch *b, const char *name, int32_t ndim, int64_t rows, int64_t columns, int32_t below, int salt, enum labels labels) {
    int64_t shape[2], n = ndim == 2 ? rows * columns : rows;
    int32_t *ids = malloc(sizeof *ids * (size_t)n);
    ds_tensor *t;
    for (int64_t i = 0; i < n; ++i) {
        const int ignored = (labels == MASKED && i % 7 != 3) || (labels == RESPONSES && i % columns < columns * 3 / 4);
        ids[i] = ignored ? -100 : (int32_t)((7919 * i + 13 * salt) % below);
    }
    shape[0] = rows;
    shape[1] = columns;
    must(ds_tensor_create(DS_I32, ndim, shape, ids, sizeof *ids * (size_t)n, &t), "tensor");
    must(ds_batch_set(b, name, t), "batch");
    ds_tensor_destroy(t);
    free(ids);
}

/* The batch again and again, as data. */
static int32_t again(void *user, ds_batch *to) {
    const char *names[] = {"input_ids", "labels"};
    for (int i = 0; i < 2; ++i) {
        ds_tensor *t;
        if (ds_batch_get(user, names[i], &t) < 0 || ds_batch_set(to, names[i], t) < 0) return DS_E_INTERNAL;
        ds_tensor_destroy(t);
    }
    return DS_OK;
}
static int32_t keep_no_cursor(void *user, char **json) {
    (void)user;
    *json = calloc(3, 1);
    if (*json) memcpy(*json, "{}", 2);
    return DS_OK;
}
static int32_t stay(void *user, const char *json) {
    (void)user, (void)json;
    return DS_OK;
}

/* Ids below it are the vocabulary's, 30000 at most: of a folder's model, too. */
static int32_t words_of(ds_engine *e) {
    char *json;
    must(ds_engine_get(e, "model_config", &json), "model_config");
    const char *size = strstr(json, "\"vocab_size\":");
    const long words = size ? strtol(size + strlen("\"vocab_size\":"), NULL, 10) : 0;
    ds_free(json);
    return words > 0 && words < 30000 ? (int32_t)words : 30000;
}

int main(int argc, char **argv) {
    const char *model = argc > 1 ? argv[1] : "gpt2", *dtype = argc > 4 ? argv[4] : "f32";
    const int64_t rows = argc > 2 ? atoll(argv[2]) : 4, length = argc > 3 ? atoll(argv[3]) : 64;
    const int steps = argc > 5 ? atoi(argv[5]) : 12, threads = argc > 6 ? atoi(argv[6]) : 2;
    const struct work *work = work_of(model);
    char config[4096], folder[2048];
    snprintf(folder, sizeof folder, "\"%s\"", model);
    snprintf(config, sizeof config, "{\"model\": %s, \"train_batch_size\": %lld, \"gradient_clipping\": 0, \"threads\": %d, \"bf16\": {\"enabled\": %s, \"check_grad_overflow\": false},"
             "\"optimizer\": {\"type\": \"AdamW\", \"params\": {\"lr\": 1e-4, \"weight_decay\": 0.01}}%s%s%s%s}", strchr(model, '/') ? folder : work->model, (long long)rows, threads,
             strcmp(dtype, "bf16") == 0 ? "true" : "false", work->more ? "," : "", work->more ? work->more : "", argc > 7 ? "," : "", argc > 7 ? argv[7] : "");
    ds_engine *e;
    ds_batch *b;
    double *times = malloc(sizeof *times * (size_t)steps), update = 1e9, create = now();
    must(ds_engine_create(config, NULL, &e), "engine");
    create = now() - create;
    char *accumulation = NULL;
    must(ds_engine_get(e, "gradient_accumulation_steps", &accumulation), "accumulation");
    const int micros = atoi(accumulation), processes = getenv("WORLD_SIZE") ? atoi(getenv("WORLD_SIZE")) : 1;
    const int64_t rows_here = rows / micros / processes;
    ds_free(accumulation);
    must(ds_batch_create(&b), "batch");
    const int32_t words = words_of(e);
    put(b, "input_ids", 2, rows_here, length, words, 1, TOKENS);
    if (work->labels == ROWS) put(b, "labels", 1, rows_here, 0, 2, 2, ROWS);
    else put(b, "labels", 2, rows_here, length, words, 2, work->labels);
    ds_data *data = NULL;
    const ds_data_source source = {sizeof source, b, again, keep_no_cursor, stay, NULL};
    if (strstr(config, "\"optimizer_in_backward\": true")) must(ds_data_create(&source, NULL, &data), "data");
    float loss = 0, *losses = malloc(sizeof *losses * (size_t)steps);
    for (int i = 0; i < steps; ++i) {
        const double begin = now();
        if (data) must(ds_train_batch(e, data, &loss), "train_batch");
        for (int micro = 0; !data && micro < micros; ++micro) {
            must(ds_forward(e, b, micros > 1 ? NULL : &loss), "forward");
            must(ds_backward(e), "backward");
        }
        const double before = now();
        if (!data) must(ds_step(e), "step");
        times[i] = now() - begin;
        if (now() - before < update) update = now() - before;
        losses[i] = loss;
    }
    const double first_step = times[0];
    const int warm = steps > 4 ? 3 : 0;
    qsort(times + warm, (size_t)(steps - warm), sizeof *times, ascending);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    const double median = times[warm + (steps - warm) / 2];
    double plan = 0, parameters = 0;
    ds_metric(e, "plan_bytes", &plan);
    size_t tensors = 0;
    must(ds_param_count(e, &tensors), "parameters");
    for (size_t i = 0; i < tensors; ++i) {
        const char *name;
        const int64_t *shape;
        int32_t ndim;
        double n = 1;
        must(ds_param_name(e, i, &name), "parameters");
        must(ds_param_info(e, name, &ndim, &shape, NULL), name);
        for (int32_t d = 0; d < ndim; ++d) n *= (double)shape[d];
        parameters += n;
    }
    printf("{\"peer\": \"dsrt %s\", \"model\": \"%s\", \"B\": %lld, \"T\": %lld, \"dtype\": \"%s\", \"threads\": %d, \"median_s\": %.4f, \"min_s\": %.4f, \"first_s\": %.4f, \"create_s\": %.4f, \"update_s\": %.4f, \"parameters\": %.0f,"
           " \"tokens_per_s\": %.1f, \"peak_rss_mib\": %ld, \"plan_mib\": %.0f, \"losses\": [",
           ds_version(), model, (long long)rows, (long long)length, dtype, threads, median, times[warm], first_step, create, update, parameters, (double)(rows * length) / median, usage.ru_maxrss / 1024,
           plan / 1048576);
    for (int i = 0; i < steps; ++i) printf("%s%.9g", i ? ", " : "", (double)losses[i]);
    printf("]}\n");
    free(losses);
    ds_data_destroy(data);
    ds_batch_destroy(b);
    ds_engine_destroy(e);
    free(times);
    return 0;
}
