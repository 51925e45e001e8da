#include <chrono>
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
    int64_t calls = 0, fail_at = 0, launches = 0;
    int fail_device = -1;  // -1: calls for any
    const char* failed_call = "";
    int64_t live = 0;
    int architecture = 90;
    std::string first_fault;
    std::map<void*, size_t> pinned;
    std::map<const void*, int> dynamic_shared;  // what cudaFuncSetAttribute allowed
};
State& state() {
    static State& s = *new State;
    return s;
}

thread_local int current_device = 0;
thread_local cudaError_t last = cudaSuccess;

cudaError_t answer(cudaError_t error) {
    if (error != cudaSuccess) last = error;
    return error;
}

bool fails(const char* call, int device) {
    State& s = state();
    if ((s.fail_device >= 0 && s.fail_device != device) || ++s.calls != s.fail_at) return false;
    s.failed_call = call;
    return true;
}

}  // namespace

std::recursive_mutex& mutex() {
    static auto& m = *new std::recursive_mutex;
    return m;
}
std::condition_variable_any& moved() {
    static auto& c = *new std::condition_variable_any;
    return c;
}
std::set<EmuStream*>& streams() {
    static auto& all = *new std::set<EmuStream*>;
    return all;
}
int device_of_thread() { return current_device; }

void told(const std::string& fault) {
    std::lock_guard lock(mutex());
    std::fprintf(stderr, "emulated device: %s\n", fault.c_str());
    if (state().first_fault.empty()) state().first_fault = fault;
}
bool fails(const char* call) {
    std::lock_guard lock(mutex());
    return fails(call, current_device);
}
void count_live(int change) {
    std::lock_guard lock(mutex());
    state().live += change;
}
void count_launch() {
    ++state().launches;
    count_beside();
}

namespace {
int running = -1;
}
int running_device() { return running; }

// The first failure ends the stream, as it ends a context.
bool step(EmuStream& stream) {
    if (stream.runs || stream.queued.empty() || stream.failed != cudaSuccess) return false;
    const int before = std::exchange(running, stream.device);
    stream.runs = true;
    EmuStream* outer = begin_operation(stream, stream.queued.front().host);
    const std::string wrong = stream.queued.front().run();
    end_operation(stream, outer, wrong != kNotYet);
    stream.runs = false;
    running = before;
    if (wrong == kNotYet) return false;
    stream.queued.pop_front();
    moved().notify_all();
    if (!wrong.empty()) {
        told(wrong);
        stream.failed = cudaErrorLaunchFailure;
    }
    return true;
}

cudaError_t drive(EmuStream& stream) {
    while (step(stream)) {}
    return stream.failed;
}

cudaError_t queue(cudaStream_t stream, Operation op) {
    std::lock_guard lock(mutex());
    if (!stream) return cudaErrorInvalidResourceHandle;  // the backend has no business on the default stream
    if (stream->device != current_device)
        return told("work for a stream of device " + std::to_string(stream->device) + " while the thread's device is " +
                    std::to_string(current_device)),
               cudaErrorInvalidResourceHandle;
    if (stream->failed != cudaSuccess) return stream->failed;
    if (stream->recording) stream->recording->operations.push_back(std::move(op));
    else stream->queued.push_back({std::move(op), host_clock()});
    moved().notify_all();
    return cudaSuccess;
}

namespace {

using Lock = std::unique_lock<std::recursive_mutex>;

constexpr size_t kClocks = 64;

// What was done before the event was recorded for the place-th time; null: no stream has come to that.
const Clock* clock_of(const Marks& marks, int64_t place) {
    static const Clock nothing;
    if (place <= marks.forgotten) return &nothing;
    for (const auto& [recorded, clock] : marks.reached)
        if (recorded == place) return &clock;
    return nullptr;
}

void reach(Marks& marks, int64_t place, const Clock& known) {
    marks.reached.emplace_back(place, known);
    if (marks.reached.size() <= kClocks) return;
    marks.forgotten = std::max(marks.forgotten, marks.reached.front().first);
    marks.reached.pop_front();
}

bool stands_still(const EmuStream& stream) { return stream.queued.empty() || stream.failed != cudaSuccess; }

// Other threads may have to bring what it waits for.
template <class F>
void wait_until(Lock& lock, EmuStream& stream, F over) {
    for (;;) {
        drive(stream);
        if (over() || stands_still(stream)) return;
        moved().wait_for(lock, std::chrono::milliseconds(1));
    }
}

// Frees wait for what runs. A wait without an end is a fault of the backend's, which must not hang the test.
void finish_device(Lock& lock, int device) {
    const auto begin = std::chrono::steady_clock::now();
    for (;;) {
        bool all = true;
        for (EmuStream* stream : std::vector<EmuStream*>(streams().begin(), streams().end()))
            if (stream->device == device)
                drive(*stream), host_waited_for(stream->order.known), all &= stands_still(*stream) || stream->runs;
        if (all) return;
        if (std::chrono::steady_clock::now() - begin > std::chrono::seconds(20))
            return told("memory is freed while work waits for other devices in vain");
        moved().wait_for(lock, std::chrono::milliseconds(1));
    }
}

}  // namespace
}  // namespace emu

