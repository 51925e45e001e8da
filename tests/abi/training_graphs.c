/* Graphs that a host builds or writes as text, alone and around a model family's body. */
#include "training.h"

#include <unistd.h>

static ds_engine *graph_engine(ds_graph *g, const char *config) {
    ds_options *o = NULL;
    ds_engine *e = NULL;
    assert_ok(ds_options_create(&o));
    assert_ok(ds_options_set_graph(o, g));
    assert_ok(ds_engine_create(config, o, &e));
    ds_options_destroy(o);
    return e;
}

static int32_t op(ds_graph *g, const char *name, int32_t a, int32_t b, int32_t c, const char *attrs, size_t outputs) {
    int32_t in[3], out[4] = {-1, -1, -1, -1};
    in[0] = a, in[1] = b, in[2] = c;
    assert_ok(ds_graph_op(g, name, in, c >= 0 ? 3 : b >= 0 ? 2 : 1, attrs, out, outputs));
    return out[0];
}

static void a_perceptron_built_by_the_host_learns(void **state) {
    const int64_t x_shape[2] = {-1, 4}, y_shape[1] = {-1}, up[2] = {16, 4}, down[2] = {2, 16}, bias[1] = {16}, shape[2] = {8, 4};
    ds_graph *g = NULL;
    ds_engine *e, *two;
    ds_batch *b = NULL;
    ds_tensor *t;
    int32_t x, labels, w, v, c, y, i, r, ids[8];
    float values[32], first = 0, loss = 0, of_two = 0;
    (void)state;
    assert_ok(ds_graph_create(&g));
    assert_ok(ds_graph_input(g, "x", DS_F32, 2, x_shape, &x));
    assert_ok(ds_graph_input(g, "labels", DS_I64, 1, y_shape, &labels));
    assert_ok(ds_graph_param(g, "up", DS_F32, 2, up, "{\"type\": \"normal\", \"std\": 0.5}", &w));
    assert_ok(ds_graph_param(g, "bias", DS_F32, 1, bias, NULL, &c));
    assert_ok(ds_graph_param(g, "down", DS_F32, 2, down, "{\"type\": \"uniform\", \"bound\": 0.5}", &v));
    y = op(g, "matmul", op(g, "gelu", op(g, "matmul", x, w, c, "{\"transpose_b\": true}", 1), -1, -1, NULL, 1), v, -1, "{\"transpose_b\": true}", 1);
    assert_ok(ds_graph_output(g, "logits", y));
    assert_ok(ds_graph_loss(g, op(g, "cross_entropy", y, labels, -1, NULL, 2)));
    e = graph_engine(g, "{\"train_batch_size\": 8, \"optimizer\": {\"type\": \"AdamW\", \"params\": {\"lr\": 0.02}}}");
    two = graph_engine(g, "{\"train_batch_size\": 8, \"parallel\": {\"data\": 2}}");
    ds_graph_destroy(g);
    for (r = 0; r < 8; ++r) {
        for (i = 0; i < 4; ++i) values[4 * r + i] = (float)((r * 5 + i * 3) % 7) - 3;
        ids[r] = r % 2;
    }
    assert_ok(ds_batch_create(&b));
    t = f32_tensor(2, shape, values);
    assert_ok(ds_batch_set(b, "x", t));
    ds_tensor_destroy(t);
    ids[0] = ids[1] = ids[2] = -100; /* one data rank has fewer labels than the other */
    put(b, "labels", 1, 8, 1, ids);
    assert_ok(ds_eval(e, b, &loss));
    assert_ok(ds_eval(two, b, &of_two));
    assert_float_equal(of_two, loss, 1e-5f * loss);
    ds_engine_destroy(two);
    for (r = 0; r < 3; ++r) ids[r] = r % 2;
    put(b, "labels", 1, 8, 1, ids);
    for (i = 0; i < 60; ++i) {
        loss = train(e, b);
        if (i == 0) first = loss;
        assert_ok(ds_step(e));
    }
    assert_true(loss < 0.3f * first);
    ids[3] = 2;
    put(b, "labels", 1, 8, 1, ids);
    assert_fails(DS_E_INVALID_ARGUMENT, "labels: element 3 is 2, outside 0..1", ds_forward(e, b, NULL));
    put(b, "wrong", 1, 8, 1, ids);
    assert_fails(DS_E_INVALID_ARGUMENT, "wrong is not an input of the graph; its inputs are x, labels", ds_forward(e, b, NULL));
    assert_fails(DS_E_UNSUPPORTED, "ds_save", ds_export(e, "/tmp/none", NULL));
    ds_batch_destroy(b);
    ds_engine_destroy(e);
}

