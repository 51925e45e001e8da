#include "tests/cuda/emulate/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

namespace emu {
namespace {

void* reserve(size_t bytes, int protection, int flags, int file) {
    void* p = mmap(nullptr, bytes, protection, flags | MAP_NORESERVE, file, 0);
    if (p == MAP_FAILED) {
        std::perror("emulated device memory");
        std::abort();
    }
    return p;
}

std::map<size_t, size_t>& sizes() {  // of what is live, by offset
    static auto& map = *new std::map<size_t, size_t>;
    return map;
}

}  // namespace

Memory* Memory::only_ = nullptr;
Memory* Memory::make() { return new Memory; }

Memory::Memory() {
    const int file = memfd_create("device", 0);
    if (file < 0 || ftruncate(file, kDeviceBytes) != 0) {
        std::perror("emulated device memory");
        std::abort();
    }
    seen_ = static_cast<char*>(reserve(kDeviceBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1));
    inner_ = static_cast<char*>(reserve(kDeviceBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file));
    close(file);
    state_ = static_cast<ByteState*>(reserve(kDeviceBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1));
    touch_ = static_cast<Touch*>(reserve(kDeviceBytes / 2 * sizeof(Touch), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1));
}

void* Memory::allocate(size_t bytes) {
    if (bytes == 0 || bytes > kDeviceBytes - next_ - 512) return nullptr;
    const size_t at = next_;
    next_ += (bytes + 511) / 256 * 256;  // something free lies between any two
    sizes()[at] = bytes;
    ++live_;
    live_bytes_ += bytes;
    std::memset(inner_ + at, 0xFF, bytes);  // NaN, as floats
    std::memset(state_ + at, static_cast<int>(ByteState::fresh), bytes);
    return seen_ + at;
}

bool Memory::release(void* at) {
    const auto found = holds(at) ? sizes().find(static_cast<size_t>(static_cast<char*>(at) - seen_)) : sizes().end();
    if (found == sizes().end()) return false;
    std::memset(state_ + found->first, static_cast<int>(ByteState::free), found->second);
    const size_t page = 4096, begin = (found->first + page - 1) / page * page, end = (found->first + found->second) / page * page;
    if (end > begin) madvise(inner_ + begin, end - begin, MADV_REMOVE);
    if (end > begin) madvise(touch_ + begin / 2, (end - begin) / 2 * sizeof(Touch), MADV_DONTNEED);
    --live_;
    live_bytes_ -= found->second;
    sizes().erase(found);
    return true;
}

std::string Memory::refuses(const void* at, size_t bytes, bool reads) const {
    if (bytes == 0) return {};
    if (!holds(at) || !holds(static_cast<const char*>(at) + bytes - 1)) return "is not device memory";
    const ByteState* s = state(at);
    for (size_t i = 0; i < bytes; ++i) {
        if (s[i] == ByteState::free) return "is not allocated, or was freed";
        if (reads && s[i] == ByteState::fresh) return "was never written";
    }
    return {};
}

void Memory::mark(void* at, size_t bytes, ByteState value) { std::memset(state(at), static_cast<int>(value), bytes); }

}  // namespace emu
