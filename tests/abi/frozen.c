/* What can't change within a major version, declared a second time: a header that moved anything does not compile beside it. */
#include "abi_test.h"

const char *ds_version(void);
uint32_t ds_abi_version(void);
const char *ds_last_error(void);
const char *ds_status_name(ds_status s);
void ds_free(void *p);
const char *ds_build_info(void);
ds_status ds_set_log(ds_log_fn fn, int32_t level, void *user, void (*release)(void *user));
ds_status ds_config_describe(char **text);
ds_status ds_plan(const char *config, const ds_options *options, char **report_json);
ds_status ds_tensor_create(int32_t dtype, int32_t ndim, const int64_t *shape, const void *data, size_t bytes, ds_tensor **out);
ds_status ds_tensor_info(const ds_tensor *t, int32_t *dtype, int32_t *ndim, const int64_t **shape);
ds_status ds_tensor_read(const ds_tensor *t, int32_t dtype, void *dst, size_t bytes);
void ds_tensor_destroy(ds_tensor *t);
ds_status ds_tensor_from_dlpack(struct DLManagedTensorVersioned *src, ds_tensor **out);
ds_status ds_tensor_to_dlpack(ds_tensor *t, struct DLManagedTensorVersioned **out);
ds_status ds_batch_create(ds_batch **out);
ds_status ds_batch_set(ds_batch *b, const char *name, const ds_tensor *t);
ds_status ds_batch_get(const ds_batch *b, const char *name, ds_tensor **out);
void ds_batch_destroy(ds_batch *b);
ds_status ds_engine_create(const char *config, const ds_options *options, ds_engine **out);
ds_status ds_forward(ds_engine *e, const ds_batch *b, float *loss);
ds_status ds_backward(ds_engine *e);
ds_status ds_backward_from(ds_engine *e, const ds_batch *gradients);
ds_status ds_step(ds_engine *e);
ds_status ds_zero_grad(ds_engine *e);
ds_status ds_train_batch(ds_engine *e, ds_data *data, float *loss);
ds_status ds_eval(ds_engine *e, const ds_batch *b, float *loss);
ds_status ds_cancel_create(ds_cancel **out);
ds_status ds_cancel_set(ds_cancel *c, int32_t on);
void ds_cancel_destroy(ds_cancel *c);
ds_status ds_engine_set(ds_engine *e, const char *key, const char *json);
ds_status ds_engine_get(ds_engine *e, const char *key, char **json);
ds_status ds_output(ds_engine *e, const char *name, ds_tensor **out);
ds_status ds_metric(const ds_engine *e, const char *name, double *value);
ds_status ds_param_count(const ds_engine *e, size_t *n);
ds_status ds_param_name(const ds_engine *e, size_t i, const char **name);
ds_status ds_param_info(const ds_engine *e, const char *name, int32_t *ndim, const int64_t **shape, int32_t *trainable);
ds_status ds_param_get(ds_engine *e, const char *name, int32_t what, ds_tensor **out);
ds_status ds_param_set(ds_engine *e, const char *name, int32_t what, const ds_tensor *t);
ds_status ds_save(ds_engine *e, const char *dir, const char *tag, const char *options_json);
ds_status ds_load(ds_engine *e, const char *dir, const char *tag, const char *options_json);
ds_status ds_export(ds_engine *e, const char *dir, const char *options_json);
void ds_engine_destroy(ds_engine *e);
ds_status ds_tokenizer_load(const char *path, ds_tokenizer **out);
ds_status ds_tokenizer_encode(const ds_tokenizer *t, const char *text, size_t text_bytes, const char *pair, size_t pair_bytes,
    int32_t add_special_tokens, ds_encoding **out);
ds_status ds_encoding_ids(const ds_encoding *e, const int32_t **ids, size_t *n);
ds_status ds_encoding_type_ids(const ds_encoding *e, const int32_t **ids, size_t *n);
ds_status ds_encoding_offsets(const ds_encoding *e, const int64_t **begin_end, size_t *n);
void ds_encoding_destroy(ds_encoding *e);
ds_status ds_tokenizer_decode(const ds_tokenizer *t, const int32_t *ids, size_t n, int32_t skip_special, char **text, size_t *bytes);
void ds_tokenizer_destroy(ds_tokenizer *t);
ds_status ds_data_open(const char *options_json, ds_engine *e, ds_data **out);
ds_status ds_data_create(const ds_data_source *source, ds_engine *e, ds_data **out);
ds_status ds_data_next(ds_data *d, ds_batch *b);
void ds_data_destroy(ds_data *d);
ds_status ds_graph_create(ds_graph **out);
ds_status ds_graph_input(ds_graph *g, const char *name, int32_t dtype, int32_t ndim, const int64_t *shape, int32_t *value);
ds_status ds_graph_param(ds_graph *g, const char *name, int32_t dtype, int32_t ndim, const int64_t *shape, const char *init_json,
    int32_t *value);
ds_status ds_graph_op(ds_graph *g, const char *op, const int32_t *inputs, size_t n_inputs, const char *attrs_json, int32_t *outputs,
    size_t n_outputs);
