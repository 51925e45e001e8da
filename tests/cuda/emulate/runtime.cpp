#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "tests/cuda/emulate/api.h"
#include "tests/cuda/emulate/control.h"
#include "tests/cuda/emulate/memory.h"
#include "tests/cuda/emulate/stream.h"

namespace emu {
namespace {

struct State {
    std::recursive_mutex mutex;  // one call at a time
    int64_t calls = 0, fail_at = 0, launches = 0;
    const char* failed_call = "";
    int64_t live = 0;
    std::string first_fault;
    std::map<void*, size_t> pinned;
    std::map<const void*, int> dynamic_shared;  // what cudaFuncSetAttribute allowed
    cudaError_t last = cudaSuccess;
};
State& state() {
    static State& s = *new State;
    return s;
}

cudaError_t answer(cudaError_t error) {
    if (error != cudaSuccess) state().last = error;
    return error;
}

}  // namespace

void told(const std::string& fault) {
    std::fprintf(stderr, "emulated device: %s\n", fault.c_str());
    if (state().first_fault.empty()) state().first_fault = fault;
}
bool fails(const char* call) {
    State& s = state();
    if (++s.calls != s.fail_at) return false;
    s.failed_call = call;
    return true;
}
void count_live(int change) { state().live += change; }
void count_launch() { ++state().launches; }

// Runs what a stream has queued, and what that waits for on others. The first failure ends the stream, as it ends a context.
cudaError_t drive(EmuStream& stream) {
    while (!stream.queued.empty() && stream.failed == cudaSuccess) {
        Operation op = std::move(stream.queued.front());
        stream.queued.pop_front();
        const std::string wrong = op();
        if (wrong.empty()) continue;
        told(wrong);
        stream.failed = cudaErrorLaunchFailure;
    }
    return stream.failed;
}

cudaError_t queue(cudaStream_t stream, Operation op) {
    if (!stream) return cudaErrorInvalidResourceHandle;  // the backend has no business on the default stream
    if (stream->failed != cudaSuccess) return stream->failed;
    (stream->recording ? stream->recording->operations : stream->queued).push_back(std::move(op));
    return cudaSuccess;
}

}  // namespace emu

using namespace emu;

#define CALL(failure)                                    \
    std::lock_guard emu_lock(state().mutex);             \
    if (fails(__func__)) return answer(failure)

extern "C" {
void emu_fail_at(int64_t call) {
    State& s = state();
    s.calls = 0, s.fail_at = call, s.failed_call = "";
}
int64_t emu_calls() { return state().calls; }
const char* emu_failed_call() { return state().failed_call; }
size_t emu_live_allocations() { return static_cast<size_t>(state().live); }
int64_t emu_launches() { return state().launches; }
const char* emu_first_fault() { return state().first_fault.c_str(); }
void emu_forget_faults() { state().first_fault.clear(); }
}

const char* cudaGetErrorString(cudaError_t error) {
    switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorLaunchFailure: return "unspecified launch failure";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    default: return "unknown error";
    }
}
cudaError_t cudaGetLastError() { return std::exchange(state().last, cudaSuccess); }
cudaError_t cudaGetDeviceCount(int* count) {
    CALL(cudaErrorNoDevice);
    *count = 8;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
    CALL(cudaErrorUnknown);
    return answer(device >= 0 && device < 8 ? cudaSuccess : cudaErrorInvalidValue);
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int device) {
    CALL(cudaErrorUnknown);
    std::memset(p, 0, sizeof *p);
    std::snprintf(p->name, sizeof p->name, "emulated device %d", device);
    p->totalGlobalMem = kDeviceBytes;
    p->major = 9, p->multiProcessorCount = 4, p->pciBusID = 0x10 + device;
    return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) { return *version = 13000, cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* version) { return *version = 13000, cudaSuccess; }
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
    CALL(cudaErrorUnknown);
    *total = kDeviceBytes, *free = kDeviceBytes - Memory::get().live_bytes();
    return cudaSuccess;
}
cudaError_t cudaMalloc(void** out, size_t bytes) {
    CALL(cudaErrorMemoryAllocation);
    *out = Memory::get().allocate(bytes);
    if (!*out) return answer(cudaErrorMemoryAllocation);
    count_live(1);
    return cudaSuccess;
}
cudaError_t cudaFree(void* memory) {
    std::lock_guard lock(state().mutex);  // what frees can't be made to fail: nobody could do anything about it
    for (EmuStream* stream : streams()) drive(*stream);
    if (!memory) return cudaSuccess;
    if (!Memory::get().release(memory)) return told("cudaFree of what is not allocated"), answer(cudaErrorInvalidValue);
    count_live(-1);
    return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** out, size_t bytes, unsigned) {
    CALL(cudaErrorMemoryAllocation);
    *out = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    state().pinned[*out] = bytes;
    count_live(1);
    return cudaSuccess;
}
cudaError_t cudaFreeHost(void* memory) {
    std::lock_guard lock(state().mutex);
    if (state().pinned.erase(memory) == 0) return told("cudaFreeHost of what is not pinned"), answer(cudaErrorInvalidValue);
    std::free(memory);
    count_live(-1);
    return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
    CALL(cudaErrorUnknown);
    return answer(queue(stream, [=]() -> std::string {
        if (std::string why = Memory::get().refuses(to, bytes, false); !why.empty()) return "cudaMemsetAsync: the memory " + why;
        std::memset(Memory::get().inside(to), value, bytes);
        Memory::get().mark(to, bytes, ByteState::written);
        return {};
    }));
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
    CALL(cudaErrorUnknown);
    return answer(queue(stream, [=]() -> std::string {
        Memory& memory = Memory::get();
        const bool from_device = kind != cudaMemcpyHostToDevice, to_device = kind != cudaMemcpyDeviceToHost;
        if (memory.holds(from) != from_device || memory.holds(to) != to_device) return "cudaMemcpyAsync: the direction does not fit the addresses";
        if (std::string why = from_device ? memory.refuses(from, bytes, true) : std::string(); !why.empty()) return "cudaMemcpyAsync: the source " + why;
        if (std::string why = to_device ? memory.refuses(to, bytes, false) : std::string(); !why.empty()) return "cudaMemcpyAsync: the target " + why;
        std::memmove(to_device ? memory.inside(to) : to, from_device ? memory.inside(from) : from, bytes);
        if (to_device) memory.mark(to, bytes, ByteState::written);
        return {};
    }));
}

