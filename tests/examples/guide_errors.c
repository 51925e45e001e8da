/* Errors that examples/guide/errors.md quotes and that take more than one wrong call: prints each as "CODE: words". */
#include <dsrt/dsrt.h>
#include <stdio.h>

#define MODEL                                                                                                                                \
    "\"model\": {\"architectures\": [\"GPT2LMHeadModel\"], \"model_type\": \"gpt2\", \"vocab_size\": 11, \"n_positions\": 16, \"n_embd\": 8, " \
    "\"n_layer\": 1, \"n_head\": 2}, \"threads\": 1, \"train_micro_batch_size_per_gpu\": 1"
#define CONFIG "{" MODEL ", \"optimizer\": {\"type\": \"AdamW\", \"params\": {\"lr\": 0.01}}}"

static void say(ds_status s) { printf("%s: %s\n", ds_status_name(s), s < 0 ? ds_last_error() : "went well"); }

static int32_t fails(const int32_t *ids, size_t n, void *user) { return (void)ids, (void)n, (void)user, -1; }
static int32_t uses(const int32_t *ids, size_t n, void *user) { return (void)ids, (void)n, say(ds_zero_grad(user)), 1; }

static void write_file(const char *path, const char *text) {
    FILE *f = fopen(path, "w");
    fputs(text, f);
    fclose(f);
}

int main(void) {
    ds_engine *engine = NULL, *none = NULL;
    ds_options *options = NULL;
    ds_cancel *cancel = NULL;
    ds_tokenizer *tokenizer = NULL;
    int32_t prompt = 1, *ids = NULL;
    size_t n = 0;
    FILE *f;
    ds_cancel_create(&cancel);
    ds_options_create(&options);
    ds_options_set_cancel(options, cancel);
    ds_engine_create(CONFIG, options, &engine);
    say(ds_generate(engine, &prompt, 1, NULL, fails, NULL, &ids, &n));
    ds_generate(engine, &prompt, 1, NULL, uses, engine, &ids, &n);
    ds_free(ids);
    ds_cancel_set(cancel, 1);
    say(ds_generate(engine, &prompt, 1, NULL, NULL, NULL, &ids, &n));
    ds_cancel_set(cancel, 0);
    say(ds_save(engine, "/proc/no", NULL, NULL));
    say(ds_save(engine, "run", "a", NULL));
    f = fopen("run/a/weights.safetensors", "r+b");
    if (!f) return 1;
    fseek(f, -3, SEEK_END);
    fputc(0x55, f);
    fclose(f);
    say(ds_load(engine, "run", "a", NULL));
    write_file("tokenizer.json", "{\"model\": {\"type\": \"BPE\", \"vocab\": {}}");
    say(ds_tokenizer_load("tokenizer.json", &tokenizer));
    say(ds_engine_create("{" MODEL ", \"amp\": {\"enabled\": true}}", NULL, &none));
    say(ds_engine_create("{" MODEL ", \"train_batch_size\": 7, \"gradient_accumulation_steps\": 2}", NULL, &none));
    say(ds_engine_create("{" MODEL ", \"parallel\": {\"tensor\": 2, \"pipeline\": 2}, \"zero_optimization\": {\"stage\": 7}}", NULL, &none));
    ds_engine_destroy(engine);
    ds_options_destroy(options);
    ds_cancel_destroy(cancel);
    return 0;
}