ds_status ds_graph_ops_json(char **json);
ds_status ds_graph_model(ds_graph *g, const char *folder, const char *options_json, const int32_t *inputs, size_t n_inputs,
    const char *output, int32_t *value);
ds_status ds_graph_parse(const char *text, ds_graph **out);
ds_status ds_graph_read(ds_graph *g, const char *text);
ds_status ds_graph_define_op(ds_graph *g, const char *name, const ds_op_callbacks *callbacks);
ds_status ds_graph_output(ds_graph *g, const char *name, int32_t value);
ds_status ds_graph_loss(ds_graph *g, int32_t value);
void ds_graph_destroy(ds_graph *g);
ds_status ds_options_create(ds_options **out);
ds_status ds_options_set_graph(ds_options *o, ds_graph *g);
ds_status ds_options_set_cancel(ds_options *o, ds_cancel *c);
ds_status ds_options_set_mpi(ds_options *o, int32_t fortran_comm);
ds_status ds_options_set_optimizer(ds_options *o, const ds_optimizer_callbacks *callbacks);
void ds_options_destroy(ds_options *o);
ds_status ds_generate(ds_engine *e, const int32_t *prompt, size_t n, const char *options_json, ds_token_fn on_token, void *user,
    int32_t **ids, size_t *n_ids);
ds_status ds_tensor_from_dlpack_legacy(struct DLManagedTensor *src, ds_tensor **out);
ds_status ds_tensor_to_dlpack_legacy(ds_tensor *t, struct DLManagedTensor **out);

/* Added since the first design. */
ds_status ds_tokenizer_encode_batch(const ds_tokenizer *t, const char *const *texts, const char *const *pairs, size_t n,
    const char *options_json, ds_batch *out);
ds_status ds_report(ds_engine *e, const char *path, const char *contents_json);
ds_status ds_generate_batch(ds_engine *e, const int32_t *prompts, const size_t *lengths, size_t rows, const char *options_json,
    ds_row_tokens_fn on_tokens, void *user, int32_t **ids, size_t **n_ids);
ds_status ds_evaluate(ds_engine *e, const char *data_json, const char *options_json, char **scores_json);
ds_status ds_score(const char *metric, const char *predictions_json, const char *references_json, char **scores_json);
ds_status ds_text_stream_create(const ds_tokenizer *t, int32_t skip_special, ds_text_stream **out);
ds_status ds_text_stream_put(ds_text_stream *s, const int32_t *ids, size_t n, char **text, size_t *bytes);
void ds_text_stream_destroy(ds_text_stream *s);
ds_status ds_options_set_communicator(ds_options *o, const ds_communicator_callbacks *callbacks);

typedef void (*first_log_fn)(int32_t level, const char *component, const char *message, void *user);
typedef int32_t (*first_token_fn)(const int32_t *ids, size_t n, void *user);

typedef struct {
    size_t struct_size;
    void *user;
    int32_t (*next)(void *user, ds_batch *b);
    int32_t (*save)(void *user, char **json);
    int32_t (*restore)(void *user, const char *json);
    void (*release)(void *user);
} first_data_source;

typedef struct {
    size_t struct_size;
    void *user;
    int32_t floats_per_element;
    int32_t (*update)(void *user, const char *parameter, int64_t step, double lr, float *weight, const float *gradient, float *state,
                      size_t n);
    void (*release)(void *user);
} first_optimizer_callbacks;
typedef struct {
    size_t struct_size;
    void *user;
    int32_t rank;
    int32_t size;
    int32_t (*send)(void *user, int32_t to, uint32_t lane, const void *data, size_t bytes);
    int32_t (*receive)(void *user, int32_t from, uint32_t lane, void *data, size_t bytes, int32_t wait_ms);
    void (*abort)(void *user, const char *why);
    void (*release)(void *user);
} first_communicator_callbacks;

typedef struct {
    void *data;
    int32_t dtype, ndim;
    const int64_t *shape;
} first_op_value;

typedef struct {
    size_t struct_size;
    void *user;
    int32_t n_outputs;
    int32_t (*shape)(void *user, const char *attrs_json, const ds_op_value *inputs, size_t n_inputs, int32_t *ndim, int64_t (*shapes)[8]);
    int32_t (*forward)(void *user, const char *attrs_json, const ds_op_value *inputs, size_t n_inputs, const ds_op_value *outputs);
    int32_t (*backward)(void *user, const char *attrs_json, const ds_op_value *inputs, size_t n_inputs, const ds_op_value *outputs,
                        const ds_op_value *output_gradients, const ds_op_value *input_gradients);
    void (*release)(void *user);
} first_op_callbacks;

#define SAME_PLACE(type, first, field)                                   \
    do {                                                                 \
        assert_int_equal(offsetof(type, field), offsetof(first, field)); \
        assert_int_equal(sizeof(((type *)0)->field), sizeof(((first *)0)->field)); \
    } while (0)

