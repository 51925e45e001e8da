// The double itself: kernels with one mistake each, which it must find, and the same kernels without the mistake, which it must let pass.
#include <doctest/doctest.h>

#include <vector>

#include "kernels/cuda/device.cuh"
#include "tests/cuda/emulate/control.h"

using namespace ds::cuda;

namespace {

struct Bench {
    Queue queue;
    std::vector<void*> memory;

    Bench() {
        emu_forget_faults();
        emu_fail_at(0);
        REQUIRE(cudaStreamCreateWithFlags(&queue.stream, cudaStreamNonBlocking) == cudaSuccess);
    }
    ~Bench() {
        for (void* m : memory) cudaFree(m);
        cudaStreamDestroy(queue.stream);
    }
    template <class T>
    Span<T> floats(int64_t n, bool written = true) {
        void* p = nullptr;
        REQUIRE(cudaMalloc(&p, static_cast<size_t>(n) * sizeof(T)) == cudaSuccess);
        memory.push_back(p);
        if (written) cudaMemsetAsync(p, 0, static_cast<size_t>(n) * sizeof(T), queue.stream);
        return {static_cast<T*>(p), n};
    }
    std::string fault() {
        cudaStreamSynchronize(queue.stream);
        return emu_first_fault();
    }
    bool finds(const char* what) {
        const std::string found = fault();
        INFO(found);
        return found.find(what) != std::string::npos;
    }
};

void past_the_end(Span<float> x, int over) { x.put(int64_t{blockIdx.x} * blockDim.x + threadIdx.x + over, 1.0f); }
void copy(Span<float> from, Span<float> to) { to.put(threadIdx.x, from.get(threadIdx.x)); }
void neighbours(Span<float> out, bool waits) {
    DS_SHARED(float, memory, 64);
    memory.put(threadIdx.x, static_cast<float>(threadIdx.x));
    if (waits) barrier();
    out.put(threadIdx.x, memory.get((threadIdx.x + 33) % 64));
}
void reuse(Span<float> out, bool waits) {  // the second write may come before another thread's read
    DS_SHARED(float, memory, 64);
    float sum = 0;
    for (int round = 0; round < 2; ++round) {
        memory.put(threadIdx.x, 1.0f);
        barrier();
        sum += memory.get((threadIdx.x + 1) % 64);
        if (waits) barrier();
    }
    out.put(threadIdx.x, sum);
}
void shared_unwritten(Span<float> out) {
    DS_SHARED(float, memory, 64);
    if (threadIdx.x < 32) memory.put(threadIdx.x, 1.0f);
    barrier();
    out.put(threadIdx.x, memory.get(threadIdx.x));
}
void shared_past_the_end(Span<float> out, int size) {
    DS_SHARED(float, memory, 64);
    memory.put(threadIdx.x + size, 1.0f);
    out.put(threadIdx.x, 0.0f);
}
void same_place(Span<float> out, bool apart) { out.put(apart ? int64_t{blockIdx.x} : 0, 1.0f); }
void other_block(Span<float> x, Span<float> out) {  // block 1 reads what block 0 writes
    if (threadIdx.x != 0) return;
    if (blockIdx.x == 0) x.put(0, 1.0f);
    else out.put(0, x.get(0));
}
void half_waits(Span<float> out, bool all) {
    if (all || threadIdx.x < 32) barrier();
    out.put(threadIdx.x, 0.0f);
}
void two_barriers(Span<float> out) {
    if (threadIdx.x < 32) barrier();
    else barrier();
    out.put(threadIdx.x, 0.0f);
}
void some_lanes(Span<float> out, bool all) {
    float x = 1;
    if (all || threadIdx.x % 32 < 16) x = shuffle_xor(x, 1);
    out.put(threadIdx.x, x);
}
void sums(Span<float> out) {
    DS_SHARED(float, memory, 32);
    out.put(threadIdx.x, sum_of_block(static_cast<float>(threadIdx.x), memory));
}
void dynamic(Span<float> out, int count) {
    const Shared<float> memory = dynamic_shared<float>(0, count);
    memory.put(threadIdx.x, 2.0f);
    out.put(threadIdx.x, memory.get(threadIdx.x));
}

void matrix(Span<float> out, int aligned) {
    static const char key = 0;
    const Shared<bf16> memory = shared_memory<bf16>(&key, 256, static_cast<size_t>(aligned));
    for (int i = static_cast<int>(threadIdx.x); i < 256; i += kWarp) memory.put(i, from_f32<bf16>(1));
    barrier();
    LeftMatrix<bf16> m;
    m.load(memory, 0, 16);
    out.put(threadIdx.x, m.m[0]);
}

void double_fours(Any from, Any to, int64_t shift) {
    const int64_t i = 4 * int64_t{threadIdx.x} + shift;
    Four v = load4(from, i);
    for (float& x : v.x) x *= 2;
    store4(to, i, v);
}
void over_a_neighbour(Span<float> x) { store4(x, 4 * (threadIdx.x / 2), {{1, 2, 3, 4}}); }

}  // namespace

