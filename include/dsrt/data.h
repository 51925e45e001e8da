/* Data: batches from files, or from a host's own iterator.
   SPDX-License-Identifier: Apache-2.0 */
#ifndef DSRT_DATA_H
#define DSRT_DATA_H

#include <dsrt/batch.h>

DS_BEGIN_DECLS

/* Opens files as a source of batches. options_json: files, format, columns, tokenizer, lengths, shuffling; ds_config_describe lists
   them under "data"; NULL: the "data" of the config of e. e NULL: all rows, and the options say everything. Otherwise this process's shard, in micro-batches of e's size
   (rows of all of its data-parallel ranks), with e's tokenizer and seed where the options name none. The cursor that is saved and
   loaded with e is that of the data which ds_train_batch reads, before that of the data opened last. Worker threads keep ahead of the consumer; they are gone when the handle is. Collective where e is. */
DS_API ds_status ds_data_open(const char *options_json, ds_engine *e, ds_data **out);

/* A host's own iterator. The functions run on the thread that asks for data; they return 0 or a negative error, which comes back as
   DS_E_USER. */
typedef struct ds_data_source {
    size_t struct_size;                              /* sizeof(ds_data_source) */
    void *user; /* handed to each of them */
    int32_t (*next)(void *user, ds_batch *b);        /* fills b, which is empty and valid during the call; DS_END ends the epoch */
    int32_t (*save)(void *user, char **json);        /* the cursor, from malloc(), freed by dsrt; NULL: no cursor is kept */
    int32_t (*restore)(void *user, const char *json); /* goes back to such a cursor; NULL: DS_E_UNSUPPORTED when one must be restored */
    void (*release)(void *user); /* once, after the last use */
} ds_data_source;

/* Wraps the iterator. With an engine, its cursor is saved and loaded as ds_data_open says. */
DS_API ds_status ds_data_create(const ds_data_source *source, ds_engine *e, ds_data **out);

/* Replaces b's contents by the next micro-batch. DS_END at the end of an epoch, b then empty; the next call starts the next epoch.
   All processes end together. DS_E_STATE once the engine it was opened with is destroyed. */
DS_API ds_status ds_data_next(ds_data *d, ds_batch *b);

DS_API void ds_data_destroy(ds_data *d); /* Frees threads and files, and releases the host's source; NULL is fine. */

DS_END_DECLS

#endif /* DSRT_DATA_H */
