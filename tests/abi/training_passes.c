/* Passes: evaluation, outputs, padding, dropout, batches that are refused. */
#include "training.h"

static void evaluation_leaves_a_pending_forward_alone(void **state) {
    ds_engine *a = engine(BERT, "\"train_batch_size\": 2, " SGD), *c = engine(BERT, "\"train_batch_size\": 2, " SGD);
    ds_batch *b = rows_of(0, 2, 8, 0), *other = rows_of(4, 3, 16, 0);
    float loss, other_loss;
    (void)state;
    train(a, b);
    assert_ok(ds_forward(c, b, &loss));
    assert_ok(ds_eval(c, other, &other_loss));
    assert_true(other_loss != loss);
    assert_ok(ds_backward(c));
    assert_true(relative_of(a, c, DS_GRAD) == 0);
    assert_ok(ds_eval(c, b, &other_loss));
    assert_true(fabs(other_loss - loss) < 1e-6);
    assert_true(relative_of(a, c, DS_GRAD) == 0);
    assert_ok(ds_step(c));
    ds_batch_destroy(b);
    ds_batch_destroy(other);
    ds_engine_destroy(a);
    ds_engine_destroy(c);
}

static void masked_positions_read_zero_unless_outputs_names_them(void **state) {
    int whole;
    (void)state;
    for (whole = 0; whole < 2; ++whole) {
        ds_engine *e = engine(GPT, whole ? "\"outputs\": [\"logits\"], \"train_batch_size\": 2, " SGD : "\"train_batch_size\": 2, " SGD);
        ds_batch *b = rows_of(0, 2, 8, 1); /* rows of 3 and 4 tokens */
        ds_tensor *t = NULL;
        size_t n, i, width;
        float *x;
        double masked = 0, real = 0;
        assert_ok(ds_eval(e, b, NULL));
        assert_ok(ds_output(e, "logits", &t));
        n = count_of(t);
        width = n / 16;
        x = malloc(n * 4);
        assert_ok(ds_tensor_read(t, DS_F32, x, n * 4));
        for (i = 0; i < n; ++i) *(i / width % 8 < 3 + i / width / 8 ? &real : &masked) += fabs(x[i]);
        assert_true(real > 0 && (masked > 0) == (whole == 1));
        free(x);
        ds_tensor_destroy(t);
        assert_fails(DS_E_NOT_FOUND, "logits", ds_output(e, "logit", &t));
        ds_batch_destroy(b);
        ds_engine_destroy(e);
    }
}

static void padding_changes_nothing(void **state) {
    int causal;
    (void)state;
    for (causal = 0; causal < 2; ++causal) {
        ds_engine *a = engine(causal ? GPT : BERT, "\"train_batch_size\": 4, " SGD), *c = engine(causal ? GPT : BERT, "\"train_batch_size\": 4, " SGD);
        ds_batch *tight = rows_of(0, 4, 8, causal), *padded = rows_of(0, 4, 24, causal);
        assert_true(train(a, tight) == train(c, padded));
        assert_true(relative_of(a, c, DS_GRAD) < 1e-6);
        ds_batch_destroy(tight);
        ds_batch_destroy(padded);
        ds_engine_destroy(a);
        ds_engine_destroy(c);
    }
}

static float dropout_loss(const char *seed, int length, int forwards) {
    char rest[256];
    ds_engine *e;
    ds_batch *b = rows_of(0, 4, length, 0);
    float loss = 0;
    snprintf(rest, sizeof(rest), "\"train_batch_size\": 4, \"seed\": %s, \"model_overrides\": {\"hidden_dropout_prob\": 0.3, \"attention_probs_dropout_prob\": 0.2}, " SGD, seed);
    e = engine(BERT, rest);
    while (forwards--) assert_ok(ds_forward(e, b, &loss));
    ds_batch_destroy(b);
    ds_engine_destroy(e);
    return loss;
}

static void dropout_follows_seed_and_step_and_not_the_padding(void **state) {
    const float loss = dropout_loss("1", 8, 1);
    (void)state;
    assert_true(loss == dropout_loss("1", 8, 1));
    assert_true(loss != dropout_loss("2", 8, 1));
    assert_true(loss != dropout_loss("1", 8, 2));
}

