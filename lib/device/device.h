// Device: memory and work of one accelerator, through the plug-in that drives it. The CPU has none: where a Device* is null, memory is the
// host's and kernels are called by the rank's threads.
//
// One rank uses one Device. Work is queued and runs in order; upload and the like queue too, download and finish wait. A failure of queued
// work is told by the next call that waits.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"
#include "device/backend.h"
#include "kernels/kernel.h"

namespace ds {

class Device {
public:
    // kind: "cuda". E_DEVICE or E_UNSUPPORTED say what was looked for, where, and why it did not do.
    static Result<std::unique_ptr<Device>> open(const std::string& kind, int index);
    ~Device();
    Device(const Device&) = delete;
    Device& operator=(const Device&) = delete;

    const std::string& description() const { return description_; }
    int architecture() const { return architecture_; }  // compute capability of a GPU: 90 is 9.0

    Result<std::byte*> allocate(size_t bytes);  // contents undefined
    void release(void* memory);
    Status zero(void* to, size_t bytes);
    Status upload(void* to, const void* from, size_t bytes);
    Status download(void* to, const void* from, size_t bytes);
    Status convert(void* to, DType to_type, const void* from, DType from_type, int64_t count);
    Status scale(float* x, int64_t count, float factor);
    Result<double> squares(const float* x, int64_t count);  // their sum
    Status sweep(const BackendSweep& sweep);
    Status add(float* to, const float* from, int64_t count);  // to += from

    // What exec needs.
    const KernelList* kernels(std::string_view op) const;
    void* queue() const { return table_.queue(device_); }
    Status begin(uint64_t seed, uint64_t step);
    Status status();
    Status finish();
    Status record();
    Result<void*> recorded();
    Status replay(void* graph);
    void forget(void* graph);
    Status begin_beside();
    Result<int64_t> end_beside();
    Status await(int64_t mark);

    // What comm needs for exchanges with other devices (device/group.h).
    Status can_group() const;  // E_UNSUPPORTED: with what is lacking
    Result<BackendGroupId> group_id();
    Result<void*> join(const BackendGroup& group);
    void leave(void* member);
    Status exchange(void* member, const BackendBlock* send, const BackendBlock* receive);
    Status reduce_scatter(void* member, const BackendBlock* send, BackendBlock out, DType dtype);
    Status all_reduce(void* member, BackendBlock data, DType dtype);
    Result<void*> post(const void* data, size_t bytes);
    Status take(void* parcel, void* to);
    void drop(void* parcel) { table_.drop(parcel); }
    // What is queued next, for messages about exchanges: an op and a value, or some words. The texts live until the next label.
    void label(std::string_view what, std::string_view of = {}) { what_ = what, of_ = of; }
    std::string label() const { return of_.empty() ? std::string(what_) : fmt::format("{} of {}", what_, of_); }

private:
    Device(const BackendTable& table, void* device) : table_(table), device_(device) {}
    Status answer(int32_t code) const;

    const BackendTable& table_;
    void* const device_;
    std::string description_;
    int architecture_ = 0;
    std::string_view what_, of_;
};

// How many devices of a kind this process can use, or why none.
Result<int> device_count(const std::string& kind);

// Copies between the host's memory and a device's; with a null device, within the host's.
Status to_device(Device* device, void* to, const void* from, size_t bytes);
Status to_host(Device* device, void* to, const void* from, size_t bytes);

}  // namespace ds