using namespace emu;

#define CALL(failure)       \
    Lock emu_lock(mutex()); \
    if (fails(__func__)) return answer(failure)

extern "C" {
void emu_fail_at(int64_t call) { emu_fail_on(-1, call); }
void emu_fail_on(int device, int64_t call) {
    std::lock_guard lock(mutex());
    State& s = state();
    s.calls = 0, s.fail_at = call, s.fail_device = device, s.failed_call = "";
}
int64_t emu_calls() { return state().calls; }
const char* emu_failed_call() { return state().failed_call; }
size_t emu_live_allocations() { return static_cast<size_t>(state().live); }
int64_t emu_beside() { return operations_beside(); }
int64_t emu_launches() { return state().launches; }
const char* emu_first_fault() { return state().first_fault.c_str(); }
void emu_set_architecture(int architecture) { state().architecture = architecture; }
void emu_forget_faults() { state().first_fault.clear(); }
}

const char* cudaGetErrorString(cudaError_t error) {
    switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorLaunchFailure: return "unspecified launch failure";
    case cudaErrorInvalidResourceHandle: return "invalid resource handle";
    case cudaErrorNotReady: return "device not ready";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    default: return "unknown error";
    }
}
cudaError_t cudaGetLastError() { return std::exchange(last, cudaSuccess); }
cudaError_t cudaGetDeviceCount(int* count) {
    CALL(cudaErrorNoDevice);
    *count = kDevices;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
    Lock lock(mutex());
    if (fails(__func__, device)) return answer(cudaErrorUnknown);
    if (device < 0 || device >= kDevices) return answer(cudaErrorInvalidValue);
    current_device = device;
    return cudaSuccess;
}
cudaError_t cudaDeviceCanAccessPeer(int* can, int device, int peer) {
    CALL(cudaErrorUnknown);
    *can = device != peer;
    return cudaSuccess;
}
cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned) {
    CALL(cudaErrorUnknown);
    return answer(peer != current_device && peer >= 0 && peer < kDevices ? cudaSuccess : cudaErrorInvalidValue);
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int device) {
    CALL(cudaErrorUnknown);
    std::memset(p, 0, sizeof *p);
    std::snprintf(p->name, sizeof p->name, "emulated device %d", device);
    p->totalGlobalMem = kDeviceBytes;
    p->major = state().architecture / 10, p->minor = state().architecture % 10, p->multiProcessorCount = 4, p->pciBusID = 0x10 + device;
    return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) { return *version = 13000, cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* version) { return *version = 13000, cudaSuccess; }
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
    CALL(cudaErrorUnknown);
    *total = kDeviceBytes, *free = kDeviceBytes - Memory::get().live_bytes(current_device);
    return cudaSuccess;
}
cudaError_t cudaMalloc(void** out, size_t bytes) {
    CALL(cudaErrorMemoryAllocation);
    *out = Memory::get().allocate(bytes, current_device);
    if (!*out) return answer(cudaErrorMemoryAllocation);
    count_live(1);
    return cudaSuccess;
}
cudaError_t cudaFree(void* memory) {
    Lock lock(mutex());  // what frees can't be made to fail: nobody could do anything about it
    if (!memory) return cudaSuccess;
    if (Memory::get().holds(memory)) finish_device(lock, Memory::get().device_of(memory));
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
    Lock lock(mutex());
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
        if (memory.holds(from) != from_device || memory.holds(to) != to_device)
            return "cudaMemcpyAsync: the direction does not fit the addresses";
        if (std::string why = from_device ? memory.refuses(from, bytes, true) : std::string(); !why.empty())
            return "cudaMemcpyAsync: the source " + why;
        if (std::string why = to_device ? memory.refuses(to, bytes, false) : std::string(); !why.empty())
            return "cudaMemcpyAsync: the target " + why;
        std::memmove(to_device ? memory.inside(to) : to, from_device ? memory.inside(from) : from, bytes);
        if (to_device) memory.mark(to, bytes, ByteState::written);
        return {};
    }));
}

