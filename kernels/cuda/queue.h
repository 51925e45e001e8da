// Queue: the streams of a device and what its kernels need: where random numbers come from, matrix products, the first failure.
//
// Kernels run in order on `compute`. Exchanges with other devices run on `links`, beside them: begin_beside and end_beside order what is
// queued between behind all that was queued before, and `await` orders what is queued then behind that. Copies between the host's memory
// and the device's run on `copies` (device_memory.h).
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

// An answer of CUDA as a status; `doing` names the call for people.
Status check(cudaError_t error, const char* doing);

struct Queue {
    int device = 0;
    int architecture = 0;           // compute capability: 90 is 9.0
    cudaStream_t stream = nullptr;  // where work is queued now: compute, or links
    cudaStream_t compute = nullptr, links = nullptr, copies = nullptr;
    Draws* draws = nullptr;  // device memory
    Products* products = nullptr;
    std::vector<Member*> members;  // of groups with other devices

    Status make();
    void release();  // all streams have ended
    void synchronize();

    bool is_beside() const { return stream == links; }
    Status begin_beside();
    Result<int64_t> end_beside();  // a mark of what was queued there until now
    Status await(int64_t mark);
    Status await_all() { return awaited_ == marks_ ? ok() : await(marks_); }
    // What `behind` gets from now on runs after what `before` got until now.
    Status order(cudaStream_t before, cudaStream_t behind);

    bool failed() const { return !failure.ok() || !link_failure.ok(); }
    const Status& why() const { return failure.ok() ? link_failure : failure; }
    void note(cudaError_t error, const char* doing) {
        if (error != cudaSuccess && failure.ok())
            failure = Status(Code::E_DEVICE, std::string("cuda: ") + doing + ": " + cudaGetErrorString(error));
    }
    void note(Status status) {
        if (failure.ok()) failure = std::move(status);
    }
    void note_link(Status status) {
        if (link_failure.ok()) link_failure = std::move(status);
    }
    void abort();  // what this device exchanges with others ends, in every group
    // Until the event (null: all that is queued) has passed. Where the device has others to wait for, no longer than their deadline
    // (group.cpp).
    Status wait(cudaEvent_t event = nullptr);

    Status failure;       // of what was queued; the first one stays
    Status link_failure;  // of an exchange with other devices; stays until the device has left all groups

private:
    static constexpr int64_t kMarks = 16;
    Result<cudaEvent_t> event_of(cudaEvent_t& event);

    cudaEvent_t forks_[kMarks] = {},
                ends_[kMarks] = {};  // an event that is recorded again says more than before, as its stream runs in order
    int64_t forked_ = 0, marks_ = 0, awaited_ = 0;
};

}  // namespace ds::cuda