static void fields_stay_where_they_are(void **state) {
    (void)state;
    SAME_PLACE(ds_data_source, first_data_source, struct_size);
    SAME_PLACE(ds_data_source, first_data_source, user);
    SAME_PLACE(ds_data_source, first_data_source, next);
    SAME_PLACE(ds_data_source, first_data_source, save);
    SAME_PLACE(ds_data_source, first_data_source, restore);
    SAME_PLACE(ds_data_source, first_data_source, release);
    assert_true(sizeof(ds_data_source) >= sizeof(first_data_source));
    SAME_PLACE(ds_optimizer_callbacks, first_optimizer_callbacks, struct_size);
    SAME_PLACE(ds_optimizer_callbacks, first_optimizer_callbacks, user);
    SAME_PLACE(ds_optimizer_callbacks, first_optimizer_callbacks, floats_per_element);
    SAME_PLACE(ds_optimizer_callbacks, first_optimizer_callbacks, update);
    SAME_PLACE(ds_optimizer_callbacks, first_optimizer_callbacks, release);
    assert_true(sizeof(ds_optimizer_callbacks) >= sizeof(first_optimizer_callbacks));
    SAME_PLACE(ds_communicator_callbacks, first_communicator_callbacks, struct_size);
    SAME_PLACE(ds_communicator_callbacks, first_communicator_callbacks, user);
    SAME_PLACE(ds_communicator_callbacks, first_communicator_callbacks, rank);
    SAME_PLACE(ds_communicator_callbacks, first_communicator_callbacks, size);
    SAME_PLACE(ds_communicator_callbacks, first_communicator_callbacks, send);
    SAME_PLACE(ds_communicator_callbacks, first_communicator_callbacks, receive);
    SAME_PLACE(ds_communicator_callbacks, first_communicator_callbacks, abort);
    SAME_PLACE(ds_communicator_callbacks, first_communicator_callbacks, release);
    assert_true(sizeof(ds_communicator_callbacks) >= sizeof(first_communicator_callbacks));
    SAME_PLACE(ds_op_value, first_op_value, data);
    SAME_PLACE(ds_op_value, first_op_value, dtype);
    SAME_PLACE(ds_op_value, first_op_value, ndim);
    SAME_PLACE(ds_op_value, first_op_value, shape);
    assert_int_equal(sizeof(ds_op_value), sizeof(first_op_value)); /* hosts get arrays of them */
    SAME_PLACE(ds_op_callbacks, first_op_callbacks, n_outputs);
    SAME_PLACE(ds_op_callbacks, first_op_callbacks, shape);
    SAME_PLACE(ds_op_callbacks, first_op_callbacks, forward);
    SAME_PLACE(ds_op_callbacks, first_op_callbacks, backward);
    SAME_PLACE(ds_op_callbacks, first_op_callbacks, release);
}

static void constants_keep_their_values(void **state) {
    const int32_t dtypes[] = {DS_F32, DS_F16, DS_BF16, DS_F64, DS_I32, DS_I64, DS_U8, DS_BOOL, DS_I8, DS_F8E4M3, DS_F8E5M2};
    const int32_t levels[] = {DS_LOG_TRACE, DS_LOG_DEBUG, DS_LOG_INFO, DS_LOG_WARN, DS_LOG_ERROR, DS_LOG_OFF};
    const int32_t whats[] = {DS_WEIGHT, DS_GRAD, DS_FIRST_MOMENT, DS_SECOND_MOMENT};
    const int32_t outcomes[] = {DS_OK, DS_SKIPPED, DS_PENDING, DS_END};
    const int32_t errors[] = {DS_OK, DS_E_INVALID_ARGUMENT, DS_E_CONFIG, DS_E_NOT_FOUND, DS_E_IO, DS_E_CORRUPT, DS_E_OUT_OF_MEMORY,
                              DS_E_UNSUPPORTED,
                              DS_E_STATE, DS_E_BUSY, DS_E_COMM, DS_E_TIMEOUT, DS_E_CANCELLED, DS_E_DEVICE, DS_E_USER, DS_E_INTERNAL};
    int32_t i;
    (void)state;
    for (i = 0; i < 11; ++i) assert_int_equal(dtypes[i], i);
    for (i = 0; i < 6; ++i) assert_int_equal(levels[i], i);
    for (i = 0; i < 4; ++i) assert_int_equal(whats[i], i);
    for (i = 0; i < 4; ++i) assert_int_equal(outcomes[i], i);
    for (i = 0; i < 16; ++i) assert_int_equal(errors[i], -i);
    assert_int_equal(DS_ABI_VERSION >> 16, 0);
}

static void callback_types_stay_the_same(void **state) {
    ds_log_fn log = (first_log_fn)0;
    ds_token_fn token = (first_token_fn)0;
    (void)state;
    assert_true(!log && !token);
}

int main(void) {
    const struct CMUnitTest tests[] = {TEST(fields_stay_where_they_are), TEST(constants_keep_their_values),
                                       TEST(callback_types_stay_the_same)};
    return RUN(tests);
}
