// The double's device memory. It has two addresses: the one that the backend sees, where any access by the host is a fault, and one inside the double.
// Every byte is free, fresh (allocated, never written) or written; each element remembers who touched it in the present launch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace emu {

enum class ByteState : uint8_t { free, fresh, written };

struct Touch {  // of the element that begins here
    uint32_t launch = 0;
    uint32_t writer = 0, reader = 0;  // thread of the grid + 1
    uint16_t write_epoch = 0, read_epoch = 0;
};
inline constexpr uint32_t kMany = 0xffffffffu, kManyBlocks = 0xfffffffeu;  // readers

inline constexpr size_t kDeviceBytes = size_t{16} << 30;

class Memory {
public:
    static Memory& get() { return *(only_ ? only_ : only_ = make()); }
    void* allocate(size_t bytes);         // null: no room. Never an address that was used before
    bool release(void* at);               // false: nothing that is allocated begins there
    size_t live() const { return live_; }
    size_t live_bytes() const { return live_bytes_; }

    bool holds(const void* at) const { return at >= seen_ && at < seen_ + kDeviceBytes; }
    char* inside(const void* at) const { return inner_ + (static_cast<const char*>(at) - seen_); }
    ByteState* state(const void* at) const { return state_ + (static_cast<const char*>(at) - seen_); }
    Touch* touch(const void* at) const { return touch_ + (static_cast<const char*>(at) - seen_) / 2; }
    // Whether all bytes are allocated (and written, where they are read); else what is wrong.
    std::string refuses(const void* at, size_t bytes, bool reads) const;
    void mark(void* at, size_t bytes, ByteState state);

private:
    Memory();
    static Memory* make();
    static Memory* only_;
    char *seen_ = nullptr, *inner_ = nullptr;
    ByteState* state_ = nullptr;
    Touch* touch_ = nullptr;
    size_t next_ = 256, live_ = 0, live_bytes_ = 0;
};

}  // namespace emu
