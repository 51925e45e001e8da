// What steps need beside a plan's kernels: sweeps of optimizers, norms, conversions. All queue, but squares, which waits.
#pragma once

#include "device/backend.h"
#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/queue.h"
#include "base/dtype.h"

namespace ds::cuda {

Status convert_elements(Queue& queue, void* to, DType to_type, const void* from, DType from_type, int64_t count);
Status scale_elements(Queue& queue, float* x, int64_t count, float factor);
Status add_elements(Queue& queue, float* to, const float* from, int64_t count);
Status sum_squares(Queue& queue, Staging& staging, Partials& partials, const float* x, int64_t count, double& sum);
Status sweep_elements(Queue& queue, const BackendSweep& sweep);
Status set_draws(Queue& queue, uint64_t seed, uint64_t step);

}  // namespace ds::cuda
