#include "engine/arena.h"

#include <sys/mman.h>

#include "base/machine.h"

namespace ds {

Status Arena::reserve(size_t bytes) {
    if (bytes <= size_) return ok();
    release();
    if (device_) {
        DS_TRY(data_, device_->allocate(bytes));
        size_ = bytes;
        return ok();
    }
    // The pages come when they are first written, and a process that writes more than there is gets killed.
    if (const int64_t there = memory_of_machine(); there > 0 && bytes > static_cast<size_t>(there))
        return fail(Code::E_OUT_OF_MEMORY, "{} bytes are needed in one piece, but this machine has {}; ds_plan tells what a config needs",
                    bytes, there);
    constexpr size_t huge = size_t{2} << 20;
    const size_t rounded = (bytes + huge - 1) / huge * huge;
    void* p = ::mmap(nullptr, rounded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return fail(Code::E_OUT_OF_MEMORY, "{} bytes of working memory could not be reserved", rounded);
    if (rounded >= 2 * huge) ::madvise(p, rounded, MADV_HUGEPAGE);
    data_ = static_cast<std::byte*>(p);
    size_ = rounded;
    return ok();
}

void Arena::release() {
    if (data_ && device_) device_->release(data_);
    else if (data_) ::munmap(data_, size_);
    data_ = nullptr;
    size_ = 0;
}

}  // namespace ds
