/* Files: checkpoints and exported folders. */
#include "training.h"

#include <unistd.h>

static void checkpoints_and_exported_folders_reload_the_same(void **state) {
    char dir[] = "/tmp/dsrt-engine-XXXXXX", folder[64], config[512];
    const char *const rest = "\"train_batch_size\": 2, \"optimizer\": {\"type\": \"AdamW\", \"params\": {\"lr\": 0.01}}, "
                             "\"scheduler\": {\"type\": \"WarmupLR\", \"params\": {\"warmup_num_steps\": 10}}";
    ds_engine *a = engine(BERT, rest), *c = engine(BERT, rest), *d = NULL;
    ds_batch *b = rows_of(0, 2, 8, 0);
    float loss, loss_too;
    int i;
    (void)state;
    assert_non_null(mkdtemp(dir));
    for (i = 0; i < 2; ++i) {
        train(a, b);
        assert_ok(ds_step(a));
    }
    assert_fails(DS_E_NOT_FOUND, "latest", ds_load(c, dir, NULL, NULL));
    assert_ok(ds_save(a, dir, NULL, "{\"client_state\": {\"epoch\": 3}}"));
    assert_ok(ds_load(c, dir, NULL, NULL));
    assert_true(metric(c, "global_steps") == 2 && metric(c, "lr") == metric(a, "lr"));
    for (i = 0; i < 2; ++i) {
        assert_true(train(a, b) == train(c, b));
        assert_ok(ds_step(a));
        assert_ok(ds_step(c));
    }
    assert_true(relative_of(a, c, DS_WEIGHT) == 0 && relative_of(a, c, DS_SECOND_MOMENT) == 0);
    train(a, b);
    assert_fails(DS_E_STATE, "micro-batches", ds_save(a, dir, "x", NULL));
    assert_fails(DS_E_INVALID_ARGUMENT, "client_stat", ds_save(c, dir, "x", "{\"client_stat\": 1}"));
    assert_fails(DS_E_NOT_FOUND, "nowhere", ds_load(c, dir, "nowhere", NULL));
    snprintf(folder, sizeof(folder), "%s/hf", dir);
    assert_ok(ds_export(c, folder, NULL));
    snprintf(config, sizeof(config), "{\"model\": \"%s\", \"train_batch_size\": 2}", folder);
    assert_ok(ds_engine_create(config, NULL, &d));
    assert_ok(ds_eval(c, b, &loss));
    assert_ok(ds_eval(d, b, &loss_too));
    assert_true(loss == loss_too);
    ds_batch_destroy(b);
    ds_engine_destroy(a);
    ds_engine_destroy(c);
    ds_engine_destroy(d);
}

static void a_save_in_the_background_keeps_what_was_there_at_the_call(void **state) {
    char dir[] = "/tmp/dsrt-engine-XXXXXX", blocked[64];
    const char *const rest = "\"train_batch_size\": 2, \"optimizer\": {\"type\": \"AdamW\", \"params\": {\"lr\": 0.01}}";
    ds_engine *a = engine(BERT, rest), *c = engine(BERT, rest), *d = engine(BERT, rest);
    ds_batch *b = rows_of(0, 2, 8, 0);
    float *then = NULL, *now;
    size_t n;
    int i;
    (void)state;
    assert_non_null(mkdtemp(dir));
    for (i = 0; i < 6; ++i) {
        if (i == 3) {
            then = everything(a, DS_WEIGHT, &n);
            assert_ok(ds_save(a, dir, NULL, "{\"async\": true, \"client_state\": [1]}"));
        }
        train(a, b);
        assert_ok(ds_step(a));
    }
    assert_ok(ds_save(a, dir, "later", "{\"async\": true}")); /* waits for the first */
    assert_ok(ds_load(c, dir, "global_step3", NULL));
    now = everything(c, DS_WEIGHT, &n);
    assert_memory_equal(now, then, n * sizeof(float));
    for (i = 3; i < 6; ++i) {
        train(c, b);
        assert_ok(ds_step(c));
    }
    assert_true(relative_of(a, c, DS_WEIGHT) == 0 && relative_of(a, c, DS_SECOND_MOMENT) == 0);
    ds_engine_destroy(a); /* waits for the second */
    assert_ok(ds_load(d, dir, NULL, NULL));
    assert_true(metric(d, "global_steps") == 6 && relative_of(c, d, DS_WEIGHT) == 0);
    /* A load waits for the engine's own save, and sees it. */
    train(c, b);
    assert_ok(ds_step(c));
    assert_ok(ds_save(c, dir, NULL, "{\"async\": true}"));
    train(c, b);
    assert_ok(ds_load(c, dir, NULL, NULL));
    assert_true(metric(c, "global_steps") == 7);
    /* What goes wrong is told once, by a later call, which has then done nothing. */
    snprintf(blocked, sizeof(blocked), "%s/file", dir);
    write_file(blocked, "");
    assert_ok(ds_save(c, blocked, "t", "{\"async\": true}"));
    assert_fails(DS_E_IO, "/file/t, which was being written in the background: ", ds_save(c, dir, "u", NULL));
    assert_fails(DS_E_NOT_FOUND, "u: no such checkpoint", ds_load(d, dir, "u", NULL));
    assert_ok(ds_save(c, dir, "u", NULL));
    assert_ok(ds_save(c, blocked, "t", "{\"async\": true}"));
    for (i = 0; i < 500; ++i) {
        ds_status s;
        train(c, b);
        s = ds_step(c);
        if (s == DS_OK) {
            usleep(2000);
            continue;
        }
        assert_int_equal(s, DS_E_IO);
        assert_non_null(strstr(ds_last_error(), "in the background"));
        assert_ok(ds_step(c)); /* the update was not lost */
        break;
    }
    assert_true(i < 500);
    assert_fails(DS_E_INVALID_ARGUMENT, "tag \"a/b\" is not acceptable", ds_save(c, dir, "a/b", "{\"async\": true}"));
    assert_fails(DS_E_INVALID_ARGUMENT, "option async must be true or false, not 1", ds_save(c, dir, "x", "{\"async\": 1}"));
    free(then);
    free(now);
    ds_batch_destroy(b);
    ds_engine_destroy(c);
    ds_engine_destroy(d);
}

