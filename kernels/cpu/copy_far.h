// Copies of what is far larger than the caches: stores pass them by.
#pragma once

#include <cstdint>

namespace ds::cpu {

void copy_far(const void* from, void* to, int64_t bytes);

}  // namespace ds::cpu
