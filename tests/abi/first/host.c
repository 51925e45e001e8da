/* A host as it was built with the first release: compiled against first/dsrt/dsrt.h, with that header's structs and constants, it must keep
   running on the library of today. */
#include <dsrt/dsrt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef DSRT_DSRT_H
#error "this is not the first release's header"
#endif

static int passed, failed;
#define CHECK(right, what)                                                                      \
    do {                                                                                        \
        if (right) ++passed;                                                                    \
        else printf("FAILED first: %s: %s\n", what, ds_last_error()), ++failed;                 \
    } while (0)

static int released;
static void release(void *user) { (void)user, ++released; }

static int rows;
static int32_t next(void *user, ds_batch *b) {
    const int64_t shape[2] = {1, 4}, ids[4] = {1, 2, 3, 4};
    ds_tensor *t = NULL;
    ds_status s;
    if (++rows % 4 == 0) return DS_END;
    s = ds_tensor_create(DS_I64, 2, shape, ids, sizeof(ids), &t);
    if (!s) s = ds_batch_set(b, "input_ids", t);
    if (!s) s = ds_batch_set(b, "labels", t);
    ds_tensor_destroy(t);
    (void)user;
    return s;
}
static int32_t save(void *user, char **json) {
    *json = strdup("{\"at\": 3}");
    (void)user;
    return *json ? DS_OK : DS_E_OUT_OF_MEMORY;
}
static int32_t restore(void *user, const char *json) { return (void)user, strstr(json, "\"at\"") ? DS_OK : DS_E_USER; }

static int32_t update(void *user, const char *parameter, int64_t step, double lr, float *weight, const float *gradient, float *state, size_t n) {
    size_t i;
    (void)user, (void)parameter, (void)step;
    for (i = 0; i < n; ++i) {
        state[i] = 0.9f * state[i] + gradient[i];
        weight[i] -= (float)lr * state[i];
    }
    return DS_OK;
}

static int lines;
static void hear(int32_t level, const char *component, const char *message, void *user) {
    (void)user;
    lines += level >= DS_LOG_TRACE && component[0] && message[0];
}
static int32_t token(const int32_t *ids, size_t n, void *user) { return (void)ids, *(size_t *)user += n, 0; }

int main(void) {
    static const char config[] =
        "{\"model\": {\"architectures\": [\"GPT2LMHeadModel\"], \"model_type\": \"gpt2\", \"vocab_size\": 11, \"n_positions\": 16, \"n_embd\": 8, "
        "\"n_layer\": 1, \"n_head\": 2}, \"threads\": 1, \"train_micro_batch_size_per_gpu\": 1, \"optimizer\": {\"type\": \"SGD\", \"params\": {\"lr\": 0.1}}}";
    const int32_t prompt[2] = {1, 2};
    ds_optimizer_callbacks optimizer;
    ds_data_source source;
    ds_options *options = NULL;
    ds_engine *e = NULL;
    ds_data *data = NULL;
    ds_tensor *t = NULL;
    int32_t *ids = NULL, dtype = -1, ndim = 0;
    const int64_t *shape = NULL;
    size_t n = 0, heard = 0;
    float first = 0, loss = 0;
    double steps = 0;
    char folder[] = "/tmp/dsrt-first-XXXXXX", command[64], *json = NULL;

    CHECK(ds_abi_version() >> 16 == DS_ABI_MAJOR && ds_abi_version() >= DS_ABI_VERSION, "the library is compatible");
    CHECK(ds_set_log(hear, DS_LOG_TRACE, NULL, NULL) == DS_OK, "ds_set_log");
    memset(&optimizer, 0, sizeof(optimizer));
    optimizer.struct_size = sizeof(optimizer);
    optimizer.floats_per_element = 1;
    optimizer.update = update;
    optimizer.release = release;
    CHECK(ds_options_create(&options) == DS_OK && ds_options_set_optimizer(options, &optimizer) == DS_OK, "ds_options_set_optimizer");
    CHECK(ds_engine_create(config, options, &e) == DS_OK, "ds_engine_create");
    ds_options_destroy(options);
    memset(&source, 0, sizeof(source));
    source.struct_size = sizeof(source);
    source.next = next;
    source.save = save;
    source.restore = restore;
    source.release = release;
    CHECK(ds_data_create(&source, e, &data) == DS_OK, "ds_data_create");
    CHECK(ds_train_batch(e, data, &first) == DS_OK, "ds_train_batch");
    while (ds_train_batch(e, data, &loss) == DS_OK) {}
    CHECK(loss > 0 && loss < first, "the loss falls");
    CHECK(ds_metric(e, "global_steps", &steps) == DS_OK && steps == 3, "three steps");
    CHECK(ds_output(e, "logits", &t) == DS_E_STATE || ds_tensor_info(t, &dtype, &ndim, &shape) == DS_OK, "ds_output");
    ds_tensor_destroy(t);
    CHECK(ds_param_get(e, "transformer.ln_f.weight", DS_FIRST_MOMENT, &t) < 0 || ds_tensor_info(t, &dtype, NULL, NULL) == DS_OK, "ds_param_get");
    ds_tensor_destroy(t);
    CHECK(ds_param_get(e, "transformer.ln_f.weight", DS_WEIGHT, &t) == DS_OK && ds_tensor_info(t, &dtype, &ndim, &shape) == DS_OK && dtype == DS_F32 &&
              ndim == 1 && shape[0] == 8, "a weight");
    ds_tensor_destroy(t);
    CHECK(mkdtemp(folder) && ds_save(e, folder, NULL, NULL) == DS_OK && ds_load(e, folder, NULL, NULL) == DS_OK, "ds_save and ds_load");
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    CHECK(system(command) == 0, command);
    CHECK(ds_generate(e, prompt, 2, "{\"max_new_tokens\": 3}", token, &heard, &ids, &n) == DS_OK && n == 3 && heard == 3, "ds_generate");
    ds_free(ids);
    CHECK(ds_engine_get(e, "optimizer.type", &json) == DS_OK && json[0], "ds_engine_get");
    ds_free(json);
    e ? ds_engine_destroy(e) : (void)0;
    ds_data_destroy(data);
    CHECK(ds_engine_create("{\"optimiser\": {}}", NULL, &e) == DS_E_CONFIG && !e && strstr(ds_last_error(), "optimizer"), "an error");
    CHECK(released == 2, "callbacks are released");
    CHECK(lines > 0 && ds_set_log(NULL, DS_LOG_WARN, NULL, NULL) == DS_OK, "the log");
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
