// Copies between the host's memory and the device's through pinned buffers, so that callers may reuse theirs at once.
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
        void* memory = nullptr;
        cudaEvent_t free = nullptr;  // passed when the device has read what was copied here last
        bool used = false;
    };
    Slot slots_[3];
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
