// The CUDA runtime and cuBLASLt: the toolkit's own headers, or the test double that runs on the host (tests/cuda/emulate).
#pragma once

#ifdef DS_CUDA_EMULATED
#include "tests/cuda/emulate/api.h"
#else
#include <cublasLt.h>
#include <cuda_runtime.h>
#endif
