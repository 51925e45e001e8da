#include "kernels/cuda/parcels.h"

#include <algorithm>

namespace ds::cuda {
namespace {

// So that bytes go from device to device and not through the host, where the machine can.
void reach(int peer, int device) {
    int can = 0;
    if (cudaDeviceCanAccessPeer(&can, device, peer) == cudaSuccess && can) cudaDeviceEnablePeerAccess(peer, 0);
    cudaGetLastError();  // it may be on already
}

}  // namespace

void Parcels::release() {
    for (const auto& p : all_) {
        for (cudaEvent_t event : {p->sent, p->taken})
            if (event) cudaEventDestroy(event);
        if (p->memory) cudaFree(p->memory);
    }
    all_.clear();
}

Result<Parcel*> Parcels::post(const void* data, size_t bytes) {
    if (queue_.failed()) return Status(queue_.why());
    Parcel* parcel = nullptr;
    {
        std::lock_guard lock(mutex_);
        for (const auto& p : all_)
            if (!p->out && p->sent && p->room >= bytes && (!parcel || p->room < parcel->room)) parcel = p.get();
    }
    if (!parcel) {
        auto made = std::make_unique<Parcel>();
        made->owner = this;
        made->room = std::max<size_t>(bytes, 1);
        parcel = made.get();
        all_.push_back(std::move(made));  // one that stays without an event is never used, only released
        DS_CHECK(check(cudaMalloc(&parcel->memory, parcel->room), "allocating"));
        DS_CHECK(check(cudaEventCreateWithFlags(&parcel->sent, cudaEventDisableTiming), "making an event"));
    }
    if (parcel->taken) DS_CHECK(check(cudaStreamWaitEvent(queue_.stream, parcel->taken, 0), "waiting for a message's receiver"));
    parcel->bytes = bytes;
    if (bytes) DS_CHECK(check(cudaMemcpyAsync(parcel->memory, data, bytes, cudaMemcpyDeviceToDevice, queue_.stream), "copying a message"));
    DS_CHECK(check(cudaEventRecord(parcel->sent, queue_.stream), "recording an event"));
    std::lock_guard lock(mutex_);
    parcel->out = true;
    return parcel;
}

Status Parcels::take(Queue& queue, Parcel& parcel, void* to) {
    if (queue.failed()) return queue.why();
    const int owner = parcel.owner->queue_.device;
    if (parcel.taker != queue.device) {
        if (parcel.taken) cudaEventDestroy(parcel.taken);
        parcel.taken = nullptr;
        reach(owner, queue.device);
        DS_CHECK(check(cudaEventCreateWithFlags(&parcel.taken, cudaEventDisableTiming), "making an event"));
        parcel.taker = queue.device;
    }
    DS_CHECK(check(cudaStreamWaitEvent(queue.stream, parcel.sent, 0), "waiting for a message"));
    if (parcel.bytes)
        DS_CHECK(check(cudaMemcpyPeerAsync(to, queue.device, parcel.memory, owner, parcel.bytes, queue.stream), "copying a message"));
    DS_CHECK(check(cudaEventRecord(parcel.taken, queue.stream), "recording an event"));
    drop(parcel);
    return ok();
}

void Parcels::drop(Parcel& parcel) {
    std::lock_guard lock(parcel.owner->mutex_);
    parcel.out = false;
}

}  // namespace ds::cuda
