// Device: memory and work of one accelerator, through the plug-in that drives it. The CPU has none: where a Device* is null, memory is the host's and
// kernels are called by the rank's threads.
//
// One rank uses one Device. Work is queued and runs in order; upload and the like queue too, download and finish wait. A failure of queued work is
// told by the next call that waits.
#pragma once

#include <memory>
#include <string>

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

    Result<std::byte*> allocate(size_t bytes);  // contents undefined
    void release(void* memory);
    Status zero(void* to, size_t bytes);
    Status upload(void* to, const void* from, size_t bytes);
    Status download(void* to, const void* from, size_t bytes);
    Status convert(void* to, DType to_type, const void* from, DType from_type, int64_t count);
    Status scale(float* x, int64_t count, float factor);
    Result<double> squares(const float* x, int64_t count);  // their sum
    Status sweep(const BackendSweep& sweep);

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

private:
    Device(const BackendTable& table, void* device) : table_(table), device_(device) {}
    Status answer(int32_t code) const;

    const BackendTable& table_;
    void* const device_;
    std::string description_;
};

// How many devices of a kind this process can use, or why none.
Result<int> device_count(const std::string& kind);

// Copies between the host's memory and a device's; with a null device, within the host's.
Status to_device(Device* device, void* to, const void* from, size_t bytes);
Status to_host(Device* device, void* to, const void* from, size_t bytes);

}  // namespace ds
