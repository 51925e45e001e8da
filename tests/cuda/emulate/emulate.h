// Kernel code on the host: a block's threads are fibers that run until a barrier or a shuffle; every access to memory is checked. What a
// GPU would not tell is told: access out of bounds, reads of what was never written, races between threads (of one block without a barrier
// between, of two blocks at all), barriers that not all threads reach.
#pragma once

#include <algorithm>
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
#define DS_CALLED inline
#define __grid_constant__

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
extern Now now;  // one grid runs at a time

using Place = std::source_location;
[[noreturn]] void fault(std::string what, const Place& place);  // ends the launch
void block_barrier(const Place& place);
// Waits for the warp; what[lane] are then the 8 bytes that each lane brought.
const uint64_t* warp_exchange(uint64_t mine, const Place& place);
// At a multiple of `aligned`, and not of more: what relies on more is found.
void* shared_array(const void* key, size_t bytes, size_t element, size_t aligned, Touch** touches, bool** written);
struct Dynamic {
    char* data;
    size_t bytes;
};
Dynamic dynamic_memory();
Touch* dynamic_touches();
int64_t most_blocks();  // of kernels that go on by gridDim: DSRT_EMULATED_BLOCKS, or any number
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
template <class T>
T from_f32(float x) {
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
Shared<T> shared_memory(const void* key, int count, size_t aligned = alignof(T)) {
    emu::Touch* touches = nullptr;
    bool* written = nullptr;
    auto* data = static_cast<T*>(emu::shared_array(key, static_cast<size_t>(count) * sizeof(T), sizeof(T), aligned, &touches, &written));
    return {data, count, touches, written};
}
#define DS_SHARED(type, name, count)  \
    static const char name##_key = 0; \
    const ::ds::cuda::Shared<type> name = ::ds::cuda::shared_memory<type>(&name##_key, count)
#define DS_SHARED_TILE(type, name, count) \
    static const char name##_key = 0;     \
    const ::ds::cuda::Shared<type> name = ::ds::cuda::shared_memory<type>(&name##_key, count, ::ds::cuda::kTileAlign)

template <class T>
Shared<T> dynamic_shared(int64_t offset, int count, const Place& place = Place::current()) {
    const emu::Dynamic all = emu::dynamic_memory();
    if (offset < 0 || static_cast<size_t>(offset) + static_cast<size_t>(count) * sizeof(T) > all.bytes)
        emu::fault("asks for more dynamic shared memory than the launch gave", place);
    if (offset % static_cast<int64_t>(sizeof(T)) != 0) emu::fault("misaligned dynamic shared memory", place);
    return {reinterpret_cast<T*>(all.data + offset), count, emu::dynamic_touches() + offset, emu::dynamic_written() + offset};
}

inline void barrier(const Place& place = Place::current()) { emu::block_barrier(place); }
template <class T>
T shuffle_from(T x, int lane, const Place& place = Place::current()) {
    static_assert(sizeof(T) <= 8);
    uint64_t bits = 0;
    std::memcpy(&bits, &x, sizeof x);
    const uint64_t* all = emu::warp_exchange(bits, place);
    if (lane < 0 || lane > 31) emu::fault("a shuffle from lane " + std::to_string(lane), place);
    std::memcpy(&x, &all[lane], sizeof x);
    return x;
}
template <class T>
T shuffle_xor(T x, int distance, const Place& place = Place::current()) {
    return shuffle_from(x, static_cast<int>(threadIdx.x % 32) ^ distance, place);
}
inline float fast_exp(float x) { return expf(x); }

// A warp's matrices: its first lane does the work, all lanes come.
struct WarpMatrix {
    float m[256];
    template <class M>
    void read(const M& memory, int at, int stride, bool transposed, const Place& place) {
        together(place);
        if (threadIdx.x % 32 != 0) return;
        check_layout(memory, at, stride, place);
        for (int r = 0; r < 16; ++r)
            for (int c = 0; c < 16; ++c) m[r * 16 + c] = to_f32(memory.get(transposed ? at + c * stride + r : at + r * stride + c, place));
    }
    template <class M>
    static void check_layout(const M& memory, int at, int stride, const Place& place) {
        constexpr int element = sizeof(*memory.data);
        if (reinterpret_cast<uintptr_t>(memory.data + at) % 32 != 0 || stride * element % 16 != 0)
            emu::fault("a matrix for tensor cores at element " + std::to_string(at) + " with rows of " + std::to_string(stride), place);
    }
    static void together(const Place& place) { emu::warp_exchange(0, place); }
};
template <class T>
struct LeftMatrix : WarpMatrix {
    void load(Shared<T> memory, int at, int stride, const Place& place = Place::current()) { read(memory, at, stride, false, place); }
};
template <class T>
struct RightMatrix : LeftMatrix<T> {};
template <class T>
struct TransposedMatrix : WarpMatrix {
    void load(Shared<T> memory, int at, int stride, const Place& place = Place::current()) { read(memory, at, stride, true, place); }
};
template <class T>
struct LeftTransposed : TransposedMatrix<T> {};
struct SumMatrix : WarpMatrix {
    void clear() { std::fill_n(m, 256, 0.0f); }
    void load(Shared<float> memory, int at, int stride, const Place& place = Place::current()) { read(memory, at, stride, false, place); }
    void store(Shared<float> memory, int at, int stride, const Place& place = Place::current()) const {
        together(place);
        if (threadIdx.x % 32 != 0) return;
        check_layout(memory, at, stride, place);
        for (int r = 0; r < 16; ++r)
            for (int c = 0; c < 16; ++c) memory.put(at + r * stride + c, m[r * 16 + c], place);
    }
    void add_product(const WarpMatrix& a, const WarpMatrix& b, const Place& place = Place::current()) {
        together(place);
        if (threadIdx.x % 32 != 0) return;
        for (int r = 0; r < 16; ++r)
            for (int l = 0; l < 16; ++l)
                for (int c = 0; c < 16; ++c) m[r * 16 + c] += a.m[r * 16 + l] * b.m[l * 16 + c];
    }
};

template <class T>
void copy8(Shared<T> to, int at, Span<T> from, int64_t i, const Place& place = Place::current()) {
    if (reinterpret_cast<uintptr_t>(from.data + i) % 16 != 0 || reinterpret_cast<uintptr_t>(to.data + at) % 16 != 0)
        emu::fault("a copy of 16 bytes that are not aligned", place);
    for (int k = 0; k < 8; ++k) to.put(at + k, from.get(i + k, place), place);
}

struct Four {
    float x[4];
};
// Each element is checked as by get and put, and that all begin at a multiple of what is moved.
template <class T>
Four load4(Span<T> s, int64_t i, const Place& place = Place::current()) {
    if (reinterpret_cast<uintptr_t>(s.data + i) % (4 * sizeof(T)) != 0) emu::fault("four elements that are not aligned", place);
    Four v;
    for (int k = 0; k < 4; ++k) v.x[k] = to_f32(s.get(i + k, place));
    return v;
}
template <class T>
void store4(Span<T> s, int64_t i, const Four& v, const Place& place = Place::current()) {
    if (reinterpret_cast<uintptr_t>(s.data + i) % (4 * sizeof(T)) != 0) emu::fault("four elements that are not aligned", place);
    for (int k = 0; k < 4; ++k) s.put(i + k, from_f32<T>(v.x[k]), place);
}

// Runs when the stream gets there. Arguments are copied now.
template <class... P, class... A>
void launch(Queue& queue, dim3 grid, dim3 block, size_t shared, void (*kernel)(P...), A&&... args) {
    if (queue.failed()) return;
    queue.note(emu_launch(queue.stream, grid, block, shared, reinterpret_cast<const void*>(kernel),
                          [kernel, ... copies = P(args)] { kernel(copies...); }),
               "launching a kernel");
}

}  // namespace ds::cuda
