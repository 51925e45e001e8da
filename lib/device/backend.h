// What a plug-in with a device backend (libdsrt_cuda.so) and libdsrt know of each other: one C table. Status codes are those of errors.def.
//
// Kernels cross as the lists of kernels/kernel.h and read the attribute structs of ops/attrs.h, so both sides must come from one build of
// one version: `stamp` is compared for equality. Everything else is plain C.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/plugin.h"
#include "base/rounding.h"

namespace ds {

#define DS_BACKEND_STAMP "libdsrt 0.1.0, backend 4, GCC " __VERSION__

// What libdsrt does for the backend.
struct BackendHost {
    size_t struct_size = sizeof(BackendHost);
    void (*log)(int32_t level, const char* message) = nullptr;  // level as in base/log.h
};

struct BackendDeviceInfo {
    size_t struct_size = sizeof(BackendDeviceInfo);
    char name[256] = {};
    char runtime[256] = {};  // versions of driver and libraries
    uint64_t memory_bytes = 0;
    char pci[16] = {};         // "0000:65:00.0"
    int32_t architecture = 0;  // compute capability of a GPU: 90 is 9.0
};

// Elementwise rules of optimizers; kernels/cpu/optim.cpp says what the constants of each are.
enum class SweepRule : int32_t { adam, sgd, adagrad, rmsprop, lion, keep };  // keep: weights stay, `low` is written

// One sweep over `count` elements. States that a rule lacks are null.
struct BackendSweep {
    SweepRule rule = SweepRule::adam;
    const float* constants = nullptr;
    int32_t constant_count = 0, states = 0;
    float* weight = nullptr;
    const float* gradient = nullptr;
    float* state[3] = {};
    int64_t count = 0;
    void* low = nullptr;  // null, or where the new weights are written once more
    int32_t low_dtype = 0;
    const Rounding* rounding = nullptr;  // set: bf16 in `low` is rounded by chance
};

// Of a rank's memory, in device memory; bytes may be 0.
struct BackendBlock {
    void* data = nullptr;
    int64_t bytes = 0;
};

struct BackendGroupId {
    unsigned char bytes[128] = {};
};

// A device's place in a group of devices, of this process or of several.
struct BackendGroup {
    size_t struct_size = sizeof(BackendGroup);
    BackendGroupId id;  // the same for all members, of one group only
    int32_t rank = 0, size = 1;
    int64_t deadline_ms = 0;  // how long the device may be in one exchange
    // Asked again and again while a call waits. 0: go on. Else a code, and why the group has ended is in `text`. overdue: 0, or the number
    // (from 1) of this member's exchange that has passed the deadline.
    int32_t (*look)(void* user, int64_t overdue, char* text, size_t bytes) = nullptr;
    void* user = nullptr;
};

// Calls on one device come from one thread at a time. What is queued runs in order; `finish` waits for all of it.
struct BackendTable {
    PluginTable plugin;
    const char* stamp;                        // DS_BACKEND_STAMP of its build
    void (*attach)(const BackendHost* host);  // before anything else; the struct outlives the plug-in
    const char* (*last_error)();              // of the calling thread's last failing call
    int32_t (*count)(int32_t* devices);
    int32_t (*open)(int32_t index, void** device);
    void (*close)(void* device);  // all its memory was released before
    int32_t (*info)(void* device, BackendDeviceInfo* info);
    int32_t (*free_bytes)(void* device, uint64_t* bytes);
    int32_t (*allocate)(void* device, size_t bytes, void** out);  // 256-byte aligned, contents undefined
    int32_t (*release)(void* device, void* memory);
    int32_t (*allocate_host)(void* device, size_t bytes, void** out);  // pinned: the device reads and writes it
    int32_t (*release_host)(void* device, void* memory);
    int32_t (*zero)(void* device, void* to, size_t bytes);                        // queued
    int32_t (*upload)(void* device, void* to, const void* from, size_t bytes);    // queued; `from` may change at once
    int32_t (*download)(void* device, void* to, const void* from, size_t bytes);  // waits
    int32_t (*convert)(void* device, void* to, int32_t to_dtype, const void* from, int32_t from_dtype, int64_t count);  // queued
    int32_t (*scale)(void* device, float* x, int64_t count, float factor);                                              // queued
    int32_t (*squares)(void* device, const float* x, int64_t count, double* sum);                                       // waits
    int32_t (*sweep)(void* device, const BackendSweep* sweep);                                                          // queued
    const void* (*kernels)(const char* op);                        // its KernelList, or null
    void* (*queue)(void* device);                                  // for Runtime::queue
    int32_t (*begin)(void* device, uint64_t seed, uint64_t step);  // before the kernels of a plan: what they draw random numbers from
    int32_t (*status)(void* device);                               // the first failure of what was queued so far, as far as it is known
    int32_t (*finish)(void* device);
    // What is queued between these becomes a graph that runs again as a whole. A graph that failed to record is null and an error.
    int32_t (*record)(void* device);
    int32_t (*recorded)(void* device, void** graph);
    int32_t (*replay)(void* device, void* graph);
    void (*forget)(void* device, void* graph);
    int32_t (*add)(void* device, float* to, const float* from, int64_t count);  // queued
    // What is queued between these runs beside what is queued behind them: after all that was queued before, and in order with what else
    // runs beside. mark: of it.
    int32_t (*begin_beside)(void* device);
    int32_t (*end_beside)(void* device, int64_t* mark);
    int32_t (*await)(void* device, int64_t mark);  // what is queued from now on runs after that work; 0: after all that runs beside
    // Groups of devices. A failure of an exchange is what every later call on the device answers until the device has left all its groups.
    int32_t (*group_library)(int32_t* version);                               // whether there can be groups
    int32_t (*group_id)(BackendGroupId* id);                                  // of a new group: one member makes it and tells the others
    int32_t (*join)(void* device, const BackendGroup* group, void** member);  // waits for the others
    void (*leave)(void* device, void* member);  // ends what is under way; null: of a group that this device never came to
    // Queued, by all members in the same order. send[i] goes to member i, receive[i] comes from it; sums are taken in the order of members.
    int32_t (*exchange)(void* device, void* member, const BackendBlock* send, const BackendBlock* receive);
    int32_t (*reduce_scatter)(void* device, void* member, const BackendBlock* send, const BackendBlock* out, int32_t dtype);
    int32_t (*all_reduce)(void* device, void* member, const BackendBlock* data, int32_t dtype);
    // Messages between devices of this process: a copy is posted, and taken or dropped once. post and take are queued.
    int32_t (*post)(void* device, const void* data, size_t bytes, void** parcel);
    int32_t (*take)(void* device, void* parcel, void* to);
    void (*drop)(void* parcel);
};

}  // namespace ds