TEST_CASE("emulate/kernels_get_as_many_blocks_as_they_have_work_for") {
    CHECK(blocks_for(0, 128) == 1);
    CHECK(blocks_for(129, 128) == 2);
    const int64_t row_heads = (int64_t{1} << 22) + 1;
    CHECK(blocks_for(row_heads * kWarp, 128) == (1u << 20) + 1);
    CHECK(striding_blocks(row_heads * kWarp, 128) == 1u << 20);  // these go on
    CHECK(striding_blocks(129, 128) == 2);
    Bench b;  // more than a grid has
    launch(b.queue, blocks_for(int64_t{1} << 40, 128), 32, 0, past_the_end, b.floats<float>(32), 0);
    CHECK(b.finds("a grid of 4294967295,1,1 blocks"));
    emu_forget_faults();
}

TEST_CASE("emulate/finds_access_out_of_bounds") {
    Bench good, bad;
    launch(good.queue, 2, 64, 0, past_the_end, good.floats<float>(128), 0);
    CHECK(good.fault().empty());
    launch(bad.queue, 2, 64, 0, past_the_end, bad.floats<float>(128), 1);
    CHECK(bad.finds("element 128 of 128 of global memory"));
    Bench shared;
    launch(shared.queue, 1, 64, 0, shared_past_the_end, shared.floats<float>(64), 1);
    CHECK(shared.finds("element 64 of 64 of shared memory"));
}

TEST_CASE("emulate/fours_are_moved_and_held_to_bounds_alignment_and_barriers") {
    const auto run = [](Bench& b, ds::DType type, int64_t n, int64_t shift) {
        const Any from{b.floats<float>(n).data, n, type}, to{b.floats<float>(n).data, n, type};
        std::vector<uint16_t> bytes(static_cast<size_t>(2 * n));
        for (int64_t i = 0; i < n; ++i) {
            const auto k = static_cast<size_t>(i);
            const float x = static_cast<float>(i);
            if (type == ds::DType::f32) std::memcpy(&bytes[2 * k], &x, 4);
            else if (type == ds::DType::bf16) std::memcpy(&bytes[k], &static_cast<const bf16&>(from_f32<bf16>(x)), 2);
            else std::memcpy(&bytes[k], &static_cast<const f16&>(from_f32<f16>(x)), 2);
        }
        cudaMemcpyAsync(from.data, bytes.data(), bytes.size() * 2, cudaMemcpyHostToDevice, b.queue.stream);
        launch(b.queue, 1, 32, 0, double_fours, from, to, shift);
        cudaMemcpyAsync(bytes.data(), to.data, bytes.size() * 2, cudaMemcpyDeviceToHost, b.queue.stream);
        cudaStreamSynchronize(b.queue.stream);
        return bytes;
    };
    for (const auto type : {ds::DType::f32, ds::DType::bf16, ds::DType::f16}) {
        Bench b, past, askew;
        const std::vector<uint16_t> found = run(b, type, 128, 0);
        CHECK(b.fault() == "");
        for (size_t i = 0; i < 128; ++i) {
            float x = 0;
            if (type == ds::DType::f32) std::memcpy(&x, &found[2 * i], 4);
            else if (type == ds::DType::bf16) x = to_f32(std::bit_cast<bf16>(found[i]));
            else x = to_f32(std::bit_cast<f16>(found[i]));
            CHECK(x == static_cast<float>(2 * i));
        }
        run(past, type, 126, 0);
        CHECK(past.finds("element 126 of 126 of global memory"));
        emu_forget_faults();
        run(askew, type, 130, 2);
        CHECK(askew.finds("four elements that are not aligned"));
        emu_forget_faults();
    }
    Bench race;
    launch(race.queue, 1, 32, 0, over_a_neighbour, race.floats<float>(64));
    CHECK(race.finds("with no barrier between"));
    emu_forget_faults();
}

TEST_CASE("emulate/shared_memory_is_as_aligned_as_it_says") {
    Bench good, bad;
    launch(good.queue, 1, 32, 0, matrix, good.floats<float>(32), kTileAlign);
    CHECK(good.fault() == "");
    launch(bad.queue, 1, 32, 0, matrix, bad.floats<float>(32), 16);
    CHECK(bad.finds("a matrix for tensor cores at element 0 with rows of 16"));
    emu_forget_faults();
}

