// Queue: one stream of a device and what its kernels need: where random numbers come from, matrix products, the first failure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "kernels/cuda/api.h"

namespace ds::cuda {

class Products;  // products.h
class Member;    // group.h

// In device memory, so that a recorded graph draws new numbers each time.
struct Draws {
    uint64_t seed, step;
};

struct Queue {
    int device = 0;
    cudaStream_t stream = nullptr;
    Draws* draws = nullptr;        // device memory
    Products* products = nullptr;
    std::vector<Member*> members;  // of groups with other devices

    bool failed() const { return !failure.ok() || !link_failure.ok(); }
    const Status& why() const { return failure.ok() ? link_failure : failure; }
    void note(cudaError_t error, const char* doing) {
        if (error != cudaSuccess && failure.ok()) failure = Status(Code::E_DEVICE, std::string("cuda: ") + doing + ": " + cudaGetErrorString(error));
    }
    void note(Status status) {
        if (failure.ok()) failure = std::move(status);
    }
    void note_link(Status status) {
        if (link_failure.ok()) link_failure = std::move(status);
    }
    // Until the event (null: all that is queued) has passed. Where the device has others to wait for, no longer than their deadline (group.cpp).
    Status wait(cudaEvent_t event = nullptr);

    Status failure;                // of what was queued; the first one stays
    Status link_failure;           // of an exchange with other devices; stays until the device has left all groups
};

}  // namespace ds::cuda
