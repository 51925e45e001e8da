// Kernel code on the host: a block's threads are fibers that run until a barrier or a shuffle; every access to memory is checked. What a GPU would not
// tell is told: access out of bounds, reads of what was never written, races between threads (of one block without a barrier between, of two blocks
// at all), barriers that not all threads reach.
#pragma once

#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <source_location>
#include <type_traits>

#include "base/dtype.h"
#include "kernels/cuda/queue.h"
#include "tests/cuda/emulate/memory.h"

#define __global__
#define __device__
#define __restrict__
#define __launch_bounds__(...)
#define DS_DEVICE inline

namespace emu {

struct Index {
    unsigned x = 0, y = 0, z = 0;
};

// Of the thread that runs now.
struct Now {
    Index thread, block;
    dim3 block_size, grid_size;
    uint32_t launch = 0, id = 0, block_threads = 0;  // id: in the grid, + 1
    uint16_t epoch = 0;                              // barriers that its block has passed
};
extern thread_local Now now;

using Place = std::source_location;
[[noreturn]] void fault(std::string what, const Place& place);  // ends the launch
void block_barrier(const Place& place);
// Waits for the warp; what[lane] are then the 8 bytes that each lane brought.
const uint64_t* warp_exchange(uint64_t mine, const Place& place);
void* shared_array(const void* key, size_t bytes, size_t element, Touch** touches, bool** written);
struct Dynamic { char* data; size_t bytes; };
Dynamic dynamic_memory();
Touch* dynamic_touches();
bool* dynamic_written();

void check_touch(Touch& touch, bool writes, const char* memory, const Place& place);
void check_global(const void* at, size_t bytes, bool writes, const Place& place);

}  // namespace emu

#define threadIdx (::emu::now.thread)
#define blockIdx (::emu::now.block)
#define blockDim (::emu::now.block_size)
#define gridDim (::emu::now.grid_size)

namespace ds::cuda {

using Place = emu::Place;
using bf16 = ds::BF16;
using f16 = ds::F16;
using ds::to_f32;
inline float to_f32(float x) { return x; }
template <class T> T from_f32(float x) {
    if constexpr (std::is_same_v<T, float>) return x;
    else if constexpr (std::is_same_v<T, bf16>) return to_bf16(x);
    else return to_f16(x);
}

template <class T>
struct Span {
    T* data;
    int64_t n;
    T get(int64_t i, const Place& place = Place::current()) const {
        inside(i, place);
        emu::check_global(data + i, sizeof(T), false, place);
        std::remove_const_t<T> x;
        std::memcpy(&x, emu::Memory::get().inside(data + i), sizeof x);
        return x;
    }
    void put(int64_t i, T x, const Place& place = Place::current()) const {
        inside(i, place);
        emu::check_global(data + i, sizeof(T), true, place);
        std::memcpy(emu::Memory::get().inside(data + i), &x, sizeof x);
    }
    Span from(int64_t i) const { return {data + i, n - i}; }

private:
    void inside(int64_t i, const Place& place) const {
        if (i < 0 || i >= n) emu::fault("element " + std::to_string(i) + " of " + std::to_string(n) + " of global memory", place);
    }
};

template <class T>
struct Shared {
    T* data;
    int n;
    emu::Touch* touches;  // of each element
    bool* written;

    T get(int i, const Place& place = Place::current()) const {
        inside(i, place);
        if (!written[i]) emu::fault("reads element " + std::to_string(i) + " of shared memory, which was never written", place);
        emu::check_touch(touches[i], false, "shared", place);
        return data[i];
    }
    void put(int i, T x, const Place& place = Place::current()) const {
        inside(i, place);
        emu::check_touch(touches[i], true, "shared", place);
        written[i] = true;
        data[i] = x;
    }
    Shared from(int i) const { return {data + i, n - i, touches + i, written + i}; }

private:
    void inside(int i, const Place& place) const {
        if (i < 0 || i >= n) emu::fault("element " + std::to_string(i) + " of " + std::to_string(n) + " of shared memory", place);
    }
};

template <class T>
Shared<T> shared_memory(const void* key, int count) {
    emu::Touch* touches = nullptr;
    bool* written = nullptr;
    auto* data = static_cast<T*>(emu::shared_array(key, static_cast<size_t>(count) * sizeof(T), sizeof(T), &touches, &written));
    return {data, count, touches, written};
}
#define DS_SHARED(type, name, count)       \
    static const char name##_key = 0;      \
    const ::ds::cuda::Shared<type> name = ::ds::cuda::shared_memory<type>(&name##_key, count)

template <class T>
Shared<T> dynamic_shared(int64_t offset, int count, const Place& place = Place::current()) {
    const emu::Dynamic all = emu::dynamic_memory();
    if (offset < 0 || static_cast<size_t>(offset) + static_cast<size_t>(count) * sizeof(T) > all.bytes) emu::fault("asks for more dynamic shared memory than the launch gave", place);
    if (offset % static_cast<int64_t>(sizeof(T)) != 0) emu::fault("misaligned dynamic shared memory", place);
    return {reinterpret_cast<T*>(all.data + offset), count, emu::dynamic_touches() + offset, emu::dynamic_written() + offset};
}

inline void barrier(const Place& place = Place::current()) { emu::block_barrier(place); }
template <class T>
T shuffle_xor(T x, int distance, const Place& place = Place::current()) {
    static_assert(sizeof(T) <= 8);
    uint64_t bits = 0;
    std::memcpy(&bits, &x, sizeof x);
    const uint64_t* all = emu::warp_exchange(bits, place);
    std::memcpy(&x, &all[(threadIdx.x % 32) ^ static_cast<unsigned>(distance)], sizeof x);
    return x;
}

// Runs when the stream gets there. Arguments are copied now.
template <class... P, class... A>
void launch(Queue& queue, dim3 grid, dim3 block, size_t shared, void (*kernel)(P...), A&&... args) {
    if (queue.failed()) return;
    queue.note(emu_launch(queue.stream, grid, block, shared, reinterpret_cast<const void*>(kernel), [kernel, ... copies = P(args)] { kernel(copies...); }), "launching a kernel");
}

}  // namespace ds::cuda
