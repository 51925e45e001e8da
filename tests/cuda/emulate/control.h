// What tests ask of the double, by dlsym on the emulated libdsrt_cuda.so.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#pragma GCC visibility push(default)
extern "C" {
// The call-th call of the API from now on fails, and only that (0: none fails). Kernels and copies count when they are queued.
void emu_fail_at(int64_t call);
// The same, counting only what is called for one device: where ranks are threads, only that order is always the same.
void emu_fail_on(int device, int64_t call);
int64_t emu_calls();            // so far, since the last emu_fail_at or emu_fail_on
const char* emu_failed_call();  // the name of the call that was made to fail; "" if none was reached
size_t emu_live_allocations();  // device and pinned memory, streams, events, graphs, handles of cuBLASLt, communicators of NCCL
int64_t emu_aborted();          // communicators of NCCL that were ended by ncclCommAbort
int64_t emu_launches();         // kernels and products that ran
int64_t emu_beside();           // those that were not ordered with an exchange of their device, either way: they could run at the same time
const char* emu_first_fault();  // what a check found; "" if nothing yet
void emu_set_architecture(int architecture);  // compute capability that devices tell: 90 is 9.0
void emu_forget_faults();
}
#pragma GCC visibility pop

namespace emu {
void told(const std::string& fault);  // prints it, and keeps the first
bool fails(const char* call);         // counts a call; whether it is to fail
void count_live(int change);
int device_of_thread();  // what cudaSetDevice chose
void count_launch();
std::string run_grid(struct ::dim3 blocks, struct ::dim3 threads, size_t shared, const std::function<void()>& body);
}  // namespace emu