TEST_CASE("emulate/rows_are_wide_by_address_stride_and_length") {
    ds::Tensor t;
    t.present = true;
    t.rank = 2;
    t.dims[0] = 3, t.dims[1] = 8, t.row_stride = 12;
    t.dtype = ds::DType::bf16;
    t.data = reinterpret_cast<void*>(uintptr_t{64 + 8});
    CHECK(wide_rows(t));
    t.dtype = ds::DType::f32;
    CHECK(!wide_rows(t));  // 72 is no multiple of 16
    t.data = reinterpret_cast<void*>(uintptr_t{64});
    CHECK(wide_rows(t));
    t.row_stride = 10;
    CHECK(!wide_rows(t));
    t.dims[0] = 1;
    CHECK(wide_rows(t));  // nothing lies at the stride
    t.dims[1] = 7;
    CHECK(!wide_rows(t));
    t.dims[1] = 8, t.dtype = ds::DType::i32;
    CHECK(!wide_rows(t));
    t.present = false;
    CHECK(wide_rows(t));
}

TEST_CASE("emulate/finds_reads_of_what_was_never_written") {
    Bench good, bad, shared;
    launch(good.queue, 1, 64, 0, copy, good.floats<float>(64), good.floats<float>(64, false));
    CHECK(good.fault().empty());
    launch(bad.queue, 1, 64, 0, copy, bad.floats<float>(64, false), bad.floats<float>(64));
    CHECK(bad.finds("never written"));
    emu_forget_faults();
    launch(shared.queue, 1, 64, 0, shared_unwritten, shared.floats<float>(64));
    CHECK(shared.finds("reads element 32 of shared memory, which was never written"));
}

TEST_CASE("emulate/finds_races") {
    for (const bool waits : {true, false}) {
        Bench exchange, again;
        launch(exchange.queue, 1, 64, 0, neighbours, exchange.floats<float>(64), waits);
        CHECK(exchange.fault().empty() == waits);
        emu_forget_faults();
        launch(again.queue, 1, 64, 0, reuse, again.floats<float>(64), waits);
        CHECK(again.fault().empty() == waits);
        Bench blocks;
        launch(blocks.queue, 2, 32, 0, same_place, blocks.floats<float>(2), waits);
        CHECK(blocks.finds("with no barrier between"));  // threads of one block, even where blocks are apart
    }
    Bench other;
    launch(other.queue, 2, 32, 0, other_block, other.floats<float>(1), other.floats<float>(1));
    CHECK(other.finds("of another block wrote"));
}

TEST_CASE("emulate/finds_barriers_that_not_all_threads_reach") {
    for (const bool all : {true, false}) {
        Bench block, warp;
        launch(block.queue, 1, 64, 0, half_waits, block.floats<float>(64), all);
        CHECK(block.fault().empty() == all);
        emu_forget_faults();
        launch(warp.queue, 1, 64, 0, some_lanes, warp.floats<float>(64), all);
        CHECK(warp.fault().empty() == all);
    }
    Bench two;
    launch(two.queue, 1, 64, 0, two_barriers, two.floats<float>(64));
    CHECK(two.finds("not all threads of the block reach"));
}

TEST_CASE("emulate/sums_over_a_block_reach_every_thread") {
    Bench b;
    const Span<float> out = b.floats<float>(256);
    launch(b.queue, 1, 256, 0, sums, out);
    CHECK(b.fault().empty());
    std::vector<float> found(256);
    cudaMemcpyAsync(found.data(), out.data, 1024, cudaMemcpyDeviceToHost, b.queue.stream);
    CHECK(found[0] == 0);  // nothing ran yet: nobody has waited
    cudaStreamSynchronize(b.queue.stream);
    for (const float x : found) CHECK(x == 255.0f * 128);
}

TEST_CASE("emulate/holds_dynamic_shared_memory_to_what_was_asked_for") {
    Bench good, bad, large;
    launch(good.queue, 1, 64, 256, dynamic, good.floats<float>(64), 64);
    CHECK(good.fault().empty());
    launch(bad.queue, 1, 64, 252, dynamic, bad.floats<float>(64), 64);
    CHECK(bad.finds("more dynamic shared memory than the launch gave"));
    emu_forget_faults();
    launch(large.queue, 1, 64, 64 << 10, dynamic, large.floats<float>(64), 64);
    CHECK(large.finds("than cudaFuncSetAttribute allowed"));
}

