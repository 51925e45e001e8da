// Memory in one piece: of a device, or of the host, there on huge pages where the system has them. Pages are touched first by whoever
// writes them.
#pragma once

#include <cstddef>

#include "base/status.h"
#include "device/device.h"

namespace ds {

class Arena {
public:
    Arena() = default;
    Arena(const Arena&) = delete;
    Arena& operator=(const Arena&) = delete;
    ~Arena() { release(); }
    void lie_on(Device* device) { device_ = device; }  // before the first reserve; the device outlives the arena
    // Makes room for so many bytes; contents are lost when that moves the arena. The host's are zeroed when fresh.
    Status reserve(size_t bytes);
    std::byte* data() const { return data_; }
    size_t size() const { return size_; }
    void release();

private:
    Device* device_ = nullptr;
    std::byte* data_ = nullptr;
    size_t size_ = 0;
};

}  // namespace ds