static void bad_batches_are_refused_by_name(void **state) {
    static int32_t ids[16] = {5, 6, 7, 8};
    ds_engine *e = engine(BERT, "\"train_batch_size\": 2, " SGD);
    ds_batch *b = NULL;
    ds_tensor *t = NULL;
    const int64_t shape[2] = {2, 4};
    const float floats[8] = {0};
    float loss;
    (void)state;
    assert_ok(ds_batch_create(&b));
    assert_fails(DS_E_INVALID_ARGUMENT, "input_ids is missing", ds_forward(e, b, NULL));
    put(b, "input_ids", 2, 2, 4, ids);
    assert_fails(DS_E_INVALID_ARGUMENT, "no labels", ds_forward(e, b, &loss));
    assert_ok(ds_forward(e, b, NULL));
    assert_fails(DS_E_STATE, "no labels", ds_backward(e));
    ids[5] = 97;
    put(b, "input_ids", 2, 2, 4, ids);
    assert_fails(DS_E_INVALID_ARGUMENT, "input_ids: element [1, 1] is 97, outside 0..96", ds_forward(e, b, NULL));
    ids[5] = -1;
    put(b, "input_ids", 2, 2, 4, ids);
    assert_fails(DS_E_INVALID_ARGUMENT, "[1, 1] is -1", ds_forward(e, b, NULL));
    ids[5] = 1;
    put(b, "input_ids", 2, 2, 4, ids);
    put(b, "attention_mask", 2, 4, 2, ids);
    assert_fails(DS_E_INVALID_ARGUMENT, "attention_mask: must be [2,4] as input_ids demands, but is [4,2]", ds_forward(e, b, NULL));
    put(b, "attention_mask", 2, 2, 4, ids);
    put(b, "labels", 2, 2, 4, ids);
    assert_fails(DS_E_INVALID_ARGUMENT, "labels", ds_forward(e, b, NULL));
    ids[0] = 3;
    put(b, "labels", 1, 2, 1, ids);
    assert_fails(DS_E_INVALID_ARGUMENT, "outside 0..2", ds_forward(e, b, NULL));
    ids[0] = ids[1] = 2;
    put(b, "labels", 1, 2, 1, ids);
    put(b, "token_type_ids", 2, 2, 4, ids);
    assert_fails(DS_E_INVALID_ARGUMENT, "token_type_ids", ds_forward(e, b, NULL));
    ids[0] = ids[1] = ids[2] = ids[3] = 0;
    put(b, "token_type_ids", 2, 2, 4, (const int32_t[8]){0, 1, 0, 1, 1, 1, 0, 0});
    assert_ok(ds_forward(e, b, &loss));
    put(b, "input_idz", 2, 2, 4, ids);
    assert_fails(DS_E_INVALID_ARGUMENT, "input_idz", ds_forward(e, b, NULL));
    ds_batch_destroy(b);
    assert_ok(ds_batch_create(&b));
    assert_ok(ds_tensor_create(DS_F32, 2, shape, floats, sizeof(floats), &t));
    assert_ok(ds_batch_set(b, "input_ids", t));
    assert_fails(DS_E_INVALID_ARGUMENT, "input_ids: must hold integers, not f32", ds_forward(e, b, NULL));
    ds_tensor_destroy(t);
    ds_batch_destroy(b);
    b = rows_of(0, 2, 48, 0);
    assert_fails(DS_E_INVALID_ARGUMENT, "40 positions", ds_forward(e, b, NULL));
    ds_batch_destroy(b);
    assert_fails(DS_E_INVALID_ARGUMENT, "NULL", ds_forward(e, NULL, NULL));
    ds_engine_destroy(e);
}

static int32_t never(void *user, const char *parameter, int64_t step, double lr, float *weight, const float *gradient, float *state, size_t n) {
    (void)user, (void)parameter, (void)step, (void)lr, (void)weight, (void)gradient, (void)state, (void)n;
    return -1;
}

static void an_engine_without_optimizer_needs_no_batch_size(void **state) {
    ds_engine *e = NULL, *trained = engine(BERT, "\"train_batch_size\": 4, " SGD);
    ds_batch *b = rows_of(0, 4, 8, 0);
    ds_options *o = NULL;
    ds_optimizer_callbacks callbacks;
    float loss, loss_too;
    (void)state;
    assert_ok(ds_engine_create("{\"model\": \"" BERT "\"}", NULL, &e));
    assert_ok(ds_eval(e, b, &loss));
    assert_ok(ds_eval(trained, b, &loss_too));
    assert_true(loss == loss_too);
    train(e, b); /* gradients may be of interest too */
    assert_fails(DS_E_STATE, "no optimizer", ds_step(e));
    ds_engine_destroy(e);
    ds_engine_destroy(trained);
    ds_batch_destroy(b);
    assert_fails(DS_E_CONFIG, "train_batch_size: it or train_micro_batch_size_per_gpu must be given", ds_engine_create("{\"model\": \"" BERT "\", " SGD "}", NULL, &e));
    assert_null(e);
    memset(&callbacks, 0, sizeof(callbacks));
    callbacks.struct_size = sizeof(callbacks);
    callbacks.update = never;
    assert_ok(ds_options_create(&o));
    assert_ok(ds_options_set_optimizer(o, &callbacks));
    assert_fails(DS_E_CONFIG, "as the options have an optimizer", ds_engine_create("{\"model\": \"" BERT "\"}", o, &e));
    ds_options_destroy(o);
}

