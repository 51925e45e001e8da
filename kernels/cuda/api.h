// The CUDA runtime, cuBLASLt and, where its header is installed, NCCL: their own headers, or the test double that runs on the host
// (tests/cuda/emulate).
#pragma once

#ifdef DS_CUDA_EMULATED
#include "tests/cuda/emulate/api.h"
#define DS_HAS_NCCL
#else
#include <cublasLt.h>
#include <cuda_runtime.h>
#if __has_include(<nccl.h>)
#include <nccl.h>
#define DS_HAS_NCCL
#endif
#endif