/* The article's MyModel: dropout and a linear layer around BERT's pooled output. With the head's own weights it is the family's classifier. */
static void a_hosts_graph_wraps_bert(void **state) {
    const int64_t grid[2] = {-1, -1}, rows[1] = {-1}, w_shape[2] = {3, 32}, b_shape[1] = {3};
    ds_graph *g = NULL;
    ds_engine *mine, *family = engine(BERT, "\"train_batch_size\": 4, " SGD);
    ds_batch *b = rows_of(0, 4, 8, 0);
    ds_tensor *t = NULL;
    int32_t in[2], labels, pooled, w, c, y;
    float loss, loss_too;
    (void)state;
    assert_ok(ds_graph_create(&g));
    assert_ok(ds_graph_input(g, "input_ids", DS_I64, 2, grid, &in[0]));
    assert_ok(ds_graph_input(g, "attention_mask", DS_I64, 2, grid, &in[1]));
    assert_ok(ds_graph_input(g, "labels", DS_I64, 1, rows, &labels));
    assert_fails(DS_E_NOT_FOUND, "pooler_output", ds_graph_model(g, BERT, "{\"prefix\": \"bert.\"}", in, 2, "pooled", &pooled));
    assert_ok(ds_graph_model(g, BERT, "{\"prefix\": \"bert.\"}", in, 2, "pooler_output", &pooled));
    assert_ok(ds_graph_param(g, "classifier.weight", DS_F32, 2, w_shape, "{\"type\": \"normal\", \"std\": 0.02}", &w));
    assert_ok(ds_graph_param(g, "classifier.bias", DS_F32, 1, b_shape, NULL, &c));
    y = op(g, "matmul", op(g, "dropout", pooled, -1, -1, "{\"p\": 0}", 1), w, c, "{\"transpose_b\": true}", 1);
    assert_ok(ds_graph_output(g, "logits", y));
    assert_ok(ds_graph_loss(g, op(g, "cross_entropy", y, labels, -1, NULL, 2)));
    mine = graph_engine(g, "{\"train_batch_size\": 4, \"threads\": 2, " SGD "}");
    ds_graph_destroy(g);
    assert_ok(ds_param_get(family, "classifier.weight", DS_WEIGHT, &t));
    assert_ok(ds_param_set(mine, "classifier.weight", DS_WEIGHT, t));
    ds_tensor_destroy(t);
    assert_ok(ds_param_get(family, "classifier.bias", DS_WEIGHT, &t));
    assert_ok(ds_param_set(mine, "classifier.bias", DS_WEIGHT, t));
    ds_tensor_destroy(t);
    loss = train(mine, b);
    loss_too = train(family, b);
    assert_true(fabs(loss - loss_too) < 1e-6);
    {
        float x[1024], z[1024];
        ds_tensor *s = NULL;
        assert_ok(ds_param_get(mine, "bert.encoder.layer.0.attention.self.query.weight", DS_GRAD, &t));
        assert_ok(ds_param_get(family, "bert.encoder.layer.0.attention.self.query.weight", DS_GRAD, &s));
        assert_ok(ds_tensor_read(t, DS_F32, x, sizeof(x)));
        assert_ok(ds_tensor_read(s, DS_F32, z, sizeof(z)));
        assert_true(difference(x, z, 1024) < 1e-5);
        ds_tensor_destroy(t);
        ds_tensor_destroy(s);
    }
    assert_ok(ds_step(mine));
    ds_batch_destroy(b);
    ds_engine_destroy(mine);
    ds_engine_destroy(family);
}

static void read_gradient(ds_engine *e, const char *name, float *x, size_t n) {
    ds_tensor *t = NULL;
    assert_ok(ds_param_get(e, name, DS_GRAD, &t));
    assert_int_equal(count_of(t), n);
    assert_ok(ds_tensor_read(t, DS_F32, x, n * sizeof(float)));
    ds_tensor_destroy(t);
}

/* The mean of pooled(input_ids) * pooled(pair_ids). */
static ds_engine *two_texts(const char *first, const char *second) {
    const int64_t grid[2] = {-1, -1};
    ds_graph *g = NULL;
    ds_engine *e;
    int32_t ids, pair, a, c;
    assert_ok(ds_graph_create(&g));
    assert_ok(ds_graph_input(g, "input_ids", DS_I64, 2, grid, &ids));
    assert_ok(ds_graph_input(g, "pair_ids", DS_I64, 2, grid, &pair));
    assert_ok(ds_graph_model(g, BERT, first, &ids, 1, "pooler_output", &a));
    assert_ok(ds_graph_model(g, BERT, second, &pair, 1, "pooler_output", &c));
    assert_ok(ds_graph_loss(g, op(g, "mean", op(g, "mul", a, c, -1, NULL, 1), -1, -1, NULL, 1)));
    e = graph_engine(g, "{\"train_batch_size\": 2, \"gradient_clipping\": 0, \"threads\": 2, " SGD "}");
    ds_graph_destroy(g);
    return e;
}

