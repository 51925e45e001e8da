/* The header of the first release, 0.1.0, as hosts that were built then have it: one file, without its comments. It never changes. */
#ifndef DSRT_DSRT_H
#define DSRT_DSRT_H
#include <stddef.h>
#include <stdint.h>
#if !defined(__LP64__) || !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "dsrt: the ABI is defined for little-endian LP64 machines only"
#endif
#if defined(__GNUC__)
#define DS_API __attribute__((visibility("default")))
#else
#define DS_API
#endif
#ifdef __cplusplus
#define DS_BEGIN_DECLS extern "C" {
#define DS_END_DECLS }
#else
#define DS_BEGIN_DECLS
#define DS_END_DECLS
#endif
#define DS_ABI_MAJOR 0
#define DS_ABI_MINOR 1
#define DS_ABI_VERSION (((uint32_t)DS_ABI_MAJOR << 16) | (uint32_t)DS_ABI_MINOR)
DS_BEGIN_DECLS
typedef struct ds_tensor ds_tensor;
typedef struct ds_batch ds_batch;
typedef struct ds_engine ds_engine;
typedef struct ds_options ds_options;
typedef struct ds_cancel ds_cancel;
typedef struct ds_tokenizer ds_tokenizer;
typedef struct ds_encoding ds_encoding;
typedef struct ds_text_stream ds_text_stream;
typedef struct ds_data ds_data;
typedef struct ds_graph ds_graph;
DS_END_DECLS
DS_BEGIN_DECLS
typedef int32_t ds_status;
enum {
    DS_OK = 0,
    DS_SKIPPED = 1,
    DS_PENDING = 2,
    DS_END = 3,
    DS_E_INVALID_ARGUMENT = -1,
    DS_E_CONFIG = -2,
    DS_E_NOT_FOUND = -3,
    DS_E_IO = -4,
    DS_E_CORRUPT = -5,
    DS_E_OUT_OF_MEMORY = -6,
    DS_E_UNSUPPORTED = -7,
    DS_E_STATE = -8,
    DS_E_BUSY = -9,
    DS_E_COMM = -10,
    DS_E_TIMEOUT = -11,
    DS_E_CANCELLED = -12,
    DS_E_DEVICE = -13,
    DS_E_USER = -14,
    DS_E_INTERNAL = -15
};
DS_API const char *ds_status_name(ds_status s);
DS_API const char *ds_last_error(void);
DS_API const char *ds_version(void);
DS_API uint32_t ds_abi_version(void);
DS_API const char *ds_build_info(void);
DS_API void ds_free(void *p);
enum { DS_LOG_TRACE = 0, DS_LOG_DEBUG = 1, DS_LOG_INFO = 2, DS_LOG_WARN = 3, DS_LOG_ERROR = 4, DS_LOG_OFF = 5 };
typedef void (*ds_log_fn)(int32_t level, const char *component, const char *message, void *user);
DS_API ds_status ds_set_log(ds_log_fn fn, int32_t level, void *user, void (*release)(void *user));
DS_END_DECLS
DS_BEGIN_DECLS
enum {
    DS_F32 = 0,
    DS_F16 = 1,
    DS_BF16 = 2,
    DS_F64 = 3,
    DS_I32 = 4,
    DS_I64 = 5,
    DS_U8 = 6,
    DS_BOOL = 7,
    DS_I8 = 8,
    DS_F8E4M3 = 9,
    DS_F8E5M2 = 10
};
DS_API ds_status ds_tensor_create(int32_t dtype, int32_t ndim, const int64_t *shape, const void *data, size_t bytes, ds_tensor **out);
DS_API ds_status ds_tensor_info(const ds_tensor *t, int32_t *dtype, int32_t *ndim, const int64_t **shape);
DS_API ds_status ds_tensor_read(const ds_tensor *t, int32_t dtype, void *dst, size_t bytes);
DS_API void ds_tensor_destroy(ds_tensor *t);
struct DLManagedTensorVersioned;
struct DLManagedTensor;
DS_API ds_status ds_tensor_from_dlpack(struct DLManagedTensorVersioned *src, ds_tensor **out);
DS_API ds_status ds_tensor_to_dlpack(ds_tensor *t, struct DLManagedTensorVersioned **out);
DS_API ds_status ds_tensor_from_dlpack_legacy(struct DLManagedTensor *src, ds_tensor **out);
DS_API ds_status ds_tensor_to_dlpack_legacy(ds_tensor *t, struct DLManagedTensor **out);
DS_END_DECLS
DS_BEGIN_DECLS
DS_API ds_status ds_batch_create(ds_batch **out);
DS_API ds_status ds_batch_set(ds_batch *b, const char *name, const ds_tensor *t);
DS_API ds_status ds_batch_get(const ds_batch *b, const char *name, ds_tensor **out);
DS_API void ds_batch_destroy(ds_batch *b);
DS_END_DECLS
DS_BEGIN_DECLS
DS_API ds_status ds_tokenizer_load(const char *path, ds_tokenizer **out);
DS_API ds_status ds_tokenizer_encode(const ds_tokenizer *t, const char *text, size_t text_bytes, const char *pair, size_t pair_bytes,
                                     int32_t add_special_tokens, ds_encoding **out);
