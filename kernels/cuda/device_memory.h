// Copies between the host's memory and the device's through pinned buffers, so that callers may reuse theirs at once.
//
// Bytes cross the bus on a stream of their own, while kernels run. What comes lies in a buffer of the device first: where it belongs,
// kernels that were queued before may still be at work; it goes there in their order. What leaves waits for the kernels that were queued
// before it, and for no others.
#pragma once

#include <vector>

#include "kernels/cuda/queue.h"

namespace ds::cuda {

class Staging {
public:
    Status make();
    void release();
    Status upload(Queue& queue, void* to, const void* from, size_t bytes);
    Status download(Queue& queue, void* to, const void* from, size_t bytes);

private:
    struct Slot {
        char* memory = nullptr;         // pinned
        char* there = nullptr;          // the device's
        cudaEvent_t crossed = nullptr;  // the last copy to or from `memory` is done
        cudaEvent_t arrived = nullptr;  // what was in `there` is where it belongs
        bool used = false, arrives = false;
    };
    Result<Slot*> free_slot(Queue& queue);
    Status fetch(Queue& queue, Slot& slot, const char* from, size_t bytes);

    static constexpr size_t kSlots = 16, kSlot = size_t{256} << 10;
    Slot slots_[kSlots];
    char *pinned_ = nullptr, *there_ = nullptr;
    size_t next_ = 0;
};

// Device memory for partial sums that grows.
struct Partials {
    double* data = nullptr;
    int64_t room = 0;
    std::vector<double> host;
    Status reserve(int64_t n);
    void release();
};

}  // namespace ds::cuda