static void one_encoder_reads_two_texts(void **state) {
    static const char weight[] = "encoder.layer.1.output.dense.weight";
    static const int32_t ids[16] = {5, 6, 7, 8, 9, 10, 11, 12, 3, 4, 5, 6, 20, 30, 40, 50};
    static float a[32 * 88], b[32 * 88], both[32 * 88];
    ds_engine *one = two_texts("{\"prefix\": \"x.\"}", "{\"prefix\": \"x.\"}"), *two = two_texts("{\"prefix\": \"x.\"}", "{\"prefix\": \"y.\"}");
    ds_batch *batch = NULL;
    char name[64];
    size_t n, m, i;
    (void)state;
    assert_ok(ds_param_count(one, &n));
    assert_ok(ds_param_count(two, &m));
    assert_int_equal(m, 2 * n);
    assert_ok(ds_batch_create(&batch));
    put(batch, "input_ids", 2, 2, 4, ids);
    put(batch, "pair_ids", 2, 2, 4, ids + 8);
    assert_true(fabs(train(one, batch) - train(two, batch)) < 1e-7);
    snprintf(name, sizeof(name), "x.%s", weight);
    read_gradient(one, name, both, 32 * 88);
    read_gradient(two, name, a, 32 * 88);
    snprintf(name, sizeof(name), "y.%s", weight);
    read_gradient(two, name, b, 32 * 88);
    for (i = 0; i < 32 * 88; ++i) a[i] += b[i];
    assert_true(difference(both, a, 32 * 88) < 1e-5 && norm_of(b, 32 * 88) > 0);
    assert_ok(ds_step(one));
    ds_batch_destroy(batch);
    ds_engine_destroy(one);
    ds_engine_destroy(two);
}

/* RoBERTa's positions begin behind that of padding, which a graph can't know of its tokens. */
static void positions_that_skip_padding_are_asked_for(void **state) {
    const int64_t grid[2] = {-1, -1};
    const char *roberta = DSRT_TEST_DATA "/models/roberta-sentiment";
    static const int32_t ids[8] = {5, 6, 1, 8, 9, 10, 11, 1}, places[8] = {2, 3, 1, 4, 2, 3, 4, 1};
    float mine[256], theirs[256];
    ds_graph *g = NULL;
    ds_engine *e, *family = engine(DSRT_TEST_DATA "/models/roberta-sentiment", "\"train_batch_size\": 2, \"outputs\": [\"last_hidden_state\"], " SGD);
    ds_batch *b = NULL;
    ds_tensor *t = NULL;
    int32_t in[4] = {-1, -1, -1, -1}, states;
    (void)state;
    assert_ok(ds_graph_create(&g));
    assert_ok(ds_graph_input(g, "input_ids", DS_I64, 2, grid, &in[0]));
    assert_fails(DS_E_INVALID_ARGUMENT, "the positions of roberta begin at 2 and skip padding: give position_ids", ds_graph_model(g, roberta, NULL, in, 1, "last_hidden_state", &states));
    assert_ok(ds_graph_input(g, "position_ids", DS_I64, 2, grid, &in[3]));
    assert_ok(ds_graph_model(g, roberta, NULL, in, 4, "last_hidden_state", &states));
    assert_ok(ds_graph_output(g, "states", states));
    e = graph_engine(g, "{\"train_batch_size\": 2, \"threads\": 2}");
    ds_graph_destroy(g);
    assert_ok(ds_batch_create(&b));
    put(b, "input_ids", 2, 2, 4, ids);
    assert_ok(ds_eval(family, b, NULL));
    assert_ok(ds_output(family, "last_hidden_state", &t));
    assert_ok(ds_tensor_read(t, DS_F32, theirs, sizeof(theirs)));
    ds_tensor_destroy(t);
    put(b, "position_ids", 2, 2, 4, places);
    assert_ok(ds_eval(e, b, NULL));
    assert_ok(ds_output(e, "states", &t));
    assert_ok(ds_tensor_read(t, DS_F32, mine, sizeof(mine)));
    ds_tensor_destroy(t);
    assert_true(difference(mine, theirs, 256) < 1e-6);
    ds_batch_destroy(b);
    ds_engine_destroy(e);
    ds_engine_destroy(family);
}

