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

/* Every op with inputs, outputs and attributes, as JSON. ds_free. */
DS_API ds_status ds_graph_ops_json(char **json);

/* Embeds the body of a model family: its output `output` ("last_hidden_state", "logits" ...) of the given inputs, in the order
   input_ids, attention_mask, token_type_ids, position_ids (-1: absent). folder: a Hugging Face folder. options_json: {"prefix": "bert."}
   put before its parameters' names, "model_overrides", "model_init" as in the config. */
DS_API ds_status ds_graph_model(ds_graph *g, const char *folder, const char *options_json, const int32_t *inputs, size_t n_inputs,
                                const char *output, int32_t *value);

/* Reads the text form, the one that DSRT_DUMP writes. The config's "model": "my_model.ds" reads a file of it. */
DS_API ds_status ds_graph_parse(const char *text, ds_graph **out);

/* Names a value as an output (ds_output, ds_backward_from), or as the loss (rank 0). */
DS_API ds_status ds_graph_output(ds_graph *g, const char *name, int32_t value);
DS_API ds_status ds_graph_loss(ds_graph *g, int32_t value);

DS_API void ds_graph_destroy(ds_graph *g); /* Frees it; engines made of it keep what they took. NULL is fine. */

DS_END_DECLS

#endif /* DSRT_GRAPH_H */