DS_API ds_status ds_encoding_ids(const ds_encoding *e, const int32_t **ids, size_t *n);
DS_API ds_status ds_encoding_type_ids(const ds_encoding *e, const int32_t **ids, size_t *n);
DS_API ds_status ds_encoding_offsets(const ds_encoding *e, const int64_t **begin_end, size_t *n);
DS_API void ds_encoding_destroy(ds_encoding *e);
DS_API ds_status ds_tokenizer_encode_batch(const ds_tokenizer *t, const char *const *texts, const char *const *pairs, size_t n,
                                           const char *options_json, ds_batch *out);
DS_API ds_status ds_tokenizer_decode(const ds_tokenizer *t, const int32_t *ids, size_t n, int32_t skip_special, char **text,
                                     size_t *bytes);
DS_API ds_status ds_tokenizer_apply_chat_template(const ds_tokenizer *t, const char *messages_json, const char *options_json, char **text);
DS_API ds_status ds_text_stream_create(const ds_tokenizer *t, int32_t skip_special, ds_text_stream **out);
DS_API ds_status ds_text_stream_put(ds_text_stream *s, const int32_t *ids, size_t n, char **text, size_t *bytes);
DS_API void ds_text_stream_destroy(ds_text_stream *s);
DS_API void ds_tokenizer_destroy(ds_tokenizer *t);
DS_END_DECLS
DS_BEGIN_DECLS
DS_API ds_status ds_data_open(const char *options_json, ds_engine *e, ds_data **out);
typedef struct ds_data_source {
    size_t struct_size;
    void *user;
    int32_t (*next)(void *user, ds_batch *b);
    int32_t (*save)(void *user, char **json);
    int32_t (*restore)(void *user, const char *json);
    void (*release)(void *user);
} ds_data_source;
DS_API ds_status ds_data_create(const ds_data_source *source, ds_engine *e, ds_data **out);
DS_API ds_status ds_data_next(ds_data *d, ds_batch *b);
DS_API void ds_data_destroy(ds_data *d);
DS_END_DECLS
DS_BEGIN_DECLS
DS_API ds_status ds_graph_create(ds_graph **out);
DS_API ds_status ds_graph_input(ds_graph *g, const char *name, int32_t dtype, int32_t ndim, const int64_t *shape, int32_t *value);
DS_API ds_status ds_graph_param(ds_graph *g, const char *name, int32_t dtype, int32_t ndim, const int64_t *shape, const char *init_json,
                                int32_t *value);
DS_API ds_status ds_graph_op(ds_graph *g, const char *op, const int32_t *inputs, size_t n_inputs, const char *attrs_json, int32_t *outputs,
                             size_t n_outputs);
DS_API ds_status ds_graph_ops_json(char **json);
DS_API ds_status ds_graph_model(ds_graph *g, const char *folder, const char *options_json, const int32_t *inputs, size_t n_inputs,
                                const char *output, int32_t *value);
