/* Options: parts that a host supplies to an engine beside its config. And the cancel switch.
   SPDX-License-Identifier: Apache-2.0 */
#ifndef DSRT_OPTIONS_H
#define DSRT_OPTIONS_H

#include <dsrt/graph.h>

DS_BEGIN_DECLS

/* A switch that ends calls in progress: they answer DS_E_CANCELLED at the next safe point, with the state of the last update, pending
   gradients dropped and the data cursor rewound; all processes of a job agree first. It stays on until it is set to 0. */
DS_API ds_status ds_cancel_create(ds_cancel **out);
/* Any thread, and signal handlers. on: 0 or 1. */
DS_API ds_status ds_cancel_set(ds_cancel *c, int32_t on);
DS_API void ds_cancel_destroy(ds_cancel *c); /* Frees it; engines that watch it keep it. NULL is fine. */

/* An empty set of options. Each part is retained by the options and by every engine created with them. */
DS_API ds_status ds_options_create(ds_options **out);

/* The model: the graph as of this call (later additions to g are not seen), in place of the config's "model". */
DS_API ds_status ds_options_set_graph(ds_options *o, ds_graph *g);

DS_API ds_status ds_options_set_cancel(ds_options *o, ds_cancel *c); /* The switch that ends this engine's calls. */

/* The communicator of the job, as the integer of MPI_Comm_c2f. MPI must be initialised with MPI_THREAD_MULTIPLE. Creating an engine duplicates it,
   collectively, and never finalizes MPI. Needs libdsrt_mpi.so; without it, creating the engine answers DS_E_NOT_FOUND. */
DS_API ds_status ds_options_set_mpi(ds_options *o, int32_t fortran_comm);

/* A host's own optimizer, in place of the config's. */
typedef struct ds_optimizer_callbacks {
    size_t struct_size;          /* sizeof(ds_optimizer_callbacks) */
    void *user;                  /* handed to each of them */
    int32_t floats_per_element;  /* state the engine keeps, shards and checkpoints: so many f32 numbers an element, zero at first */
    /* Updates weight[0..n) from gradient[0..n), in f32: a span of this rank's shard of `parameter` (always cut alike). state holds
       n * floats_per_element numbers: those of element i at i * floats_per_element. step counts updates from 1. Runs on
       the thread that called ds_step or ds_train_batch, span after span. Negative: the call ends with DS_E_USER. */
    int32_t (*update)(void *user, const char *parameter, int64_t step, double lr, float *weight, const float *gradient, float *state,
                      size_t n);
    void (*release)(void *user); /* once, after the last use */
} ds_optimizer_callbacks;
DS_API ds_status ds_options_set_optimizer(ds_options *o, const ds_optimizer_callbacks *callbacks); /* *callbacks is copied. */

/* A communicator of the host's own: how bytes get from one process of the job to another. The engine sums and gathers by itself. All processes must give one.
   The functions run on a thread that is inside a call of dsrt on an engine made with it, one at a time for each engine; one engine at a time may use them. */
typedef struct ds_communicator_callbacks {
    size_t struct_size;          /* sizeof(ds_communicator_callbacks) */
    void *user;                  /* handed to each of them */
    int32_t rank;                /* this process, from 0 */
    int32_t size;                /* among how many */
    /* Takes a message for process `to`: copies or has sent it when it returns, and never waits for the receiver. lane: below 2^24; messages of one sender,
       receiver and lane arrive in order. 0, or negative: the call ends with DS_E_USER. */
    int32_t (*send)(void *user, int32_t to, uint32_t lane, const void *data, size_t bytes);
    /* The next message of `from` on `lane`, which has exactly `bytes` bytes, into data: 0; DS_PENDING if it has not come within wait_ms milliseconds (0: just a
       look); negative: the call ends with DS_E_USER. */
    int32_t (*receive)(void *user, int32_t from, uint32_t lane, void *data, size_t bytes, int32_t wait_ms);
    /* The job has failed here: tell the other processes if you can. May be NULL; they then notice by the deadline. why: UTF-8, valid during the call. */
    void (*abort)(void *user, const char *why);
    void (*release)(void *user); /* once, after the last use */
} ds_communicator_callbacks;
DS_API ds_status ds_options_set_communicator(ds_options *o, const ds_communicator_callbacks *callbacks); /* *callbacks is copied. */

DS_API void ds_options_destroy(ds_options *o); /* Frees them; engines keep what they took. NULL is fine. */

DS_END_DECLS

#endif /* DSRT_OPTIONS_H */
