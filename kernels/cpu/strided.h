// Copies a box of elements between two strided layouts; every op that only moves elements is one or more of these.
#pragma once

#include "kernels/kernel.h"

namespace ds::cpu {

struct Box {
    int rank = 0;
    int64_t dims[kMaxRank], from[kMaxRank], to[kMaxRank];  // strides in elements; a `from` stride of 0 repeats
};

// The strides of a tensor's dimensions, in elements.
void strides_of(const Tensor& t, int64_t* strides);

// This thread's part of the copy. Elements have `size` bytes: 1, 2, 4 or 8.
void copy_box(const void* from, void* to, int64_t size, Box box, Team team);

}  // namespace ds::cpu