namespace emu {
std::set<EmuStream*>& streams() {
    static auto& all = *new std::set<EmuStream*>;
    return all;
}
}  // namespace emu

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
    CALL(cudaErrorUnknown);
    streams().insert(*stream = new EmuStream);
    count_live(1);
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    std::lock_guard lock(state().mutex);
    drive(*stream);
    streams().erase(stream);
    delete stream;
    count_live(-1);
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    CALL(cudaErrorUnknown);
    if (stream->recording) return answer(cudaErrorStreamCaptureUnsupported);
    return answer(drive(*stream));
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    CALL(cudaErrorUnknown);
    return answer(queue(stream, [event]() -> std::string {
        if (event->pending && event->stream) drive(*event->stream);
        return event->pending ? "a wait for an event that can't come" : "";
    }));
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
    CALL(cudaErrorUnknown);
    *event = new EmuEvent;
    count_live(1);
    return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
    std::lock_guard lock(state().mutex);
    if (event->stream && event->pending) drive(*event->stream);
    delete event;
    count_live(-1);
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    CALL(cudaErrorUnknown);
    event->stream = stream;
    ++event->pending;
    return answer(queue(stream, [event]() -> std::string {
        --event->pending;
        return {};
    }));
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    CALL(cudaErrorUnknown);
    return answer(event->pending && event->stream ? drive(*event->stream) : cudaSuccess);
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
    CALL(cudaErrorUnknown);
    if (stream->recording) return answer(cudaErrorStreamCaptureUnsupported);
    stream->recording = new EmuGraph;
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
    std::lock_guard lock(state().mutex);
    *graph = std::exchange(stream->recording, nullptr);
    if (*graph) count_live(1);
    if (fails(__func__)) {
        cudaGraphDestroy(std::exchange(*graph, nullptr));
        return answer(cudaErrorUnknown);
    }
    return answer(*graph ? cudaSuccess : cudaErrorInvalidValue);
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
    CALL(cudaErrorUnknown);
    *exec = new EmuGraph(*graph);
    count_live(1);
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
    CALL(cudaErrorUnknown);
    for (const Operation& op : exec->operations)
        if (const cudaError_t error = queue(stream, op); error != cudaSuccess) return answer(error);
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    count_live(-1);
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) { return cudaGraphDestroy(exec); }

cudaError_t emu_set_attribute(const void* kernel, cudaFuncAttribute, int value) {
    std::lock_guard lock(state().mutex);
    if (fails("cudaFuncSetAttribute")) return answer(cudaErrorUnknown);
    state().dynamic_shared[kernel] = value;
    return answer(value <= (227 << 10) ? cudaSuccess : cudaErrorInvalidValue);
}
cudaError_t emu_launch(cudaStream_t stream, dim3 grid, dim3 block, size_t shared, const void* kernel, std::function<void()> body) {
    std::lock_guard lock(state().mutex);
    if (fails("a kernel's launch")) return answer(cudaErrorUnknown);
    if (shared > (48u << 10) && static_cast<int>(shared) > state().dynamic_shared[kernel]) return told("a launch with more dynamic shared memory than cudaFuncSetAttribute allowed"), answer(cudaErrorInvalidValue);
    return answer(queue(stream, [=, body = std::move(body)] {
        count_launch();
        return run_grid(grid, block, shared, body);
    }));
}
