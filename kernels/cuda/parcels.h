// Messages between devices of one process: the sender copies into a parcel of its own and goes on; the receiver's stream waits for that
// copy and fetches it.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "kernels/cuda/queue.h"

namespace ds::cuda {

class Parcels;

struct Parcel {
    Parcels* owner = nullptr;
    void* memory = nullptr;
    size_t room = 0, bytes = 0;
    cudaEvent_t sent = nullptr, taken = nullptr;  // of the owner's device, of the one that took it last
    int taker = -1;
    bool out = false;
};

class Parcels {  // of one device
public:
    explicit Parcels(Queue& queue) : queue_(queue) {}
    void release();
    Result<Parcel*> post(const void* data, size_t bytes);
    // Into the memory of the device of `queue`; called by that device's thread.
    static Status take(Queue& queue, Parcel& parcel, void* to);
    static void drop(Parcel& parcel);  // any thread; nobody will take it

private:
    Queue& queue_;
    std::mutex mutex_;  // of what is out
    std::vector<std::unique_ptr<Parcel>> all_;
};

}  // namespace ds::cuda
