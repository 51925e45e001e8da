#include "kernels/cuda/device_memory.h"

#include <algorithm>
#include <cstring>

namespace ds::cuda {
namespace {

constexpr size_t kSlot = size_t{4} << 20;

Status check(cudaError_t error, const char* doing) {
    if (error == cudaSuccess) return ok();
    cudaGetLastError();
    return Status(error == cudaErrorMemoryAllocation ? Code::E_OUT_OF_MEMORY : Code::E_DEVICE, std::string("cuda: ") + doing + ": " + cudaGetErrorString(error));
}

}  // namespace

Status Staging::make() {
    for (Slot& slot : slots_) {
        DS_CHECK(check(cudaHostAlloc(&slot.memory, kSlot, cudaHostAllocDefault), "allocating pinned memory"));
        DS_CHECK(check(cudaEventCreateWithFlags(&slot.free, cudaEventDisableTiming), "making an event"));
    }
    return ok();
}

void Staging::release() {
    for (Slot& slot : slots_) {
        if (slot.free) cudaEventDestroy(slot.free);
        if (slot.memory) cudaFreeHost(slot.memory);
        slot = {};
    }
}

Status Staging::upload(Queue& queue, void* to, const void* from, size_t bytes) {
    for (size_t at = 0; at < bytes; at += kSlot) {
        Slot& slot = slots_[next_++ % std::size(slots_)];
        const size_t n = std::min(kSlot, bytes - at);
        if (slot.used) DS_CHECK(queue.wait(slot.free));
        slot.used = false;
        std::memcpy(slot.memory, static_cast<const char*>(from) + at, n);
        DS_CHECK(check(cudaMemcpyAsync(static_cast<char*>(to) + at, slot.memory, n, cudaMemcpyHostToDevice, queue.stream), "copying to the device"));
        DS_CHECK(check(cudaEventRecord(slot.free, queue.stream), "recording an event"));
        slot.used = true;
    }
    return ok();
}

Status Staging::download(Queue& queue, void* to, const void* from, size_t bytes) {
    for (size_t at = 0; at < bytes; at += kSlot) {
        Slot& slot = slots_[next_++ % std::size(slots_)];
        const size_t n = std::min(kSlot, bytes - at);
        DS_CHECK(check(cudaMemcpyAsync(slot.memory, static_cast<const char*>(from) + at, n, cudaMemcpyDeviceToHost, queue.stream), "copying from the device"));
        DS_CHECK(queue.wait());
        slot.used = false;
        std::memcpy(static_cast<char*>(to) + at, slot.memory, n);
    }
    return ok();
}

Status Partials::reserve(int64_t n) {
    host.resize(static_cast<size_t>(n));
    if (n <= room) return ok();
    release();
    void* memory = nullptr;
    DS_CHECK(check(cudaMalloc(&memory, static_cast<size_t>(n) * sizeof(double)), "allocating"));
    data = static_cast<double*>(memory);
    room = n;
    return ok();
}

void Partials::release() {
    if (data) cudaFree(data);
    data = nullptr;
    room = 0;
}

}  // namespace ds::cuda
