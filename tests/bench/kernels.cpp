// Speed of matmul and attention kernels as shares of this machine's measured ceilings. Usage: bench_kernels [threads] [gemm|attention|cross_entropy]
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>

#include "kernels/kernel.h"
#include "ops/attrs.h"
#include "tests/bench/peak.h"

namespace ds::bench {
namespace {

struct Buffer {
    std::vector<std::byte> bytes;
    Tensor tensor;
    Buffer() = default;
    Buffer(DType type, std::vector<int64_t> dims, float scale = 1) {
        tensor.dtype = type;
        tensor.rank = static_cast<int32_t>(dims.size());
        for (size_t i = 0; i < dims.size(); ++i) tensor.dims[i] = dims[i];
        tensor.row_stride = tensor.columns();
        tensor.present = true;
        bytes.resize(static_cast<size_t>(tensor.count() * size_of(type) + 64));
        tensor.data = reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(bytes.data()) + 63) / 64 * 64);
        if (!is_float(type)) return;
        uint32_t state = 12345;
        for (int64_t i = 0; i < tensor.count(); ++i) {
            state = state * 1664525 + 1013904223;
            const float x = scale * (static_cast<float>(state >> 8) * 0x1p-23f - 1);
            if (type == DType::f32) tensor.as<float>()[i] = x;
            else tensor.as<BF16>()[i] = to_bf16(x);
        }
    }
};

// Seconds of the best of some runs.
double time_kernel(const KernelList& list, const std::vector<Tensor>& in, const std::vector<Tensor>& out, const void* attrs, int threads, int repeats) {
    const Request request{in, out, attrs, threads};
    const KernelImpl* impl = list.begin();
    while (impl != list.end() && impl->declines(request)) ++impl;
    if (impl == list.end()) return 0;
    auto prepared = impl->prepare(request);
    if (!prepared.ok()) {
        std::printf("%s\n", prepared.status().message().c_str());
        return 0;
    }
    std::vector<std::byte> storage(static_cast<size_t>(prepared->scratch_bytes + 64));
    auto* scratch = reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(storage.data()) + 63) / 64 * 64);
    const size_t phases = prepared->phases.size();
    std::vector<std::atomic<int64_t>> tickets(phases * static_cast<size_t>(repeats));
    for (auto& t : tickets) t = 0;
    std::vector<size_t> run(static_cast<size_t>(threads), 0);
    std::barrier barrier(threads);
    const Runtime runtime;
    return seconds(threads, repeats, [&](int rank) {
        Call call{in.data(), out.data(), attrs, prepared->state.get(), scratch, &runtime, nullptr};
        const size_t base = run[static_cast<size_t>(rank)]++ * phases;
        for (size_t i = 0; i < phases; ++i) {
            call.ticket = &tickets[base + i];
            prepared->phases[i](call, Team{rank, threads});
            if (i + 1 < phases) barrier.arrive_and_wait();
        }
    });
}

struct Peaks { double f32, bf16; };

void gemm(int threads, Peaks peaks) {
    struct Row { int64_t m, n, k; };
    const Row rows[] = {{256, 2304, 768}, {256, 768, 768}, {256, 3072, 768}, {256, 768, 3072}, {256, 50257, 768}, {1024, 3072, 768}, {1024, 768, 3072}};
    std::printf("%-6s %-28s %9s %9s %9s\n", "type", "m x n x k of y = x W^T", "y", "dX", "dW");
    for (const DType type : {DType::f32, DType::bf16})
        for (const Row& r : rows) {
            const double peak = type == DType::f32 ? peaks.f32 : peaks.bf16, work = 2e-9 * static_cast<double>(r.m * r.n) * static_cast<double>(r.k);
            Buffer x(type, {r.m, r.k}), w(type, {r.n, r.k}), y(type, {r.m, r.n}), dw(DType::f32, {r.n, r.k}), bias(DType::f32, {r.n});
            const Tensor none;
            const int repeats = r.n > 10000 ? 4 : 10;
            const Matmul forward{.transpose_b = true}, plain{}, transposed{.transpose_a = true};
            const double t[] = {time_kernel(cpu::matmul, {x.tensor, w.tensor, bias.tensor, none}, {y.tensor}, &forward, threads, repeats),
                                time_kernel(cpu::matmul, {y.tensor, w.tensor, none, none}, {x.tensor}, &plain, threads, repeats),
                                time_kernel(cpu::matmul, {y.tensor, x.tensor, none, dw.tensor}, {dw.tensor}, &transposed, threads, repeats)};
            std::printf("%-6s %6ld x %6ld x %6ld    ", std::string(name_of(type)).c_str(), static_cast<long>(r.m), static_cast<long>(r.n), static_cast<long>(r.k));
            for (const double s : t) std::printf(" %7.1f %%", 100 * work / s / peak);
            std::printf("\n");
        }
}

}  // namespace
}  // namespace ds::bench

int main(int argc, char** argv) {
    const int threads = argc > 1 ? std::atoi(argv[1]) : 2;
    const std::string what = argc > 2 ? argv[2] : "";
    const ds::bench::Peaks peaks{ds::bench::gflops_f32(threads), ds::bench::gflops_bf16(threads)};
    std::printf("%d threads: f32 %.0f GFLOP/s, bf16 %.0f GFLOP/s, triad %.1f GB/s\n", threads, peaks.f32, peaks.bf16, ds::bench::triad_gb(threads));
    if (what.empty() || what == "gemm") ds::bench::gemm(threads, peaks);
    return 0;
}