static void a_body_takes_positions_and_says_what_it_lacks(void **state) {
    const int64_t grid[2] = {-1, -1}, shape[1] = {4};
    static const int32_t ids[8] = {5, 6, 7, 8, 9, 10, 11, 12}, places[8] = {7, 3, 2, 30, 1, 0, 5, 6};
    float mine[64], theirs[64];
    ds_graph *g = NULL;
    ds_engine *e, *family = engine(BERT, "\"train_batch_size\": 2, " SGD);
    ds_batch *b = NULL;
    ds_tensor *t = NULL;
    int32_t in[4] = {-1, -1, -1, -1}, pooled, taken;
    (void)state;
    assert_ok(ds_graph_create(&g));
    assert_ok(ds_graph_input(g, "input_ids", DS_I64, 2, grid, &in[0]));
    assert_ok(ds_graph_input(g, "position_ids", DS_I64, 2, grid, &in[3]));
    assert_fails(DS_E_INVALID_ARGUMENT, "without input_ids", ds_graph_model(g, BERT, NULL, in + 1, 3, "pooler_output", &pooled));
    assert_fails(DS_E_INVALID_ARGUMENT, "not 5 inputs", ds_graph_model(g, BERT, NULL, in, 5, "pooler_output", &pooled));
    assert_ok(ds_graph_param(g, "own.pooler.dense.bias", DS_F32, 1, shape, NULL, &taken));
    assert_fails(DS_E_INVALID_ARGUMENT, "own.pooler.dense.bias is taken", ds_graph_model(g, BERT, "{\"prefix\": \"own.\"}", in, 1, "pooler_output", &pooled));
    assert_fails(DS_E_INVALID_ARGUMENT, "option prefix must be a string, not 3", ds_graph_model(g, BERT, "{\"prefix\": 3}", in, 4, "pooler_output", &pooled));
    assert_fails(DS_E_INVALID_ARGUMENT, "option model_overrides must be an object, not []", ds_graph_model(g, BERT, "{\"model_overrides\": []}", in, 4, "pooler_output", &pooled));
    assert_fails(DS_E_INVALID_ARGUMENT, "model_init must be pretrained or random, not new", ds_graph_model(g, BERT, "{\"model_init\": \"new\"}", in, 4, "pooler_output", &pooled));
    assert_fails(DS_E_INVALID_ARGUMENT, "option prefx is unknown; accepted: prefix, model_overrides, model_init", ds_graph_model(g, BERT, "{\"prefx\": \"a\"}", in, 4, "pooler_output", &pooled));
    assert_fails(DS_E_INVALID_ARGUMENT, "options must be a JSON object, not []", ds_graph_model(g, BERT, "[]", in, 4, "pooler_output", &pooled));
    assert_ok(ds_graph_model(g, BERT, NULL, in, 4, "pooler_output", &pooled));
    assert_fails(DS_E_INVALID_ARGUMENT, "another \"prefix\"", ds_graph_model(g, DSRT_TEST_DATA "/models/bert-ner", NULL, in, 1, "pooler_output", &pooled));
    assert_ok(ds_graph_output(g, "pooled", pooled));
    e = graph_engine(g, "{\"train_batch_size\": 2, \"threads\": 2}");
    ds_graph_destroy(g);
    assert_ok(ds_batch_create(&b));
    put(b, "input_ids", 2, 2, 4, ids);
    put(b, "position_ids", 2, 2, 4, places);
    assert_ok(ds_eval(e, b, NULL));
    assert_ok(ds_output(e, "pooled", &t));
    assert_ok(ds_tensor_read(t, DS_F32, mine, sizeof(mine)));
    ds_tensor_destroy(t);
    assert_ok(ds_eval(family, b, NULL));
    assert_ok(ds_output(family, "pooler_output", &t));
    assert_ok(ds_tensor_read(t, DS_F32, theirs, sizeof(theirs)));
    ds_tensor_destroy(t);
    assert_true(difference(mine, theirs, 64) < 1e-6);
    put(b, "position_ids", 2, 2, 4, (const int32_t[8]){0, 1, 2, 40, 0, 1, 2, 3});
    assert_fails(DS_E_INVALID_ARGUMENT, "position_ids: element 3 is 40", ds_eval(e, b, NULL));
    ds_batch_destroy(b);
    ds_engine_destroy(e);
    ds_engine_destroy(family);
}