static ds_data *rows_with(ds_engine *e, const char *path, const char *rule) {
    char options[512];
    ds_data *d = NULL;
    snprintf(options, sizeof(options), "{\"files\": \"%s\", \"shuffle\": false, \"columns\": {\"input_ids\": \"ids\", \"label\": %s}}", path, rule);
    if (ds_data_open(options, e, &d) < 0) d = NULL;
    return d;
}

static void expect_exported(ds_engine *e, const char *dir, const char *names) {
    char path[64];
    char *config = NULL;
    ds_engine *c = NULL;
    assert_ok(ds_export(e, dir, NULL));
    snprintf(path, sizeof(path), "{\"model\": \"%s\"}", dir);
    assert_ok(ds_engine_create(path, NULL, &c));
    assert_ok(ds_engine_get(c, "model_config", &config));
    if (!strstr(config, names)) fail_msg("%s lacks %s", config, names);
    ds_free(config);
    ds_engine_destroy(c);
}

/* bert-sentiment's config.json calls its three classes LABEL_0 to LABEL_2. Where the data names all of them, that is what they are from then on. */
static void names_of_classes_in_the_data_are_exported(void **state) {
    char dir[] = "/tmp/dsrt-engine-XXXXXX", path[64];
    ds_engine *a = engine(BERT, "\"train_batch_size\": 2, " SGD);
    ds_data *d;
    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/rows.jsonl", dir);
    write_file(path, "{\"ids\": [5, 6], \"label\": \"so so\"}\n{\"ids\": [7], \"label\": \"bad\"}\n");
    d = rows_with(a, path, "{\"column\": \"label\", \"names\": [\"bad\", \"so so\"]}");
    assert_non_null(d);
    expect_exported(a, dir, "\"id2label\":{\"0\":\"LABEL_0\",\"1\":\"LABEL_1\",\"2\":\"LABEL_2\"}"); /* two names for three */
    ds_data_destroy(d);
    d = rows_with(a, path, "{\"column\": \"label\", \"names\": [\"bad\", \"so so\", \"good\"]}");
    assert_non_null(d);
    expect_exported(a, dir, "\"id2label\":{\"0\":\"bad\",\"1\":\"so so\",\"2\":\"good\"}");
    ds_data_destroy(d);
    ds_engine_destroy(a);
}

/* The folder that a classifier was exported to knows what its classes are called: rows that say so need no rule, and their order is not the data's. */
static void texts_are_the_classes_that_the_folder_names(void **state) {
    char dir[] = "/tmp/dsrt-engine-XXXXXX", path[64], config[256];
    ds_engine *a = engine(BERT, "\"train_batch_size\": 2, " SGD), *c = NULL;
    ds_batch *b = NULL;
    ds_tensor *labels = NULL;
    ds_data *d;
    int64_t classes[2] = {0, 0};
    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/rows.jsonl", dir);
    write_file(path, "{\"ids\": [5, 6], \"label\": \"so so\"}\n{\"ids\": [7, 8], \"label\": \"bad\"}\n");
    d = rows_with(a, path, "{\"column\": \"label\", \"names\": [\"so so\", \"good\", \"bad\"]}");
    assert_non_null(d);
    assert_ok(ds_export(a, dir, NULL));
    ds_data_destroy(d);
    snprintf(config, sizeof(config), "{\"model\": \"%s\", \"train_batch_size\": 2, " SGD "}", dir);
    assert_ok(ds_engine_create(config, NULL, &c));
    d = rows_with(c, path, "\"label\"");
    if (!d) fail_msg("%s", ds_last_error());
    assert_ok(ds_batch_create(&b));
    assert_ok(ds_data_next(d, b));
    assert_ok(ds_batch_get(b, "labels", &labels));
    assert_ok(ds_tensor_read(labels, DS_I64, classes, sizeof(classes)));
    assert_int_equal(classes[0], 0);
    assert_int_equal(classes[1], 2);
    write_file(path, "{\"ids\": [5, 6], \"label\": \"so so\"}\n{\"ids\": [7], \"label\": \"awful\"}\n");
    assert_null(rows_with(c, path, "\"label\""));
    assert_non_null(strstr(ds_last_error(), "rows.jsonl: line 2 (byte 34): column label: found the text \"awful\", an integer from 0 to 2 or one of \"so so\", \"good\", \"bad\" is accepted"));
    ds_tensor_destroy(labels);
    ds_batch_destroy(b);
    ds_data_destroy(d);
    ds_engine_destroy(c);
    ds_engine_destroy(a);
}

int main(void) {
    const struct CMUnitTest tests[] = {TEST(checkpoints_and_exported_folders_reload_the_same), TEST(a_save_in_the_background_keeps_what_was_there_at_the_call),
                                       TEST(names_of_classes_in_the_data_are_exported), TEST(texts_are_the_classes_that_the_folder_names)};
    return RUN(tests);
}