static void names_that_a_model_has_no_use_for_are_refused(void **state) {
    static const int32_t spans[2] = {1, 2};
    ds_engine *e = engine(BERT, "\"train_batch_size\": 2, " SGD);
    ds_batch *b = rows_of(0, 2, 8, 0);
    (void)state;
    put(b, "wrong", 1, 2, 1, spans);
    assert_fails(DS_E_INVALID_ARGUMENT, "wrong is not an input of bert; it takes input_ids, attention_mask, token_type_ids, position_ids and labels", ds_forward(e, b, NULL));
    ds_batch_destroy(b);
    b = rows_of(0, 2, 8, 0);
    put(b, "start_positions", 1, 2, 1, spans);
    put(b, "end_positions", 1, 2, 1, spans);
    assert_fails(DS_E_INVALID_ARGUMENT, "is not an input of bert", ds_eval(e, b, NULL));
    ds_batch_destroy(b);
    ds_engine_destroy(e);
}

/* transformers' packed sequences: positions that begin anew in a row without a mask. */
static void positions_that_begin_anew_are_another_text(void **state) {
    static const char *models[2] = {GPT, DSRT_TEST_DATA "/models/mistral-window"};
    static const int32_t whole[2][9] = {{5, 9, 31, 8, 2, 17, 40, 3, 11}, {21, 6, 6, 13, 90, 4, 77, 1, 52}};
    static const int32_t places[2][9] = {{0, 1, 2, 3, 0, 1, 2, 3, 4}, {0, 1, 0, 1, 2, 3, 4, 5, 6}};
    static const int starts[4] = {0, 4, 9, 11}, ends[4] = {4, 9, 11, 18};
    int m, i, t;
    (void)state;
    for (m = 0; m < 2; ++m) {
        ds_engine *packed = engine(models[m], "\"train_batch_size\": 2, \"gradient_clipping\": 0, " SGD), *apart = engine(models[m], "\"train_batch_size\": 4, \"gradient_clipping\": 0, " SGD);
        ds_batch *b = NULL;
        int32_t labels[18], ids[28] = {0}, mask[28] = {0}, targets[28];
        float together, by_rows;
        for (t = 0; t < 28; ++t) targets[t] = -100;
        for (i = 0; i < 4; ++i)
            for (t = starts[i]; t < ends[i]; ++t) {
                const int at = 7 * i + t - starts[i];
                ids[at] = whole[t / 9][t % 9], mask[at] = 1;
                labels[t] = targets[at] = t > starts[i] ? ids[at] : -100; /* no text predicts the next one's first token */
            }
        assert_ok(ds_batch_create(&b));
        put(b, "input_ids", 2, 2, 9, whole[0]);
        put(b, "position_ids", 2, 2, 9, places[0]);
        put(b, "labels", 2, 2, 9, labels);
        assert_ok(ds_forward(packed, b, &together));
        assert_ok(ds_backward(packed));
        ds_batch_destroy(b);
        assert_ok(ds_batch_create(&b));
        put(b, "input_ids", 2, 4, 7, ids);
        put(b, "attention_mask", 2, 4, 7, mask);
        put(b, "labels", 2, 4, 7, targets);
        assert_ok(ds_forward(apart, b, &by_rows));
        assert_ok(ds_backward(apart));
        ds_batch_destroy(b);
        assert_true(fabs(together - by_rows) < 1e-6 * by_rows);
        assert_true(relative_of(packed, apart, DS_GRAD) < 1e-6);
        /* Beside a mask, positions are positions only. */
        for (t = 0; t < 18; ++t) mask[t] = 1;
        assert_ok(ds_batch_create(&b));
        put(b, "input_ids", 2, 2, 9, whole[0]);
        put(b, "attention_mask", 2, 2, 9, mask);
        put(b, "position_ids", 2, 2, 9, places[0]);
        put(b, "labels", 2, 2, 9, labels);
        assert_ok(ds_eval(packed, b, &together));
        assert_true(fabs(together - by_rows) > 1e-4 * by_rows);
        ds_batch_destroy(b);
        ds_engine_destroy(packed);
        ds_engine_destroy(apart);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(evaluation_leaves_a_pending_forward_alone), TEST(masked_positions_read_zero_unless_outputs_names_them),
        TEST(padding_changes_nothing), TEST(dropout_follows_seed_and_step_and_not_the_padding), TEST(bad_batches_are_refused_by_name), TEST(an_engine_without_optimizer_needs_no_batch_size),
        TEST(names_that_a_model_has_no_use_for_are_refused), TEST(positions_that_begin_anew_are_another_text)};
    return RUN(tests);
}
