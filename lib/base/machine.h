// What the machine has.
#pragma once

#include <cstdint>

namespace ds {

// Bytes of main memory that this process may use: the machine's, or those of its control group.
int64_t memory_of_machine();

}  // namespace ds
