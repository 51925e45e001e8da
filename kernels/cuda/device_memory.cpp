#include "kernels/cuda/device_memory.h"

#include <algorithm>
#include <cstring>
#include <deque>

namespace ds::cuda {
Status Staging::make() {
    void *pinned = nullptr, *there = nullptr;
    DS_CHECK(check(cudaHostAlloc(&pinned, kSlots * kSlot, cudaHostAllocDefault), "allocating pinned memory"));
    pinned_ = static_cast<char*>(pinned);
    DS_CHECK(check(cudaMalloc(&there, kSlots * kSlot), "allocating"));
    there_ = static_cast<char*>(there);
    for (size_t i = 0; i < kSlots; ++i) {
        Slot& slot = slots_[i];
        slot.memory = pinned_ + i * kSlot;
        slot.there = there_ + i * kSlot;
        for (cudaEvent_t* event : {&slot.crossed, &slot.arrived})
            DS_CHECK(check(cudaEventCreateWithFlags(event, cudaEventDisableTiming), "making an event"));
    }
    return ok();
}

void Staging::release() {
    for (Slot& slot : slots_) {
        for (cudaEvent_t event : {slot.crossed, slot.arrived})
            if (event) cudaEventDestroy(event);
        slot = {};
    }
    if (there_) cudaFree(there_);
    if (pinned_) cudaFreeHost(pinned_);
    pinned_ = there_ = nullptr;
}

Result<Staging::Slot*> Staging::free_slot(Queue& queue) {
    Slot& slot = slots_[next_++ % kSlots];
    if (slot.used) DS_CHECK(queue.wait(slot.crossed));
    slot.used = false;
    return &slot;
}

Status Staging::upload(Queue& queue, void* to, const void* from, size_t bytes) {
    for (size_t at = 0; at < bytes; at += kSlot) {
        DS_TRY(Slot * slot, free_slot(queue));
        const size_t n = std::min(kSlot, bytes - at);
        std::memcpy(slot->memory, static_cast<const char*>(from) + at, n);
        if (slot->arrives) DS_CHECK(check(cudaStreamWaitEvent(queue.copies, slot->arrived, 0), "waiting for a copy"));
        DS_CHECK(check(cudaMemcpyAsync(slot->there, slot->memory, n, cudaMemcpyHostToDevice, queue.copies), "copying to the device"));
        DS_CHECK(check(cudaEventRecord(slot->crossed, queue.copies), "recording an event"));
        slot->used = true;
        DS_CHECK(check(cudaStreamWaitEvent(queue.stream, slot->crossed, 0), "waiting for a copy"));
        DS_CHECK(check(cudaMemcpyAsync(static_cast<char*>(to) + at, slot->there, n, cudaMemcpyDeviceToDevice, queue.stream),
                       "copying to the device"));
        DS_CHECK(check(cudaEventRecord(slot->arrived, queue.stream), "recording an event"));
        slot->arrives = true;
    }
    return ok();
}

Status Staging::fetch(Queue& queue, Slot& slot, const char* from, size_t bytes) {
    DS_CHECK(check(cudaMemcpyAsync(slot.memory, from, bytes, cudaMemcpyDeviceToHost, queue.copies), "copying from the device"));
    DS_CHECK(check(cudaEventRecord(slot.crossed, queue.copies), "recording an event"));
    slot.used = true;
    return ok();
}

// While the host copies one piece on, the next ones are on their way.
Status Staging::download(Queue& queue, void* to, const void* from, size_t bytes) {
    struct Piece {
        Slot* slot;
        size_t at, bytes;
    };
    std::deque<Piece> under_way;
    if (!queue.is_beside()) DS_CHECK(queue.await_all());
    if (bytes > 0) DS_CHECK(queue.order(queue.stream, queue.copies));
    for (size_t at = 0; at < bytes || !under_way.empty();) {
        if (at < bytes && under_way.size() < kSlots / 2) {
            DS_TRY(Slot * slot, free_slot(queue));
            const size_t n = std::min(kSlot, bytes - at);
            DS_CHECK(fetch(queue, *slot, static_cast<const char*>(from) + at, n));
            under_way.push_back({slot, at, n});
            at += n;
            continue;
        }
        const Piece piece = under_way.front();
        under_way.pop_front();
        DS_CHECK(queue.wait(piece.slot->crossed));
        piece.slot->used = false;
        std::memcpy(static_cast<char*>(to) + piece.at, piece.slot->memory, piece.bytes);
    }
    return queue.why();
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