static void a_text_file_is_a_model(void **state) {
    char dir[] = "/tmp/dsrt-engine-XXXXXX", path[64], config[256];
    const int64_t shape[2] = {2, 3};
    const float values[6] = {1, 2, 3, 4, 5, 6};
    ds_engine *e = NULL;
    ds_batch *b = NULL;
    ds_tensor *t;
    float loss, again;
    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/model.ds", dir);
    write_file(path, "graph line(%x: f32[rows,3], param %w: f32[3] ones) {\n  %y = mul %x, %w\n  %z = mul %y, %y\n  %loss = mean %z\n  output y = %y\n  loss = %loss\n}\n");
    snprintf(config, sizeof(config), "{\"model\": \"%s\", \"train_batch_size\": 2, " SGD "}", path);
    assert_ok(ds_engine_create(config, NULL, &e));
    assert_ok(ds_batch_create(&b));
    t = f32_tensor(2, shape, values);
    assert_ok(ds_batch_set(b, "x", t));
    ds_tensor_destroy(t);
    loss = train(e, b);
    assert_true(fabs(loss - 91.0 / 6) < 1e-5);
    assert_ok(ds_step(e));
    assert_ok(ds_forward(e, b, &again));
    assert_true(again < loss);
    ds_engine_destroy(e);
    e = NULL;
    write_file(path, "graph line(%x: f32[rows,3]) {\n  %y = mull %x, %x\n}\n");
    assert_fails(DS_E_INVALID_ARGUMENT, "model.ds: line 2: there is no op 'mull'", ds_engine_create(config, NULL, &e));
    ds_batch_destroy(b);
}

/* 4 TB: told before pages are written, which would end the process. */
static void more_than_the_machine_has_is_refused(void **state) {
    const int64_t shape[2] = {1 << 20, 1 << 20};
    int32_t w, loss;
    ds_graph *g = NULL;
    ds_options *o = NULL;
    ds_engine *e = NULL;
    (void)state;
    assert_ok(ds_graph_create(&g));
    assert_ok(ds_graph_param(g, "w", DS_F32, 2, shape, NULL, &w));
    assert_ok(ds_graph_op(g, "mean", &w, 1, NULL, &loss, 1));
    assert_ok(ds_graph_loss(g, loss));
    assert_ok(ds_options_create(&o));
    assert_ok(ds_options_set_graph(o, g));
    assert_fails(DS_E_OUT_OF_MEMORY, "4398046511104 bytes are needed in one piece, but this machine has", ds_engine_create("{\"train_batch_size\": 2, " SGD "}", o, &e));
    assert_null(e);
    ds_options_destroy(o);
    ds_graph_destroy(g);
}

static void a_graph_without_a_loss_says_so(void **state) {
    const int64_t shape[2] = {2, 3};
    const float values[6] = {1, 2, 3, 4, 5, 6};
    ds_graph *g = NULL;
    ds_options *o = NULL;
    ds_engine *e = NULL;
    ds_batch *b = NULL;
    ds_tensor *t = f32_tensor(2, shape, values);
    float loss;
    (void)state;
    assert_ok(ds_graph_parse("graph m(%x: f32[rows,3], param %w: f32[3] ones) {\n  %y = mul %x, %w\n  output \"the y\" = %y\n}\n", &g));
    assert_ok(ds_options_create(&o));
    assert_ok(ds_options_set_graph(o, g));
    assert_ok(ds_engine_create("{\"train_batch_size\": 2, " SGD "}", o, &e));
    assert_ok(ds_batch_create(&b));
    assert_ok(ds_batch_set(b, "x", t));
    assert_fails(DS_E_INVALID_ARGUMENT, "the graph has no loss (ds_graph_loss names it); pass NULL for it", ds_forward(e, b, &loss));
    assert_fails(DS_E_INVALID_ARGUMENT, "the graph has no loss", ds_eval(e, b, &loss));
    assert_ok(ds_forward(e, b, NULL));
    assert_fails(DS_E_STATE, "the model computes none; call ds_backward_from", ds_backward(e));
    ds_batch_destroy(b);
    assert_ok(ds_batch_create(&b));
    assert_ok(ds_batch_set(b, "the y", t));
    assert_ok(ds_backward_from(e, b));
    assert_ok(ds_step(e));
    ds_batch_destroy(b);
    ds_tensor_destroy(t);
    ds_engine_destroy(e);
    ds_options_destroy(o);
    ds_graph_destroy(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(more_than_the_machine_has_is_refused), TEST(a_graph_without_a_loss_says_so),
        TEST(a_perceptron_built_by_the_host_learns), TEST(a_hosts_graph_wraps_bert), TEST(one_encoder_reads_two_texts), TEST(positions_that_skip_padding_are_asked_for), TEST(a_body_takes_positions_and_says_what_it_lacks),
        TEST(a_text_file_is_a_model)};
    return RUN(tests);
}
