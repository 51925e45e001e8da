/* Loading a checkpoint that does not fit: what is refused changes nothing, what is left out is told. */
#include "tiny_model.h"

#include <unistd.h>

#define ENGINE(optimizer) \
    "{" TINY_MODEL ", \"train_micro_batch_size_per_gpu\": 2, \"optimizer\": {\"type\": \"" optimizer "\", \"params\": {\"lr\": 0.01}}, " \
    "\"scheduler\": {\"type\": \"StepLR\", \"params\": {\"step_size\": 1, \"gamma\": 0.5}}, " \
    "\"fp16\": {\"enabled\": true, \"initial_scale_power\": 8, \"loss_scale_window\": 1}}"

static char folder[] = "/tmp/dsrt-loads-XXXXXX";
static char warning[1024];

static void remember(int32_t level, const char *component, const char *message, void *user) {
    (void)user;
    if (level == DS_LOG_WARN && !strcmp(component, "ckpt")) snprintf(warning, sizeof(warning), "%s", message);
}

/* Three steps of AdamW, saved under "adamw", with the cursor of a host's own data. */
static int32_t next(void *user, ds_batch *b) {
    set_ids(b, "input_ids", ++*(int *)user);
    set_ids(b, "labels", *(int *)user);
    return DS_OK;
}
static int32_t save(void *user, char **json) {
    *json = malloc(16);
    if (!*json) return DS_E_OUT_OF_MEMORY;
    snprintf(*json, 16, "%d", *(int *)user);
    return DS_OK;
}
static int32_t cannot_restore(void *user, const char *json) {
    (void)user, (void)json;
    return DS_E_IO;
}

static ds_data *numbers(int *at, int with_restore, ds_engine *e) {
    ds_data_source source;
    ds_data *d = NULL;
    memset(&source, 0, sizeof(source));
    source.struct_size = sizeof(source);
    source.user = at;
    source.next = next;
    source.save = save;
    if (with_restore) source.restore = cannot_restore;
    *at = 0;
    assert_ok(ds_data_create(&source, e, &d));
    return d;
}

static int make_checkpoint(void **state) {
    int at, i;
    ds_engine *e = engine_of(ENGINE("AdamW"));
    ds_data *d = numbers(&at, 0, e);
    (void)state;
    if (!mkdtemp(folder)) return -1;
    for (i = 0; i < 3; ++i) assert_ok(ds_train_batch(e, d, NULL));
    assert_ok(ds_save(e, folder, "adamw", NULL));
    ds_data_destroy(d);
    ds_engine_destroy(e);
    return ds_set_log(remember, DS_LOG_WARN, NULL, NULL);
}

static int remove_checkpoint(void **state) {
    char command[64];
    (void)state;
    snprintf(command, sizeof(command), "rm -r %s", folder);
    return ds_set_log(NULL, DS_LOG_WARN, NULL, NULL) | system(command);
}

/* Its schedule and loss scale are three steps on: none of it may stay when the cursor, the last thing, can't be had. */
static void a_load_that_fails_changes_nothing(void **state) {
    int with_restore;
    (void)state;
    for (with_restore = 0; with_restore < 2; ++with_restore) {
        int at, other_at, i;
        ds_engine *e = engine_of(ENGINE("AdamW")), *other = engine_of(ENGINE("AdamW"));
        ds_data *d = numbers(&at, with_restore, e), *other_d = numbers(&other_at, with_restore, other);
        if (with_restore) assert_fails(DS_E_USER, "restore() returned -4", ds_load(e, folder, NULL, NULL));
        else assert_fails(DS_E_UNSUPPORTED, "no restore()", ds_load(e, folder, NULL, NULL));
        for (i = 0; i < 3; ++i) {
            float loss, expected;
            assert_ok(ds_train_batch(e, d, &loss));
            assert_ok(ds_train_batch(other, other_d, &expected));
            assert_true(loss == expected);
            assert_true(metric(e, "lr") == metric(other, "lr"));
            assert_true(metric(e, "loss_scale") == metric(other, "loss_scale"));
        }
        ds_data_destroy(d);
        ds_data_destroy(other_d);
        ds_engine_destroy(e);
        ds_engine_destroy(other);
    }
}

static void moments_of_another_optimizer_are_told(void **state) {
    ds_engine *e = engine_of(ENGINE("Adagrad"));
    (void)state;
    assert_fails(DS_E_NOT_FOUND, "it is of optimizer AdamW, and {\"weights_only\": true} loads the weights alone", ds_load(e, folder, NULL, NULL));
    assert_ok(ds_load(e, folder, NULL, "{\"weights_only\": true}"));
    ds_engine_destroy(e);
    e = engine_of(ENGINE("Adam"));
    assert_ok(ds_load(e, folder, NULL, NULL));
    assert_string_equal(warning, "");
    ds_engine_destroy(e);
    e = engine_of(ENGINE("Lion"));
    assert_ok(ds_load(e, folder, NULL, NULL));
    assert_non_null(strstr(warning, "its moments are of optimizer AdamW; Lion goes on with them"));
    ds_engine_destroy(e);
    warning[0] = 0;
}

static void weights_that_the_model_lacks_are_told(void **state) {
    ds_engine *e = engine_of("{" TINY_MODEL ", \"model_overrides\": {\"n_layer\": 0}}");
    (void)state;
    assert_ok(ds_load(e, folder, NULL, NULL));
    assert_non_null(strstr(warning, "not used by this model: transformer.h.0."));
    ds_engine_destroy(e);
    e = engine_of("{" TINY_MODEL ", \"model_overrides\": {\"n_layer\": 2}}");
    assert_fails(DS_E_NOT_FOUND, "has no tensor transformer.h.1.", ds_load(e, folder, NULL, NULL));
    ds_engine_destroy(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {TEST(a_load_that_fails_changes_nothing), TEST(moments_of_another_optimizer_are_told), TEST(weights_that_the_model_lacks_are_told)};
    return cmocka_run_group_tests(tests, make_checkpoint, remove_checkpoint);
}
