/* What every dsrt header stands on: linkage, versions, and the machine that the ABI is defined for.
   SPDX-License-Identifier: Apache-2.0 */
#ifndef DSRT_ABI_H
#define DSRT_ABI_H

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

/* The ABI this header describes. A library is compatible when its ds_abi_version() has the same major and at least this minor.
   Within a major only additions happen: no symbol, constant or field ever moves. */
#define DS_ABI_MAJOR 0
#define DS_ABI_MINOR 1
#define DS_ABI_VERSION (((uint32_t)DS_ABI_MAJOR << 16) | (uint32_t)DS_ABI_MINOR)

DS_BEGIN_DECLS

/* Handles. Opaque, at real addresses; made by a create, load, open or get call and released by the destroy call of their type.
   They refer to each other by count, so they may be destroyed in any order. */
typedef struct ds_tensor ds_tensor;       /* an array of numbers with a type and a shape */
typedef struct ds_batch ds_batch;         /* named tensors */
typedef struct ds_engine ds_engine;       /* a model in training */
typedef struct ds_options ds_options;     /* parts that the host supplies to an engine */
typedef struct ds_cancel ds_cancel;       /* a switch that ends running calls */
typedef struct ds_tokenizer ds_tokenizer; /* text to ids and back */
typedef struct ds_encoding ds_encoding;   /* one tokenised text */
typedef struct ds_text_stream ds_text_stream; /* ids on their way to text */
typedef struct ds_data ds_data;           /* a source of batches */
typedef struct ds_graph ds_graph;         /* a computation that the host describes */

DS_END_DECLS

/* Conventions of every call, said once:
   - Object first, inputs next, outputs last. Fallible calls return ds_status (see status.h). A required pointer that is NULL is
     DS_E_INVALID_ARGUMENT. On an error every handle or pointer output is NULL and the object is as it was before the call, or refuses
     everything but load and destroy and says so.
   - A handle that was destroyed, that belongs to the parent of a forked process, or that has another type is refused (DS_E_STATE or
     DS_E_INVALID_ARGUMENT) as long as its address has not been handed out again.
   - Calls that take only const handles may run concurrently. Others are exclusive: while one runs, other calls on that handle answer
     DS_E_BUSY, from any thread, callbacks included. ds_metric, ds_param_count, ds_param_name, ds_param_info and ds_cancel_set may always
     be called. There is no thread affinity.
   - "Collective" marks calls that all processes of a job make together, in the same order.
   - Destroy calls accept NULL, are legal on any thread and never collective. A running call on the handle is cancelled and waited for;
     inside a callback the destruction takes effect when the outer call returns. In a forked child they do nothing.
   - Strings are UTF-8, NUL-terminated unless a length is passed. `char **` outputs belong to the caller: ds_free. `const` pointer
     outputs belong to the object and live until it is destroyed or, where said, changed.
   - Callbacks run only on threads that are inside a dsrt call. Each is stored with `user` and `release`; when the call that stores it
     succeeds, release(user) (NULL is fine) is called exactly once, after the callback's last use; when it fails, never.
   - Structs begin with struct_size, set to sizeof the struct by the caller. A smaller one: the fields it lacks are zero. A larger one:
     what lies beyond this library's struct must be zero bytes, else DS_E_UNSUPPORTED.
   - No call throws, aborts, exits, prints, or changes signal handlers, the locale or the environment. */

#endif /* DSRT_ABI_H */
