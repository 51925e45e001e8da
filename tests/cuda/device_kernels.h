// Lets the unit tests of kernels run on the device: in this build, the kernel lists of ds::cpu are those of the plug-in in
// DSRT_BACKEND_PATH, and run_kernel of tests/support/run_kernel.h gives them device memory.
#pragma once

#include "device/device.h"

namespace ds::test {

// The device, opened once; a failure ends the program with its message.
Device& device();
bool is_of_device(const KernelList& list);
KernelList on_device(const char* op);  // also of ops that kernels.def has no row for
// Control of the double (tests/cuda/emulate/control.h); null where the plug-in is the real one.
void* control(const char* function);

}  // namespace ds::test
