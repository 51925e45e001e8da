// Memory in one piece, on huge pages where the system has them. Pages are touched first by whoever writes them.
#pragma once

#include <cstddef>

#include "base/status.h"

namespace ds {

class Arena {
public:
    Arena() = default;
    Arena(const Arena&) = delete;
    Arena& operator=(const Arena&) = delete;
    ~Arena() { release(); }
    // Makes room for so many bytes; contents are lost when that moves the arena. Zeroed when fresh.
    Status reserve(size_t bytes);
    std::byte* data() const { return data_; }
    size_t size() const { return size_; }
    void release();

private:
    std::byte* data_ = nullptr;
    size_t size_ = 0;
};

}  // namespace ds
