// Queue: one stream of a device and what its kernels need: where random numbers come from, matrix products, the first failure.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"
#include "kernels/cuda/api.h"

namespace ds::cuda {

class Products;  // products.h

// In device memory, so that a recorded graph draws new numbers each time.
struct Draws {
    uint64_t seed, step;
};

struct Queue {
    cudaStream_t stream = nullptr;
    Draws* draws = nullptr;        // device memory
    Products* products = nullptr;

    bool failed() const { return !failure.ok(); }
    void note(cudaError_t error, const char* doing) {
        if (error != cudaSuccess && failure.ok()) failure = Status(Code::E_DEVICE, std::string("cuda: ") + doing + ": " + cudaGetErrorString(error));
    }
    void note(Status status) {
        if (failure.ok()) failure = std::move(status);
    }
    Status failure;                // of what was queued; the first one stays
};

}  // namespace ds::cuda