TEST_CASE("emulate/memory_that_was_freed_or_is_the_hosts_is_found") {
    Bench freed;
    const Span<float> x = freed.floats<float>(64);
    cudaStreamSynchronize(freed.queue.stream);
    cudaFree(std::exchange(freed.memory[0], nullptr));
    launch(freed.queue, 1, 64, 0, copy, x, freed.floats<float>(64));
    CHECK(freed.finds("not allocated, or was freed"));
    Bench host;
    std::vector<float> mine(64);
    launch(host.queue, 1, 64, 0, copy, Span<float>{mine.data(), 64}, host.floats<float>(64));
    CHECK(host.finds("is not device memory"));
    emu_forget_faults();
    Bench direction;
    cudaMemcpyAsync(mine.data(), mine.data() + 1, 4, cudaMemcpyDeviceToHost, direction.queue.stream);
    CHECK(direction.finds("the direction does not fit"));
    const size_t before = emu_live_allocations();
    void* leak = nullptr;
    cudaMalloc(&leak, 1);
    CHECK(emu_live_allocations() == before + 1);
    cudaFree(leak);
    emu_forget_faults();
}

TEST_CASE("emulate/finds_work_of_two_streams_that_no_event_orders") {
    enum class First { writes, reads };
    for (const First first : {First::writes, First::reads})
        for (const bool waits : {true, false}) {
            Bench b;
            cudaStream_t other = nullptr;
            cudaEvent_t event = nullptr;
            REQUIRE(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking) == cudaSuccess);
            REQUIRE(cudaEventCreateWithFlags(&event, cudaEventDisableTiming) == cudaSuccess);
            const Span<float> x = b.floats<float>(64), y = b.floats<float>(64), z = b.floats<float>(64);
            cudaStreamSynchronize(b.queue.stream);  // what the host has waited for is known to all that it queues then
            launch(b.queue, 1, 64, 0, copy, x, y);
            cudaEventRecord(event, b.queue.stream);
            cudaStream_t mine = std::exchange(b.queue.stream, other);
            if (waits) cudaStreamWaitEvent(other, event, 0);
            if (first == First::writes) launch(b.queue, 1, 64, 0, copy, y, z);    // reads what the first wrote
            else cudaMemsetAsync(x.data, 0, 256, other);                          // writes what the first reads
            for (cudaStream_t each : {other, mine}) cudaStreamSynchronize(each);  // whichever runs first
            const std::string found = emu_first_fault();
            INFO(found);
            CHECK(found.empty() == waits);
            if (!waits) CHECK(found.find(" on one stream with no event behind the work on another that ") != std::string::npos);
            b.queue.stream = mine;
            cudaEventDestroy(event);
            cudaStreamDestroy(other);
        }
    // Behind a third stream's event, and an event that is recorded again.
    Bench b;
    cudaStream_t other = nullptr, third = nullptr;
    cudaEvent_t event = nullptr;
    for (cudaStream_t* each : {&other, &third}) REQUIRE(cudaStreamCreateWithFlags(each, cudaStreamNonBlocking) == cudaSuccess);
    REQUIRE(cudaEventCreateWithFlags(&event, cudaEventDisableTiming) == cudaSuccess);
    const Span<float> x = b.floats<float>(64);
    cudaEventRecord(event, b.queue.stream);
    cudaStreamWaitEvent(third, event, 0);
    cudaEventRecord(event, third);
    cudaStreamWaitEvent(other, event, 0);
    cudaMemsetAsync(x.data, 1, 256, other);
    cudaStreamSynchronize(other);
    CHECK(b.fault() == "");
    cudaMemsetAsync(x.data, 1, 256, b.queue.stream);
    cudaMemsetAsync(x.data, 1, 256, third);
    for (cudaStream_t each : {b.queue.stream, third}) cudaStreamSynchronize(each);
    CHECK(std::string(emu_first_fault())
              .find("cudaMemsetAsync: the memory is written on one stream with no event behind the work on another that wrote it") == 0);
    emu_forget_faults();
    cudaEventDestroy(event);
    for (cudaStream_t each : {other, third}) cudaStreamDestroy(each);
}

TEST_CASE("emulate/any_call_can_be_made_to_fail") {
    emu_fail_at(2);
    void* a = nullptr;
    void* b = nullptr;
    CHECK(cudaMalloc(&a, 64) == cudaSuccess);
    CHECK(cudaMalloc(&b, 64) == cudaErrorMemoryAllocation);
    CHECK(std::string(emu_failed_call()) == "cudaMalloc");
    CHECK(cudaMalloc(&b, 64) == cudaSuccess);
    cudaFree(a);
    cudaFree(b);
    emu_fail_at(0);
}
