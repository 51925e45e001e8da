#include "base/machine.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "base/file.h"

namespace ds {

int64_t memory_of_machine() {
    int64_t bytes = static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
    for (const char* path : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
        const auto text = read_file(path, size_t{1} << 16);
        int64_t limit = 0;
        if (text.ok() && std::from_chars(text->data(), text->data() + text->size(), limit).ec == std::errc() && limit > 0)
            bytes = std::min(bytes, limit);
    }
    return bytes;
}

}  // namespace ds
