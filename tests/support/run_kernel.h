// Runs a kernel on test arrays as the executor would: a team of threads, a barrier after each phase, fresh scratch filled with rubbish.
// Array owns a (strided) tensor with canaries in the gaps between rows and around it, so that a stray write is found.
#pragma once

#include <doctest/doctest.h>

#include <barrier>
#include <cmath>
#include <cstring>
#include <initializer_list>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "kernels/kernel.h"
#ifdef DS_TEST_DEVICE
#include "tests/cuda/run_on_device.h"
#endif

namespace ds::test {

#ifdef DS_TEST_DEVICE
inline constexpr int kTeams = 1;  // a device has none
#else
inline constexpr int kTeams = 3;
#endif

inline double load(const void* data, DType type, int64_t i) {
    double x;
    convert(static_cast<const char*>(data) + i * size_of(type), type, &x, DType::f64, 1);
    return x;
}

inline void store(void* data, DType type, int64_t i, double x) {
    convert(&x, DType::f64, static_cast<char*>(data) + i * size_of(type), type, 1);
}

class Array {
public:
    Array() = default;                                                                          // an absent optional input
    Array(const Array& other) : tensor_(other.tensor_), bytes_(other.bytes_.size(), kCanary) {  // where base() lies depends on the memory
        if (tensor_.present)
            std::memcpy(base(), other.base(), static_cast<size_t>(tensor_.rows() * tensor_.row_stride * size_of(tensor_.dtype)));
    }
    Array& operator=(Array other) {
        std::swap(tensor_, other.tensor_);
        bytes_.swap(other.bytes_);
        return *this;
    }
    Array(Array&&) = default;

    // row_gap: elements left free after each row.
    Array(DType type, std::vector<int64_t> dims, int64_t row_gap = 0) {
        tensor_.dtype = type;
        tensor_.rank = static_cast<int32_t>(dims.size());
        for (size_t i = 0; i < dims.size(); ++i) tensor_.dims[i] = dims[i];
        tensor_.row_stride = tensor_.columns() + row_gap;
        tensor_.present = true;
        bytes_.assign(static_cast<size_t>(tensor_.rows() * tensor_.row_stride * size_of(type) + 2 * kGuard + 64), kCanary);
        for (int64_t i = 0; i < count(); ++i) set(i, 0);
    }

    static Array random(DType type, std::vector<int64_t> dims, std::mt19937& rng, double scale = 1, int64_t row_gap = 0) {
        Array a(type, std::move(dims), row_gap);
        std::normal_distribution<double> normal(0, scale);
        for (int64_t i = 0; i < a.count(); ++i) a.set(i, normal(rng));
        return a;
    }
    static Array of(DType type, std::vector<int64_t> dims, const std::vector<double>& values) {
        Array a(type, std::move(dims));
        for (int64_t i = 0; i < a.count(); ++i) a.set(i, values[static_cast<size_t>(i)]);
        return a;
    }

    Tensor tensor() const {
        Tensor t = tensor_;
        if (t.present) t.data = base();
        return t;
    }
    int64_t count() const { return tensor_.count(); }
    double get(int64_t i) const { return load(base(), tensor_.dtype, place(i)); }
    void set(int64_t i, double x) { store(base(), tensor_.dtype, place(i), x); }
    // Stands for what its elements, in f32, are rounded to.
    void stand_for(DType type) { tensor_.rounded = type; }
    void fill(double x) {
        for (int64_t i = 0; i < count(); ++i) set(i, x);
    }

    bool canaries_intact() const {
        if (!tensor_.present) return true;
        const std::byte* first = base();
        const int64_t element = size_of(tensor_.dtype), row = tensor_.row_stride * element, used = tensor_.columns() * element;
        const std::byte* end = first + tensor_.rows() * row;
        for (const std::byte* p = bytes_.data(); p < bytes_.data() + bytes_.size(); ++p)
            if ((p < first || p >= end || (p - first) % row >= used) && *p != kCanary) return false;
        return true;
    }

private:
    static constexpr std::byte kCanary{0xA5};
    static constexpr int64_t kGuard = 128;

    int64_t place(int64_t i) const { return i / tensor_.columns() * tensor_.row_stride + i % tensor_.columns(); }
    std::byte* base() const {  // 64-byte aligned, at least kGuard bytes in
        const auto start = reinterpret_cast<uintptr_t>(bytes_.data()) + kGuard;
        return const_cast<std::byte*>(bytes_.data()) + ((start + 63) / 64 * 64 - reinterpret_cast<uintptr_t>(bytes_.data()));
    }

