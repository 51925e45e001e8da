// Runs a grid block by block, each block's threads as fibers.
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include <sys/mman.h>

#include "tests/cuda/emulate/api.h"
#include "kernels/cuda/device.cuh"
#include "tests/cuda/emulate/stream.h"

// Saves this stack's registers, goes on with another's. System V, x86-64: what a callee must keep.
extern "C" void emu_switch(void** save, void* load);
asm(R"(
.text
.globl emu_switch
.type emu_switch, @function
emu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emu_switch, .-emu_switch
)");

namespace emu {

Now now;

namespace {

constexpr size_t kStack = 64 << 10;
constexpr int kMostThreads = 1024;
enum class Wait { runs, block, warp, done };

struct Array {
    std::unique_ptr<char[]> memory;
    char* data = nullptr;  // in it
    std::unique_ptr<Touch[]> touches;
    std::unique_ptr<bool[]> written;
    size_t bytes = 0, count = 0;
};

struct Fiber {
    void* sp = nullptr;
    Wait wait = Wait::runs;
    Place place;
    Now now;
    int exchanges = 0;
};

struct Grid {
    const std::function<void()>* body = nullptr;
    std::vector<Fiber> fibers = std::vector<Fiber>(kMostThreads);
    char* stacks = nullptr;
    void* scheduler = nullptr;
    Fiber* current = nullptr;
    std::map<const void*, Array> arrays;
    std::vector<char> dynamic_room;
    char* dynamic = nullptr;  // in it, as aligned as on a device
    size_t dynamic_bytes = 0;
    std::vector<Touch> dynamic_touches;
    std::unique_ptr<bool[]> dynamic_written;
    uint64_t exchange[2][kMostThreads] = {};
    std::string failure;
    size_t shared_bytes = 0;
};
Grid* grid = nullptr;

void run_fiber() {
    (*grid->body)();
    grid->current->wait = Wait::done;
    emu_switch(&grid->current->sp, grid->scheduler);
}

void start(Fiber& f, char* stack_end) {
    auto* sp = reinterpret_cast<uint64_t*>(stack_end);
    *--sp = 0;  // run_fiber never returns; keeps the stack aligned as after a call
    *--sp = reinterpret_cast<uint64_t>(&run_fiber);
    for (int i = 0; i < 6; ++i) *--sp = 0;
    f.sp = sp;
    f.wait = Wait::runs;
    f.exchanges = 0;
}

void suspend(Wait wait, const Place& place) {
    Fiber& f = *grid->current;
    f.wait = wait;
    f.place = place;
    f.now = now;
    emu_switch(&f.sp, grid->scheduler);
}

std::string told(const std::string& what, const Place& place) {
    return std::string(place.file_name()) + ":" + std::to_string(place.line()) + ": block " + std::to_string(now.block.x) + "," +
           std::to_string(now.block.y) + "," + std::to_string(now.block.z) + " thread " + std::to_string(now.thread.x) + ": " + what;
}

bool same(const Place& a, const Place& b) {
    return a.line() == b.line() && a.column() == b.column() && std::strcmp(a.file_name(), b.file_name()) == 0;
}

// All of [begin, end) wait for the same thing at the same place: they go on. False: not yet.
bool release(int begin, int end, Wait what, bool block) {
    const Fiber& first = grid->fibers[static_cast<size_t>(begin)];
    for (int i = begin; i < end; ++i) {
        Fiber& f = grid->fibers[static_cast<size_t>(i)];
        if (f.wait == what && same(f.place, first.place)) continue;
        return false;
    }
    for (int i = begin; i < end; ++i) {
        Fiber& f = grid->fibers[static_cast<size_t>(i)];
        f.wait = Wait::runs;
        if (block) ++f.now.epoch;
    }
    return true;
}

void run_block(const Now& here, int threads) {
    for (auto& [key, a] : grid->arrays) std::fill_n(a.written.get(), a.count, false), std::fill_n(a.touches.get(), a.count, Touch{});
    std::fill(grid->dynamic_touches.begin(), grid->dynamic_touches.end(), Touch{});
    if (grid->dynamic_written) std::fill_n(grid->dynamic_written.get(), grid->dynamic_bytes, false);
    for (int i = 0; i < threads; ++i) {
        Fiber& f = grid->fibers[static_cast<size_t>(i)];
        start(f, grid->stacks + (static_cast<size_t>(i) + 1) * kStack);
        f.now = here;
        const auto t = static_cast<unsigned>(i);
        f.now.thread = {t % here.block_size.x, t / here.block_size.x % here.block_size.y, t / (here.block_size.x * here.block_size.y)};
        f.now.id = here.id + t;
    }
    for (;;) {
        bool ran = false;
        int done = 0;
        for (int i = 0; i < threads && grid->failure.empty(); ++i) {
            Fiber& f = grid->fibers[static_cast<size_t>(i)];
            done += f.wait == Wait::done;
            if (f.wait != Wait::runs) continue;
            ran = true;
            grid->current = &f;
            now = f.now;
            emu_switch(&grid->scheduler, f.sp);
        }
        if (!grid->failure.empty() || done == threads) return;
        bool released = false;
        for (int w = 0; w < threads; w += 32)
            released |= grid->fibers[static_cast<size_t>(w)].wait == Wait::warp && release(w, w + 32, Wait::warp, false);
        if (!released) released = grid->fibers[0].wait == Wait::block && release(0, threads, Wait::block, true);
        if (!ran && !released) {
            for (int i = 0; i < threads; ++i) {
                const Fiber& f = grid->fibers[static_cast<size_t>(i)];
                if (f.wait != Wait::block && f.wait != Wait::warp) continue;
                now = f.now;
                grid->failure = told(f.wait == Wait::block ? "waits at a barrier that not all threads of the block reach"
                                                           : "waits for a shuffle that not all threads of the warp reach",
                                     f.place);
                return;
            }
        }
    }
}

}  // namespace

void fault(std::string what, const Place& place) {
    grid->failure = told(what, place);
    for (;;) emu_switch(&grid->current->sp, grid->scheduler);
}

void block_barrier(const Place& place) { suspend(Wait::block, place); }

const uint64_t* warp_exchange(uint64_t mine, const Place& place) {
    Fiber& f = *grid->current;
    const int side = f.exchanges++ & 1;
    const uint32_t thread = now.thread.x + now.block_size.x * (now.thread.y + now.block_size.y * now.thread.z);
    grid->exchange[side][thread] = mine;
    suspend(Wait::warp, place);
    return &grid->exchange[side][thread / 32 * 32];
}

void* shared_array(const void* key, size_t bytes, size_t element, size_t aligned, Touch** touches, bool** written) {
    Array& a = grid->arrays[key];
    if (!a.data) {
        a.bytes = bytes;
        a.count = bytes / element;
        a.memory = std::make_unique<char[]>(bytes + 4 * aligned);
        const size_t askew = reinterpret_cast<uintptr_t>(a.memory.get()) % (2 * aligned);
        a.data = a.memory.get() + (3 * aligned - askew);
        a.touches = std::make_unique<Touch[]>(a.count);
        a.written = std::make_unique<bool[]>(a.count);
        grid->shared_bytes += bytes;
    }
    *touches = a.touches.get();
    *written = a.written.get();
    return a.data;
}

Dynamic dynamic_memory() { return {grid->dynamic, grid->dynamic_bytes}; }
int64_t most_blocks() {
    static const char* given = std::getenv("DSRT_EMULATED_BLOCKS");
    return given ? std::atoll(given) : INT64_MAX;
}
Touch* dynamic_touches() { return grid->dynamic_touches.data(); }
bool* dynamic_written() { return grid->dynamic_written.get(); }

void check_touch(Touch& touch, bool writes, const char* memory, const Place& place) {
    if (touch.launch != now.launch) touch = {now.launch, 0, 0, 0, 0};
    const auto block_of = [](uint32_t id) { return (id - 1) / now.block_threads; };
    const uint32_t mine = block_of(now.id);
    if (touch.writer && touch.writer != now.id && (block_of(touch.writer) != mine || touch.write_epoch == now.epoch))
        fault(std::string(writes ? "writes" : "reads") + " " + memory + " memory that thread " +
                  std::to_string((touch.writer - 1) % now.block_threads) + (block_of(touch.writer) != mine ? " of another block" : "") +
                  " wrote, with no barrier between",
              place);
    if (!writes) {
        if (touch.reader == kManyBlocks) return;
        if (touch.reader && touch.reader != kMany && block_of(touch.reader) != mine) touch.reader = kManyBlocks;
        else if (touch.reader && touch.read_epoch == now.epoch && touch.reader != now.id) touch.reader = kMany;
        else touch.reader = now.id;
        touch.read_epoch = now.epoch;
        return;
    }
    const bool other = touch.reader && touch.reader != now.id;
    if (other &&
        (touch.reader == kManyBlocks || (touch.reader != kMany && block_of(touch.reader) != mine) || touch.read_epoch == now.epoch))
        fault(std::string("writes ") + memory + " memory that other threads read, with no barrier between", place);
    touch.writer = now.id;
    touch.write_epoch = now.epoch;
}

void check_global(const void* at, size_t bytes, bool writes, const Place& place) {
    Memory& memory = Memory::get();
    if (!memory.holds(at)) fault("is not device memory", place);
    if (const int device = running_device(); device >= 0 && memory.device_of(at) != device)
        fault("memory of device " + std::to_string(memory.device_of(at)) + " used on device " + std::to_string(device), place);
    if (reinterpret_cast<uintptr_t>(at) % bytes != 0) fault("misaligned access", place);
    ByteState* s = memory.state(at);
    if (s[0] == ByteState::free) fault("global memory that is not allocated, or was freed", place);
    if (!writes && s[0] == ByteState::fresh) fault("reads global memory that was never written", place);
    if (std::string why = touch(*memory.touched(at), writes, doing()); !why.empty()) fault("global memory " + why, place);
    if (bytes > 1) check_touch(*memory.touch(at), writes, "global", place);  // threads may share the two bytes of a mark
    if (writes) std::memset(s, static_cast<int>(ByteState::written), bytes);
}

// "" or what went wrong.
std::string run_grid(dim3 blocks, dim3 threads, size_t shared, const std::function<void()>& body) {
    static std::mutex one_at_a_time;
    static uint32_t launches = 0;
    std::lock_guard lock(one_at_a_time);
    static Grid& g = *new Grid;
    grid = &g;
    const uint64_t a_block = uint64_t{threads.x} * threads.y * threads.z, all = uint64_t{blocks.x} * blocks.y * blocks.z;
    if (a_block == 0 || a_block > kMostThreads || a_block % 32 != 0) return "a block of " + std::to_string(a_block) + " threads";
    if (all == 0 || blocks.x > INT32_MAX || blocks.y > 65535 || blocks.z > 65535)
        return "a grid of " + std::to_string(blocks.x) + "," + std::to_string(blocks.y) + "," + std::to_string(blocks.z) + " blocks";
    if (shared > (227u << 10)) return "dynamic shared memory of " + std::to_string(shared) + " bytes";
    if (!g.stacks)
        g.stacks = static_cast<char*>(
            mmap(nullptr, kStack * kMostThreads, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    g.body = &body;
    g.failure.clear();
    g.arrays.clear();
    g.shared_bytes = 0;
    g.dynamic_room.assign(shared + 1024, static_cast<char>(0xFF));
    g.dynamic = g.dynamic_room.data() + (1024 - reinterpret_cast<uintptr_t>(g.dynamic_room.data()) % 1024);
    g.dynamic_bytes = shared;
    g.dynamic_touches.assign(shared, {});
    g.dynamic_written = shared ? std::make_unique<bool[]>(shared) : nullptr;
    Now here;
    here.block_size = threads;
    here.grid_size = blocks;
    here.launch = ++launches;
    here.block_threads = static_cast<uint32_t>(a_block);
    for (uint64_t b = 0; b < all && g.failure.empty(); ++b) {
        here.block = {static_cast<unsigned>(b % blocks.x), static_cast<unsigned>(b / blocks.x % blocks.y),
                      static_cast<unsigned>(b / blocks.x / blocks.y)};
        here.id = static_cast<uint32_t>(b * a_block) + 1;
        run_block(here, static_cast<int>(a_block));
    }
    if (g.failure.empty() && g.shared_bytes > (48u << 10))
        g.failure = "static shared memory of " + std::to_string(g.shared_bytes) + " bytes; 49152 is the most";
    return g.failure;
}

}  // namespace emu
