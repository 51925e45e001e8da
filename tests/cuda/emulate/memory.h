// The double's device memory. It has two addresses: the one that the backend sees, where any access by the host is a fault, and one inside
// the double. Every byte is free, fresh (allocated, never written) or written; each element remembers who touched it in the present launch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "tests/cuda/emulate/order.h"

namespace emu {

enum class ByteState : uint8_t { free, fresh, written };

struct Touch {  // of the element that begins here
    uint32_t launch = 0;
    uint32_t writer = 0, reader = 0;  // thread of the grid + 1
    uint16_t write_epoch = 0, read_epoch = 0;
};
inline constexpr uint32_t kMany = 0xffffffffu, kManyBlocks = 0xfffffffeu;  // readers

inline constexpr int kDevices = 8;
inline constexpr size_t kDeviceBytes = size_t{8} << 30, kAllBytes = kDeviceBytes * kDevices;  // devices' memories lie one behind the other

class Memory {
public:
    static Memory& get() { return *(only_ ? only_ : only_ = make()); }
    void* allocate(size_t bytes, int device);  // null: no room. Never an address that was used before
    bool release(void* at);                    // false: nothing that is allocated begins there
    size_t live() const { return live_; }
    size_t live_bytes(int device) const { return live_bytes_[device]; }

    bool holds(const void* at) const { return at >= seen_ && at < seen_ + kAllBytes; }
    int device_of(const void* at) const {
        return static_cast<int>(static_cast<size_t>(static_cast<const char*>(at) - seen_) / kDeviceBytes);
    }
    char* inside(const void* at) const { return inner_ + (static_cast<const char*>(at) - seen_); }
    ByteState* state(const void* at) const { return state_ + (static_cast<const char*>(at) - seen_); }
    Touch* touch(const void* at) const { return touch_ + (static_cast<const char*>(at) - seen_) / 2; }
    Touched* touched(const void* at) const { return touched_ + (static_cast<const char*>(at) - seen_) / 2; }
    // Whether all bytes are allocated on the device (-1: the one whose stream runs) and written, where they are read, and `by` may touch
    // them now (null: the operation that runs); else what is wrong.
    std::string refuses(const void* at, size_t bytes, bool reads, int device = -1, const Doing* by = nullptr) const;
    void mark(void* at, size_t bytes, ByteState state);

private:
    Memory();
    static Memory* make();
    static Memory* only_;
    char *seen_ = nullptr, *inner_ = nullptr;
    ByteState* state_ = nullptr;
    Touch* touch_ = nullptr;
    Touched* touched_ = nullptr;
    size_t next_[kDevices] = {}, live_ = 0, live_bytes_[kDevices] = {};
};

}  // namespace emu