    Tensor tensor_;
    std::vector<std::byte> bytes_;
};

struct Run {
    int threads = 1;
    Runtime runtime = {};
    const char* only = nullptr;  // the implementation to use, by name; null: the first that does not decline
};

// prepare on shapes alone (data is null, as for the planner), then run. Fails the test where nothing serves or a canary dies.
inline void run_kernel(const KernelList& list, std::vector<const Array*> in, std::vector<Array*> out, const void* attrs, Run run = {}) {
    std::vector<Tensor> ins, outs;
    for (const Array* a : in) ins.push_back(a->tensor());
    for (Array* a : out) outs.push_back(a->tensor());
    std::vector<Tensor> blank_in = ins, blank_out = outs;
    for (Tensor& t : blank_in) t.data = nullptr;
    for (Tensor& t : blank_out) t.data = nullptr;

    Request request{blank_in, blank_out, attrs, run.threads};
#ifdef DS_TEST_DEVICE
    const bool on_device = is_of_device(list);
    if (on_device) request.queue = device().queue();
#endif
    const KernelImpl* impl = nullptr;
    std::string reasons;
    for (const KernelImpl& entry : list) {
        if (run.only && std::strcmp(run.only, entry.name) != 0) continue;
        const char* reason = entry.why_not(request);
        if (!reason) {
            impl = &entry;
            break;
        }
        reasons += std::string(entry.name) + ": " + reason + "; ";
    }
    REQUIRE_MESSAGE(impl, "no kernel serves: " << reasons);
    auto prepared = impl->prepare(request);
    REQUIRE_MESSAGE(prepared.ok(), prepared.status().message());
#ifdef DS_TEST_DEVICE
    if (on_device) {
        const Status status = run_on_device(*prepared, ins, outs, attrs, run.runtime);
        REQUIRE_MESSAGE(status.ok(), impl->name << ": " << status.message());
        return;
    }
#endif

    std::vector<std::byte> storage(static_cast<size_t>(prepared->scratch_bytes + 192),
                                   std::byte{0xFF});  // NaN wherever it is read as a number
    auto* scratch = reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(storage.data()) + 63) / 64 * 64);
    std::memset(scratch + prepared->scratch_bytes, 0x5A, 64);
    std::vector<std::atomic<int64_t>> tickets(prepared->phases.size());
    for (auto& ticket : tickets) ticket = 0;

    std::barrier barrier(run.threads);
    auto work = [&](int rank) {
        Call call{ins.data(), outs.data(), attrs, prepared->state.get(), scratch, &run.runtime, nullptr};
        for (size_t i = 0; i < prepared->phases.size(); ++i) {
            call.ticket = &tickets[i];
            prepared->phases[i](call, Team{rank, run.threads});
            barrier.arrive_and_wait();
        }
    };
    std::vector<std::thread> threads;
    for (int rank = 1; rank < run.threads; ++rank) threads.emplace_back(work, rank);
    work(0);
    for (std::thread& thread : threads) thread.join();

    for (int i = 0; i < 64; ++i)
        REQUIRE_MESSAGE(scratch[prepared->scratch_bytes + i] == std::byte{0x5A}, impl->name << " writes past its scratch");
    for (size_t i = 0; i < in.size(); ++i) REQUIRE_MESSAGE(in[i]->canaries_intact(), impl->name << " writes around input " << i);
    for (size_t i = 0; i < out.size(); ++i) REQUIRE_MESSAGE(out[i]->canaries_intact(), impl->name << " writes around output " << i);
}

// The largest difference over the largest magnitude of `expected` (or over `floor` where that is larger); infinity where one is NaN.
inline double error(const Array& actual, const Array& expected, double floor = 1e-30) {
    double difference = 0, magnitude = floor;
    for (int64_t i = 0; i < expected.count(); ++i) {
        const double a = actual.get(i), e = expected.get(i);
        if (std::isinf(e) && a == e) continue;
        if (!std::isfinite(a) || !std::isfinite(e)) return INFINITY;
        difference = std::max(difference, std::abs(a - e));
        magnitude = std::max(magnitude, std::abs(e));
    }
    return difference / magnitude;
}

inline bool bit_equal(const Array& a, const Array& b) {
    for (int64_t i = 0; i < a.count(); ++i) {
        const double x = a.get(i), y = b.get(i);
        if (!(x == y || (std::isnan(x) && std::isnan(y)))) return false;
    }
    return true;
}

}  // namespace ds::test