cudaError_t cudaMemcpyPeerAsync(void* to, int to_device, const void* from, int from_device, size_t bytes, cudaStream_t stream) {
    CALL(cudaErrorUnknown);
    return answer(queue(stream, [=]() -> std::string {
        Memory& memory = Memory::get();
        if (std::string why = memory.refuses(from, bytes, true, from_device); !why.empty()) return "cudaMemcpyPeerAsync: the source " + why;
        if (std::string why = memory.refuses(to, bytes, false, to_device); !why.empty()) return "cudaMemcpyPeerAsync: the target " + why;
        std::memmove(memory.inside(to), memory.inside(from), bytes);
        memory.mark(to, bytes, ByteState::written);
        return {};
    }));
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
    CALL(cudaErrorUnknown);
    streams().insert(*stream = new EmuStream);
    (*stream)->device = current_device;
    count_live(1);
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    Lock lock(mutex());
    drive(*stream);
    if (!stands_still(*stream)) told("a stream is destroyed whose work waits for other devices");
    streams().erase(stream);
    delete stream;
    count_live(-1);
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    CALL(cudaErrorUnknown);
    if (stream->recording) return answer(cudaErrorStreamCaptureUnsupported);
    wait_until(emu_lock, *stream, [] { return false; });
    host_waited_for(stream->order.known);
    return answer(stream->failed);
}
// Looks can't be made to fail: how many there are depends on how fast threads are.
cudaError_t cudaStreamQuery(cudaStream_t stream) {
    Lock lock(mutex());
    if (stream->recording) return answer(cudaErrorStreamCaptureUnsupported);
    drive(*stream);
    if (!stands_still(*stream)) return cudaErrorNotReady;
    host_waited_for(stream->order.known);
    return answer(stream->failed);
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    CALL(cudaErrorUnknown);
    if (stream->recording) return told("a recording waits for an event from outside"), answer(cudaErrorStreamCaptureUnsupported);
    return answer(
        queue(stream, [stream, marks = event->marks, from = event->marks->stream, until = event->marks->recorded]() -> std::string {
            if (until == 0) return {};
            const auto passed = [&] {
                const Clock* clock = clock_of(*marks, until);
                if (clock) learn(stream->order.known, *clock);
                return clock != nullptr;
            };
            if (passed()) return {};
            if (!streams().count(from)) return "a wait for an event that can't come";
            while (step(*from))
                if (passed()) return {};
            return stands_still(*from) && !from->runs ? "a wait for an event that can't come" : kNotYet;
        }));
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
    CALL(cudaErrorUnknown);
    *event = new EmuEvent;
    count_live(1);
    return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
    Lock lock(mutex());
    delete event;
    count_live(-1);
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    CALL(cudaErrorUnknown);
    const auto& marks = event->marks;
    marks->stream = stream;
    const cudaError_t error = queue(stream, [stream, marks, place = marks->recorded + 1]() -> std::string {
        return reach(*marks, place, stream->order.known), std::string();
    });
    if (error == cudaSuccess) ++marks->recorded;
    return answer(error);
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    CALL(cudaErrorUnknown);
    const auto& marks = event->marks;
    if (!marks->stream) return cudaSuccess;
    const auto passed = [&] { return clock_of(*marks, marks->recorded) != nullptr; };
    if (!passed()) wait_until(emu_lock, *marks->stream, passed);
    if (!passed()) return answer(marks->stream->failed);
    host_waited_for(*clock_of(*marks, marks->recorded));
    return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
    Lock lock(mutex());
    const auto& marks = event->marks;
    if (!marks->stream) return cudaSuccess;
    const auto passed = [&] { return clock_of(*marks, marks->recorded) != nullptr; };
    while (!passed() && step(*marks->stream)) {}
    if (passed()) return host_waited_for(*clock_of(*marks, marks->recorded)), cudaSuccess;
    return marks->stream->failed != cudaSuccess ? answer(marks->stream->failed) : cudaErrorNotReady;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
    CALL(cudaErrorUnknown);
    if (stream->recording) return answer(cudaErrorStreamCaptureUnsupported);
    stream->recording = new EmuGraph;
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
    Lock lock(mutex());
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
    Lock lock(mutex());
    if (fails("cudaFuncSetAttribute")) return answer(cudaErrorUnknown);
    state().dynamic_shared[kernel] = value;
    return answer(value <= (227 << 10) ? cudaSuccess : cudaErrorInvalidValue);
}
cudaError_t emu_launch(cudaStream_t stream, dim3 grid, dim3 block, size_t shared, const void* kernel, std::function<void()> body) {
    Lock lock(mutex());
    if (fails("a kernel's launch")) return answer(cudaErrorUnknown);
    if (shared > (48u << 10) && static_cast<int>(shared) > state().dynamic_shared[kernel])
        return told("a launch with more dynamic shared memory than cudaFuncSetAttribute allowed"), answer(cudaErrorInvalidValue);
    return answer(queue(stream, [=, body = std::move(body)] {
        count_launch();
        return run_grid(grid, block, shared, body);
    }));
}