DS_API ds_status ds_graph_parse(const char *text, ds_graph **out);
DS_API ds_status ds_graph_output(ds_graph *g, const char *name, int32_t value);
DS_API ds_status ds_graph_loss(ds_graph *g, int32_t value);
DS_API void ds_graph_destroy(ds_graph *g);
DS_END_DECLS
DS_BEGIN_DECLS
DS_API ds_status ds_cancel_create(ds_cancel **out);
DS_API ds_status ds_cancel_set(ds_cancel *c, int32_t on);
DS_API void ds_cancel_destroy(ds_cancel *c);
DS_API ds_status ds_options_create(ds_options **out);
DS_API ds_status ds_options_set_graph(ds_options *o, ds_graph *g);
DS_API ds_status ds_options_set_cancel(ds_options *o, ds_cancel *c);
DS_API ds_status ds_options_set_mpi(ds_options *o, int32_t fortran_comm);
typedef struct ds_optimizer_callbacks {
    size_t struct_size;
    void *user;
    int32_t floats_per_element;
    int32_t (*update)(void *user, const char *parameter, int64_t step, double lr, float *weight, const float *gradient, float *state,
                      size_t n);
    void (*release)(void *user);
} ds_optimizer_callbacks;
DS_API ds_status ds_options_set_optimizer(ds_options *o, const ds_optimizer_callbacks *callbacks);
DS_API void ds_options_destroy(ds_options *o);
DS_END_DECLS
DS_BEGIN_DECLS
DS_API ds_status ds_config_describe(char **text);
DS_API ds_status ds_plan(const char *config, const ds_options *options, char **report_json);
DS_API ds_status ds_engine_create(const char *config, const ds_options *options, ds_engine **out);
DS_API ds_status ds_forward(ds_engine *e, const ds_batch *b, float *loss);
DS_API ds_status ds_backward(ds_engine *e);
DS_API ds_status ds_backward_from(ds_engine *e, const ds_batch *gradients);
DS_API ds_status ds_step(ds_engine *e);
DS_API ds_status ds_zero_grad(ds_engine *e);
DS_API ds_status ds_train_batch(ds_engine *e, ds_data *data, float *loss);
DS_API ds_status ds_eval(ds_engine *e, const ds_batch *b, float *loss);
DS_API ds_status ds_engine_set(ds_engine *e, const char *key, const char *json);
DS_API ds_status ds_engine_get(ds_engine *e, const char *key, char **json);
DS_API ds_status ds_output(ds_engine *e, const char *name, ds_tensor **out);
DS_API ds_status ds_metric(const ds_engine *e, const char *name, double *value);
DS_API ds_status ds_param_count(const ds_engine *e, size_t *n);
DS_API ds_status ds_param_name(const ds_engine *e, size_t i, const char **name);
DS_API ds_status ds_param_info(const ds_engine *e, const char *name, int32_t *ndim, const int64_t **shape, int32_t *trainable);
enum { DS_WEIGHT = 0, DS_GRAD = 1, DS_FIRST_MOMENT = 2, DS_SECOND_MOMENT = 3 };
DS_API ds_status ds_param_get(ds_engine *e, const char *name, int32_t what, ds_tensor **out);
DS_API ds_status ds_param_set(ds_engine *e, const char *name, int32_t what, const ds_tensor *t);
DS_API ds_status ds_save(ds_engine *e, const char *dir, const char *tag, const char *options_json);
DS_API ds_status ds_load(ds_engine *e, const char *dir, const char *tag, const char *options_json);
DS_API ds_status ds_export(ds_engine *e, const char *dir, const char *options_json);
DS_API ds_status ds_report(ds_engine *e, const char *path, const char *contents_json);
typedef int32_t (*ds_token_fn)(const int32_t *ids, size_t n, void *user);
DS_API ds_status ds_generate(ds_engine *e, const int32_t *prompt, size_t n, const char *options_json, ds_token_fn on_token, void *user,
                             int32_t **ids, size_t *n_ids);
typedef int32_t (*ds_row_tokens_fn)(size_t row, const int32_t *ids, size_t n, void *user);
DS_API ds_status ds_generate_batch(ds_engine *e, const int32_t *prompts, const size_t *lengths, size_t rows, const char *options_json,
                                   ds_row_tokens_fn on_tokens, void *user, int32_t **ids, size_t **n_ids);
DS_API void ds_engine_destroy(ds_engine *e);
DS_END_DECLS
#endif
