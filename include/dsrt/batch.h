/* Batches: named tensors, the inputs of a model.
   SPDX-License-Identifier: Apache-2.0 */
#ifndef DSRT_BATCH_H
#define DSRT_BATCH_H

#include <dsrt/tensor.h>

DS_BEGIN_DECLS

/* An empty batch. Names are those of Hugging Face transformers: input_ids, attention_mask, token_type_ids, position_ids, labels, start_positions,
   end_positions, decoder_input_ids; for a host's own graph, its inputs. Shapes are rows x length, but for labels of one number a row
   and start_positions, end_positions: rows. Ids are i32 or i64; masks also bool or u8. Label -100 is ignored (transformers, torch).
   Heads that classify rows follow transformers' problem_type: integer labels are classes (cross-entropy); with one label, or "regression",
   they are numbers, rows or rows x num_labels (mean squared error); with "multi_label_classification", or floats where config.json does not
   say, rows x num_labels of 0..1 (binary cross-entropy of each label by itself). Of numbers none is ignored.
   Absent: attention_mask is ones, position_ids 0..length-1, token_type_ids zeros, decoder_input_ids the labels shifted right. Labels of
   causal models come unshifted. position_ids of a decoder without an attention_mask: where they do not go on by one, another text begins
   in the row, and attention keeps to each text (transformers' packed sequences). A name that the model does not know is an error of the call that uses the batch. */
DS_API ds_status ds_batch_create(ds_batch **out);

/* Puts t's contents as of this call under `name`, replacing what was there. t stays the caller's. */
DS_API ds_status ds_batch_set(ds_batch *b, const char *name, const ds_tensor *t);

/* A new tensor with the contents under `name`, independent of the batch. DS_E_NOT_FOUND: no such name. */
DS_API ds_status ds_batch_get(const ds_batch *b, const char *name, ds_tensor **out);

DS_API void ds_batch_destroy(ds_batch *b); /* Frees the batch and what it keeps of its tensors; NULL is fine. */

DS_END_DECLS

#endif /* DSRT_BATCH_H */
