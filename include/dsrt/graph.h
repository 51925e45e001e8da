/* Graphs: a computation that the host describes, value by value or as text.
   SPDX-License-Identifier: Apache-2.0 */
#ifndef DSRT_GRAPH_H
#define DSRT_GRAPH_H

#include <dsrt/tensor.h>

DS_BEGIN_DECLS

/* An empty graph. Values are int32 ids, valid in this graph only. Shape errors name the op, the input and the shapes. */
DS_API ds_status ds_graph_create(ds_graph **out);

/* An input, fed from the batch under its name. -1 in the shape is bound at run time: the first one is rows, the second the length. An
   input without -1 is the same on all ranks. */
DS_API ds_status ds_graph_input(ds_graph *g, const char *name, int32_t dtype, int32_t ndim, const int64_t *shape, int32_t *value);

/* A trainable parameter, saved under its name. init_json: {"type": "zeros" | "ones"}, {"type": "normal", "std": s} or
   {"type": "uniform", "bound": b}; NULL: zeros. Initialisation depends on the config's seed and the name only. */
DS_API ds_status ds_graph_param(ds_graph *g, const char *name, int32_t dtype, int32_t ndim, const int64_t *shape, const char *init_json,
                                int32_t *value);

/* One op: inputs in, n_outputs values out. attrs_json NULL: the defaults. ds_graph_ops_json() lists ops, inputs, outputs and attributes.
   For optional inputs that are left out pass -1. */
DS_API ds_status ds_graph_op(ds_graph *g, const char *op, const int32_t *inputs, size_t n_inputs, const char *attrs_json, int32_t *outputs,
                             size_t n_outputs);

/* A value that an op of the host's own is called with: dense, row-major, of any alignment. */
typedef struct ds_op_value {
    void *data;           /* the elements; NULL where there is nothing to read or to write */
    int32_t dtype;        /* DS_F32; DS_I32 for ids, DS_U8 for masks */
    int32_t ndim;         /* 0 to 8 */
    const int64_t *shape; /* ndim sizes; valid during the call */
} ds_op_value;

/* An op of the host's own. The functions run on the thread that is inside the dsrt call, never two at once for one engine; they return 0, or a
   negative code that comes back as DS_E_USER. attrs_json: the object that the op was given, "{}" without. Inputs are f32 (whatever the products
   around them have), i32 or u8; outputs and gradients are f32. An engine whose graph uses one has one rank, on the CPU. */
typedef struct ds_op_callbacks {
    size_t struct_size;   /* sizeof(ds_op_callbacks) */
    void *user;           /* handed to each of them */
    int32_t n_outputs;    /* 1 to 8 */
    /* The outputs' shapes: writes ndim[i], at most 8, and shapes[i][0..ndim[i]). data of the inputs is NULL. While a graph is built, rows and
       length, which the batch brings, are large numbers: hand them on, or their products, as they are. NULL: every output has the first
       input's shape. */
    int32_t (*shape)(void *user, const char *attrs_json, const ds_op_value *inputs, size_t n_inputs, int32_t *ndim, int64_t (*shapes)[8]);
    /* Writes the outputs' data. */
    int32_t (*forward)(void *user, const char *attrs_json, const ds_op_value *inputs, size_t n_inputs, const ds_op_value *outputs);
    /* Writes the inputs' gradients (data NULL: not wanted, nothing to write) from inputs, outputs and the outputs' gradients. NULL: the op is
       not differentiable, and what reaches trained weights only through it is refused. */
    int32_t (*backward)(void *user, const char *attrs_json, const ds_op_value *inputs, size_t n_inputs, const ds_op_value *outputs,
                        const ds_op_value *output_gradients, const ds_op_value *input_gradients);
    void (*release)(void *user); /* once, after the last use */
} ds_op_callbacks;

/* From now on `name` (letters, digits, _ and .) is an op of g: for ds_graph_op and for text read into g. It must not be another op's. Kept by g
   and by engines made of it. */
DS_API ds_status ds_graph_define_op(ds_graph *g, const char *name, const ds_op_callbacks *callbacks);

/* Every op that a host's graph may have, with inputs, outputs and attributes, as JSON (ds_free). Those that only passes make, between ranks for
   one, are DS_E_UNSUPPORTED. */
DS_API ds_status ds_graph_ops_json(char **json);

/* Embeds the body of a model family: its output `output` ("last_hidden_state", "pooler_output") of the given inputs, in the order
   input_ids, attention_mask, token_type_ids, position_ids (-1: absent). folder: a Hugging Face folder. options_json: {"prefix": "bert."}
   put before its parameters' names, "model_overrides", "model_init" as in the config. The same folder with the same prefix again uses the
   same parameters (two texts through one encoder); another folder needs another prefix. */
DS_API ds_status ds_graph_model(ds_graph *g, const char *folder, const char *options_json, const int32_t *inputs, size_t n_inputs,
                                const char *output, int32_t *value);

/* Reads the text form, the one that DSRT_DUMP writes before passes change it. The config's "model": "my_model.ds" reads a file of it. Checked as
   the calls check. A name of other characters than letters, digits and _ . - / stands in quotes, as in JSON: %"my weight". */
DS_API ds_status ds_graph_parse(const char *text, ds_graph **out);

/* Reads the text form into g, which has no value yet but may have ops of the host's own. DS_E_STATE: it has values. */
DS_API ds_status ds_graph_read(ds_graph *g, const char *text);

/* Names a value as an output (ds_output, ds_backward_from), or as the loss (rank 0). */
DS_API ds_status ds_graph_output(ds_graph *g, const char *name, int32_t value);
DS_API ds_status ds_graph_loss(ds_graph *g, int32_t value);

DS_API void ds_graph_destroy(ds_graph *g); /* Frees it; engines made of it keep what they took. NULL is fine. */

DS_END_DECLS

#endif /* DSRT_GRAPH_H */
