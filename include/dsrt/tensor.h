/* Tensors: dense row-major arrays in host memory, and their exchange by copy or by DLPack.
   SPDX-License-Identifier: Apache-2.0 */
#ifndef DSRT_TENSOR_H
#define DSRT_TENSOR_H

#include <dsrt/dlpack.h>
#include <dsrt/status.h>

DS_BEGIN_DECLS

/* Element types. They travel as int32_t. */
enum {
    DS_F32 = 0,     /* IEEE binary32 */
    DS_F16 = 1,     /* IEEE binary16 */
    DS_BF16 = 2,    /* the upper half of an f32 */
    DS_F64 = 3,     /* IEEE binary64 */
    DS_I32 = 4,     /* signed, 32 bits */
    DS_I64 = 5,     /* signed, 64 bits */
    DS_U8 = 6,      /* unsigned, 8 bits */
    DS_BOOL = 7,    /* one byte: 0 false, anything else true */
    DS_I8 = 8,      /* signed, 8 bits */
    DS_F8E4M3 = 9,  /* OCP 8-bit float: 4 bits of exponent, no infinities */
    DS_F8E5M2 = 10  /* OCP 8-bit float: 5 bits of exponent */
};

/* Makes a tensor from a copy of `data`: dense, row-major, any alignment, `bytes` exactly product(shape) * element size.
   data NULL and bytes 0: zeros. ndim 0..32 (0: one number, shape may be NULL); dimensions may be 0. */
DS_API ds_status ds_tensor_create(int32_t dtype, int32_t ndim, const int64_t *shape, const void *data, size_t bytes, ds_tensor **out);

/* Type and shape; any output may be NULL. *shape has ndim entries, belongs to the tensor and lives until it is destroyed. */
DS_API ds_status ds_tensor_info(const ds_tensor *t, int32_t *dtype, int32_t *ndim, const int64_t **shape);

/* Writes the contents to dst, dense and row-major, converted to `dtype` as a C cast does (floats round to nearest even). dst: any
   alignment; bytes: exactly count * size of `dtype`. DS_E_UNSUPPORTED: conversion to an 8-bit float. */
DS_API ds_status ds_tensor_read(const ds_tensor *t, int32_t dtype, void *dst, size_t bytes);

DS_API void ds_tensor_destroy(ds_tensor *t); /* Frees it; batches and DLPack tensors made of it stay. NULL is fine. */

/* DLPack (https://dmlc.github.io/dlpack, the header is upstream's). Declared here too, should an older dlpack.h have come first. */
struct DLManagedTensorVersioned;
struct DLManagedTensor;

/* Takes over `src`. On success it is consumed: its deleter runs once, when the tensor and what shares its memory are gone, or at once
   if the contents had to be copied (strides that are not row-major). On an error it still belongs to the caller. CPU memory, or
   pinned host memory, else DS_E_UNSUPPORTED; DLPack major 1. The memory is read, never written, by dsrt; a later export of a
   READ_ONLY tensor is READ_ONLY too. ds_batch_set and ds_param_set copy such a tensor, so that its owner's later writes don't reach
   them. */
DS_API ds_status ds_tensor_from_dlpack(struct DLManagedTensorVersioned *src, ds_tensor **out);

/* Lends the tensor's memory out, without a copy unless a batch shares it (both stay independent). The consumer calls the deleter once,
   on any thread; the memory lives until then, whatever happens to t. What the consumer writes is seen by later reads of t. */
DS_API ds_status ds_tensor_to_dlpack(ds_tensor *t, struct DLManagedTensorVersioned **out);

/* The same for the unversioned struct of DLPack before 1.0. It can't say READ_ONLY, so a read-only tensor is exported as a copy. */
DS_API ds_status ds_tensor_from_dlpack_legacy(struct DLManagedTensor *src, ds_tensor **out);
DS_API ds_status ds_tensor_to_dlpack_legacy(ds_tensor *t, struct DLManagedTensor **out);

DS_END_DECLS

#endif /* DSRT_TENSOR_H */
