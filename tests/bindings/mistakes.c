/* The same mistakes in every language: one line each, the code's name and what the library says. mistakes.* beside this file and in the
   bindings' tests make them in the same order. */
#include <dsrt/dsrt.h>
#include <stdio.h>

#define CONFIG                                                                                                                            \
    "{\"model\": {\"architectures\": [\"GPT2LMHeadModel\"], \"model_type\": \"gpt2\", \"vocab_size\": 11, \"n_positions\": 16, \"n_embd\": 8, " \
    "\"n_layer\": 1, \"n_head\": 2}, \"threads\": 1, \"train_micro_batch_size_per_gpu\": 2, "                                              \
    "\"optimizer\": {\"type\": \"AdamW\", \"params\": {\"lr\": 0.01}}}"

static void say(const char *what, ds_status s) { printf("%s: %s: %s\n", what, ds_status_name(s), s < 0 ? ds_last_error() : "went well"); }

int main(void) {
    static const int64_t shape[2] = {1, 3}, bad[1] = {-2};
    static const int64_t ids[3] = {1, 2, 30};
    ds_engine *engine = NULL, *none;
    ds_tokenizer *tokenizer;
    ds_tensor *tensor = NULL, *other;
    ds_batch *batch = NULL;
    ds_data *data;
    double number;
    char *json;
    int32_t *made;
    size_t n;
    int32_t prompt = 99;
    say("unknown key", ds_engine_create("{\"optimiser\": {}}", NULL, &none));
    say("broken json", ds_engine_create("{\"model\": ", NULL, &none));
    say("no model", ds_engine_create("{\"model\": \"no/such/folder\"}", NULL, &none));
    say("no config", ds_engine_create("no/such/config.json", NULL, &none));
    say("good config", ds_engine_create(CONFIG, NULL, &engine));
    say("early backward", ds_backward(engine));
    say("early step", ds_step(engine));
    say("unknown metric", ds_metric(engine, "speed", &number));
    say("unknown parameter", ds_param_get(engine, "h.7.w", DS_WEIGHT, &other));
    say("unknown setting", ds_engine_set(engine, "optimizer.params.lear", "1"));
    say("bad setting", ds_engine_set(engine, "optimizer.params.lr", "\"fast\""));
    say("fixed setting", ds_engine_set(engine, "seed", "1"));
    say("unknown value", ds_engine_get(engine, "no.such.key", &json));
    say("no checkpoint", ds_load(engine, "no/such/folder", NULL, NULL));
    say("early output", ds_output(engine, "logits", &other));
    say("bad shape", ds_tensor_create(DS_F32, 1, bad, NULL, 0, &other));
    say("tensor", ds_tensor_create(DS_I64, 2, shape, ids, sizeof ids, &tensor));
    say("batch", ds_batch_create(&batch));
    say("nothing of that name", ds_batch_get(batch, "labels", &other));
    say("empty batch", ds_eval(engine, batch, NULL));
    say("ids", ds_batch_set(batch, "input_ids", tensor));
    say("id beyond the vocabulary", ds_eval(engine, batch, NULL));
    say("unknown input", ds_batch_set(batch, "colour", tensor));
    say("unknown input used", ds_eval(engine, batch, NULL));
    say("no data", ds_data_open("{\"files\": \"no/such/rows.csv\", \"columns\": {\"text\": \"review\"}}", NULL, &data));
    say("unknown data option", ds_data_open("{\"file\": \"rows.csv\"}", NULL, &data));
    say("no tokenizer", ds_tokenizer_load("no/such/tokenizer.json", &tokenizer));
    say("bad prompt", ds_generate(engine, &prompt, 1, NULL, NULL, NULL, &made, &n));
    say("bad option", ds_generate(engine, &prompt, 1, "{\"heat\": 1}", NULL, NULL, &made, &n));
    ds_batch_destroy(batch);
    ds_tensor_destroy(tensor);
    ds_engine_destroy(engine);
    return 0;
}
