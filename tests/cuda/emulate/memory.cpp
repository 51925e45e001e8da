#include "tests/cuda/emulate/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

#include "tests/cuda/emulate/stream.h"

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
    if (file < 0 || ftruncate(file, kAllBytes) != 0) {
        std::perror("emulated device memory");
        std::abort();
    }
    seen_ = static_cast<char*>(reserve(kAllBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1));
    inner_ = static_cast<char*>(reserve(kAllBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file));
    close(file);
    state_ = static_cast<ByteState*>(reserve(kAllBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1));
    touched_ = static_cast<Touched*>(reserve(kAllBytes / 2 * sizeof(Touched), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1));
    touch_ = static_cast<Touch*>(reserve(kAllBytes / 2 * sizeof(Touch), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1));
}

void* Memory::allocate(size_t bytes, int device) {
    if (bytes == 0 || bytes > kDeviceBytes - next_[device] - 1024) return nullptr;
    const size_t at = static_cast<size_t>(device) * kDeviceBytes + 256 + next_[device];
    next_[device] += (bytes + 511) / 256 * 256;  // something free lies between any two
    sizes()[at] = bytes;
    ++live_;
    live_bytes_[device] += bytes;
    std::memset(inner_ + at, 0xFF, bytes);  // NaN, as floats
    std::memset(state_ + at, static_cast<int>(ByteState::fresh), bytes);
    return seen_ + at;
}

bool Memory::release(void* at) {
    const auto found = holds(at) ? sizes().find(static_cast<size_t>(static_cast<char*>(at) - seen_)) : sizes().end();
    if (found == sizes().end()) return false;
    static_assert(static_cast<int>(ByteState::free) == 0);  // as fresh pages are
    const size_t page = 4096, begin = (found->first + page - 1) / page * page,
                 end = std::max(begin, (found->first + found->second) / page * page);
    const size_t head = std::min(begin, found->first + found->second) - found->first;
    std::memset(state_ + found->first, 0, head);
    if (found->second > head) std::memset(state_ + end, 0, found->first + found->second - end);
    if (end > begin) madvise(state_ + begin, end - begin, MADV_DONTNEED);
    if (end > begin) madvise(inner_ + begin, end - begin, MADV_REMOVE);
    if (end > begin) madvise(touched_ + begin / 2, (end - begin) / 2 * sizeof(Touched), MADV_DONTNEED);
    if (end > begin) madvise(touch_ + begin / 2, (end - begin) / 2 * sizeof(Touch), MADV_DONTNEED);
    --live_;
    live_bytes_[device_of(at)] -= found->second;
    sizes().erase(found);
    return true;
}

std::string Memory::refuses(const void* at, size_t bytes, bool reads, int device, const Doing* by) const {
    if (bytes == 0) return {};
    if (!holds(at) || !holds(static_cast<const char*>(at) + bytes - 1)) return "is not device memory";
    if (device < 0) device = running_device();
    if (device >= 0 && device_of(at) != device)
        return "is of device " + std::to_string(device_of(at)) + ", not of device " + std::to_string(device);
    const ByteState* s = state(at);
    for (size_t i = 0; i < bytes; ++i) {
        if (s[i] == ByteState::free) return "is not allocated, or was freed";
        if (reads && s[i] == ByteState::fresh) return "was never written";
    }
    const Doing now = by ? *by : doing();
    Touched *first = touched(at), *last = touched(static_cast<const char*>(at) + bytes - 1);
    for (Touched* element = first; element <= last; ++element)
        if (std::string why = ::emu::touch(*element, !reads, now); !why.empty()) return why;
    return {};
}

void Memory::mark(void* at, size_t bytes, ByteState value) { std::memset(state(at), static_cast<int>(value), bytes); }

}  // namespace emu
