// Speed of matmul and attention kernels as shares of this machine's measured ceilings. Usage: bench_kernels [threads]
// [gemm|attention|layouts|cross_entropy|sparse]
#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <string>

#include "config/sparse_layout.h"
#include "kernels/cpu/level.h"
#include "kernels/kernel.h"
#include "kernels/sparse.h"
#include "ops/attrs_coded.h"
#include "tests/bench/peak.h"

namespace ds::cpu {
extern const KernelList sparse_matmul;
}

namespace ds::bench {
namespace {

// Memory in huge pages, as the executor's arena has it.
class Memory {
public:
    Memory() = default;
    explicit Memory(int64_t bytes) : bytes_(std::aligned_alloc(kPage, (static_cast<size_t>(bytes) + kPage) / kPage * kPage), std::free) {
        madvise(bytes_.get(), (static_cast<size_t>(bytes) + kPage) / kPage * kPage, MADV_HUGEPAGE);
        std::memset(bytes_.get(), 0, static_cast<size_t>(bytes));
    }
    std::byte* data() const { return static_cast<std::byte*>(bytes_.get()); }

private:
    static constexpr size_t kPage = size_t{2} << 20;
    std::shared_ptr<void> bytes_;
};

struct Buffer {
    Memory memory;
    Tensor tensor;
    Buffer() = default;
    Buffer(DType type, std::vector<int64_t> dims, float scale = 1) {
        tensor.dtype = type;
        tensor.rank = static_cast<int32_t>(dims.size());
        for (size_t i = 0; i < dims.size(); ++i) tensor.dims[i] = dims[i];
        tensor.row_stride = tensor.columns();
        tensor.present = true;
        memory = Memory(tensor.count() * size_of(type));
        tensor.data = memory.data();
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

// Seconds of the best of some runs. only: of the implementation of that name.
double time_kernel(const KernelList& list, const std::vector<Tensor>& in, const std::vector<Tensor>& out, const void* attrs, int threads,
                   int repeats, const char* only = nullptr) {
    const Request request{in, out, attrs, threads};
    const KernelImpl* impl = list.begin();
    while (impl != list.end() && (only ? std::strcmp(only, impl->name) != 0 : impl->declines(request) != nullptr)) ++impl;
    if (impl == list.end()) return 0;
    auto prepared = impl->prepare(request);
    if (!prepared.ok()) {
        std::printf("%s\n", prepared.status().message().c_str());
        return 0;
    }
    const Memory scratch(prepared->scratch_bytes);
    const size_t phases = prepared->phases.size();
    std::vector<std::atomic<int64_t>> tickets(phases * static_cast<size_t>(repeats));
    for (auto& t : tickets) t = 0;
    std::vector<size_t> run(static_cast<size_t>(threads), 0);
    std::barrier barrier(threads);
    const Runtime runtime;
    return seconds(threads, repeats, [&](int rank) {
        Call call{in.data(), out.data(), attrs, prepared->state.get(), scratch.data(), &runtime, nullptr};
        const size_t base = run[static_cast<size_t>(rank)]++ * phases;
        for (size_t i = 0; i < phases; ++i) {
            call.ticket = &tickets[base + i];
            prepared->phases[i](call, Team{rank, threads});
            if (i + 1 < phases) barrier.arrive_and_wait();
        }
    });
}

struct Peaks {
    double f32, bf16;
};

void gemm(int threads, Peaks peaks) {
    struct Row {
        int64_t m, n, k;
    };
    const Row rows[] = {{256, 2304, 768},  {256, 768, 768},   {256, 3072, 768}, {256, 768, 3072},  {256, 50257, 768},
                        {1024, 3072, 768}, {1024, 768, 3072}, {2048, 768, 768}, {2048, 3072, 768}, {2048, 768, 3072}};
    std::printf("%-6s %-28s %9s %9s %9s\n", "type", "m x n x k of y = x W^T", "y", "dX", "dW");
    for (const DType type : {DType::f32, DType::bf16})
        for (const Row& r : rows) {
            const double peak = type == DType::f32 ? peaks.f32 : peaks.bf16,
                         work = 2e-9 * static_cast<double>(r.m * r.n) * static_cast<double>(r.k);
            Buffer x(type, {r.m, r.k}), w(type, {r.n, r.k}), y(type, {r.m, r.n}), dw(DType::f32, {r.n, r.k}), bias(DType::f32, {r.n});
            const Tensor none;
            const int repeats = r.n > 10000 ? 4 : 20;
            const Matmul forward{.transpose_b = true}, plain{}, transposed{.transpose_a = true};
            const double t[] = {
                time_kernel(cpu::matmul, {x.tensor, w.tensor, bias.tensor, none}, {y.tensor}, &forward, threads, repeats),
                time_kernel(cpu::matmul, {y.tensor, w.tensor, none, none}, {x.tensor}, &plain, threads, repeats),
                time_kernel(cpu::matmul, {y.tensor, x.tensor, none, dw.tensor}, {dw.tensor}, &transposed, threads, repeats)};
            std::printf("%-6s %6ld x %6ld x %6ld    ", std::string(name_of(type)).c_str(), static_cast<long>(r.m), static_cast<long>(r.n),
                        static_cast<long>(r.k));
            for (const double s : t) std::printf(" %7.1f %%", 100 * work / s / peak);
            std::printf("\n");
        }
}

void set_ints(const Buffer& b, const std::vector<int64_t>& values) {
    for (size_t i = 0; i < values.size(); ++i) b.tensor.as<int32_t>()[i] = static_cast<int32_t>(values[i]);
}

void attention(int threads, Peaks peaks) {
    struct Row {
        const char* name;
        int64_t sequences, shortest, longest, heads, kv_heads, size;
        bool causal;
        double dropout;
    };
    const Row rows[] = {{"1 x 1024, 12 x 64, causal", 1, 1024, 1024, 12, 12, 64, true, 0},
                        {"4 x 64, 12 x 64, causal", 4, 64, 64, 12, 12, 64, true, 0},
                        {"2 x 256, 12/4 x 64, causal", 2, 256, 256, 12, 4, 64, true, 0},
                        {"16 x 128, 12 x 64", 16, 128, 128, 12, 12, 64, false, 0},
                        {"64 x 5..60, 12 x 32", 64, 5, 60, 12, 12, 32, false, 0},
                        {"64 x 5..60, 12 x 32, dropout", 64, 5, 60, 12, 12, 32, false, 0.1}};
    std::printf("%-6s %-30s %18s %18s\n", "type", "attention", "forward", "backward");
    for (const DType type : {DType::f32, DType::bf16})
        for (const Row& r : rows) {
            std::vector<int64_t> segments{0};
            double pairs = 0;
            for (int64_t i = 0; i < r.sequences; ++i) {
                const int64_t n = r.shortest + i * 7919 % (r.longest - r.shortest + 1);
                segments.push_back(segments.back() + n);
                pairs += static_cast<double>(r.causal ? n * (n + 1) / 2 : n * n);
            }
            const int64_t n = segments.back();
            Buffer q(type, {n, r.heads * r.size}), k(type, {n, r.kv_heads * r.size}), v(type, {n, r.kv_heads * r.size}),
                y(type, {n, r.heads * r.size});
            Buffer dy(type, {n, r.heads * r.size}, 0.01f), dq(type, {n, r.heads * r.size}), dk(type, {n, r.kv_heads * r.size}),
                dv(type, {n, r.kv_heads * r.size});
            Buffer lse(DType::f32, {n, r.heads}), bounds(DType::i32, {r.sequences + 1});
            set_ints(bounds, segments);
            const Tensor none;
            const Attention attrs{.heads = r.heads, .kv_heads = r.kv_heads, .causal = r.causal, .dropout = r.dropout};
            const double peak = type == DType::f32 ? peaks.f32 : peaks.bf16, product = 2e-9 * pairs * static_cast<double>(r.heads * r.size);
            const double f =
                time_kernel(cpu::attention, {q.tensor, k.tensor, v.tensor, bounds.tensor, none, none, none, none, none, none, none},
                            {y.tensor, lse.tensor}, &attrs, threads, 40);
            const double b = time_kernel(
                cpu::attention_grad,
                {dy.tensor, q.tensor, k.tensor, v.tensor, y.tensor, lse.tensor, bounds.tensor, none, none, none, none, none, none, none},
                {dq.tensor, dk.tensor, dv.tensor}, &attrs, threads, 40);
            std::printf("%-6s %-30s %7.2f ms %5.1f %% %7.2f ms %5.1f %%\n", std::string(name_of(type)).c_str(), r.name, 1e3 * f,
                        200 * product / f / peak, 1e3 * b, 500 * product / b / peak);
        }
}

// DeepSpeed's layouts of blocks, as multiples of the speed of the same attention without one, with the layout's share of all pairs of
// blocks.
void layouts(int threads) {
    const int64_t heads = 12, size = 64;
    struct Row {
        const char* mode;
        int64_t block, length;
        const char* attention;
    };
    const Row rows[] = {{"fixed", 64, 4096, "unidirectional"},       {"fixed", 16, 4096, "unidirectional"},
                        {"variable", 64, 4096, "bidirectional"},     {"bigbird", 64, 4096, "bidirectional"},
                        {"bslongformer", 64, 4096, "bidirectional"}, {"bslongformer", 16, 1024, "bidirectional"}};
    std::printf("%-6s %-44s %7s %22s %22s\n", "type", "layout", "share", "forward, whole", "backward, whole");
    for (const DType type : {DType::f32, DType::bf16})
        for (const Row& r : rows) {
            const bool causal = r.attention == std::string_view("unidirectional");
            SparseAttentionConfig config;
            config.mode = r.mode, config.block = r.block, config.attention = r.attention;
            const std::vector<uint8_t> blocks = sparse_layout(config, heads, r.length / r.block, 1);
            double share = 0;
            for (const uint8_t b : blocks) share += b;
            share /= static_cast<double>(blocks.size()) * (causal ? 0.5 : 1);
            Buffer layout(DType::u8, {heads, r.length / r.block, r.length / r.block});
            std::copy(blocks.begin(), blocks.end(), layout.tensor.as<uint8_t>());
            Buffer q(type, {r.length, heads * size}), k(type, {r.length, heads * size}), v(type, {r.length, heads * size}),
                y(type, {r.length, heads * size}), dy(type, {r.length, heads * size}, 0.01f), dq(type, {r.length, heads * size}),
                dk(type, {r.length, heads * size}), dv(type, {r.length, heads * size}), lse(DType::f32, {r.length, heads});
            Buffer bounds(DType::i32, {2}), places(DType::i32, {r.length});
            std::vector<int64_t> each(static_cast<size_t>(r.length));
            std::iota(each.begin(), each.end(), 0);
            set_ints(bounds, {0, r.length}), set_ints(places, each);
            const Tensor none;
            double forward[2], backward[2];
            for (const bool whole : {false, true}) {
                const Attention attrs{.heads = heads, .kv_heads = heads, .causal = causal, .block = whole ? 0 : r.block};
                const Tensor& in = whole ? none : layout.tensor;
                forward[whole] = time_kernel(cpu::attention,
                                             {q.tensor, k.tensor, v.tensor, bounds.tensor, places.tensor, none, none, none, none, none, in},
                                             {y.tensor, lse.tensor}, &attrs, threads, 5);
                backward[whole] = time_kernel(cpu::attention_grad,
                                              {dy.tensor, q.tensor, k.tensor, v.tensor, y.tensor, lse.tensor, bounds.tensor, places.tensor,
                                               none, none, none, none, none, in},
                                              {dq.tensor, dk.tensor, dv.tensor, none}, &attrs, threads, 5);
            }
            std::printf("%-6s %-13s blocks of %2ld, %5ld tokens, %-4s %5.1f %% %8.2f ms %6.2f x %8.2f ms %6.2f x\n",
                        std::string(name_of(type)).c_str(), r.mode, static_cast<long>(r.block), static_cast<long>(r.length),
                        causal ? "caus" : "", 100 * share, 1e3 * forward[0], forward[1] / forward[0], 1e3 * backward[0],
                        backward[1] / backward[0]);
        }
}

void cross_entropy(int threads, Peaks peaks) {
    std::printf("%-6s %-30s %18s %18s\n", "type", "linear_cross_entropy", "forward", "backward");
    for (const DType type : {DType::f32, DType::bf16})
        for (const int64_t rows : {256, 1024}) {
            const int64_t size = 768, vocabulary = 50257;
            Buffer x(type, {rows, size}), weight(type, {vocabulary, size}, 0.05f), labels(DType::i32, {rows}), loss(DType::f32, {}),
                lse(DType::f32, {rows});
            Buffer dloss(DType::f32, {}), dx(type, {rows, size}), dweight(DType::f32, {vocabulary, size});
            for (int64_t i = 0; i < rows; ++i) labels.tensor.as<int32_t>()[i] = static_cast<int32_t>(i * 7919 % vocabulary);
            *dloss.tensor.as<float>() = 1;
            const Tensor none;
            const CrossEntropy attrs;
            const double peak = type == DType::f32 ? peaks.f32 : peaks.bf16,
                         product = 2e-9 * static_cast<double>(rows * size) * static_cast<double>(vocabulary);
            const double f = time_kernel(cpu::linear_cross_entropy, {x.tensor, weight.tensor, none, labels.tensor},
                                         {loss.tensor, lse.tensor}, &attrs, threads, 3);
            const double b = time_kernel(cpu::linear_cross_entropy_grad,
                                         {dloss.tensor, x.tensor, weight.tensor, none, labels.tensor, lse.tensor, dweight.tensor, none},
                                         {dx.tensor, dweight.tensor, none}, &attrs, threads, 3);
            std::printf("%-6s %6ld x %ld x %ld %15s %7.1f ms %5.1f %% %7.1f ms %5.1f %%\n", std::string(name_of(type)).c_str(),
                        static_cast<long>(rows), static_cast<long>(size), static_cast<long>(vocabulary), "", 1e3 * f,
                        100 * product / f / peak, 1e3 * b, 300 * product / b / peak);
        }
}

// Products with a weight of which a share of the values is not zero, as multiples of the speed of the same product with the whole weight:
// above 1 the zeros are worth leaving out.
void sparse(int threads) {
    struct Row {
        int64_t m, n, k;
    };
    const Row rows[] = {{1, 16384, 3072}, {4, 16384, 3072}, {8, 16384, 3072}, {16, 3072, 768}, {64, 3072, 768}, {512, 3072, 768}};
    const double shares[] = {0.75, 0.5, 0.35, 0.25, 0.1, 0.05};
    std::printf("%-6s %-26s %-10s %9s", "type", "m x n x k of y = x W^T", "way", "whole, ms");
    for (const double share : shares) std::printf(" %6.0f %%", 100 * share);
    std::printf("\n");
    for (const DType type : {DType::f32, DType::bf16})
        for (const Row& r : rows) {
            Buffer x(type, {r.m, r.k}), w(type, {r.n, r.k}), y(type, {r.m, r.n}), values(DType::f32, {r.n, r.k});
            const Tensor none;
            const Matmul whole{.transpose_b = true};
            const int repeats = 10;
            const double dense = time_kernel(cpu::matmul, {x.tensor, w.tensor, none, none}, {y.tensor}, &whole, threads, repeats);
            std::vector<std::pair<SparseMatmul, Buffer>> weights;
            for (const double share : shares) {
                uint32_t state = 1;
                auto* v = values.tensor.as<float>();
                for (int64_t i = 0; i < values.tensor.count(); ++i) {
                    state = state * 1664525 + 1013904223;
                    v[i] = state < share * 0x1p32 ? 1 + static_cast<float>(state >> 24) : 0;
                }
                SparseMatmul attrs{.outs = r.n, .nonzeros = count_nonzeros(v, r.n * r.k), .bits = type == DType::f32 ? 32 : 16};
                const SparseParts parts(r.n, r.k, attrs.nonzeros, attrs.bits);
                weights.emplace_back(attrs, Buffer(DType::u8, {parts.bytes}));
                code_sparse(v, parts, true, weights.back().second.tensor.as<uint8_t>());
            }
            for (const char* way : {"few rows", "columns", "decoded"}) {
                std::printf("%-6s %4ld x %5ld x %5ld       %-10s %9.3f", std::string(name_of(type)).c_str(), static_cast<long>(r.m),
                            static_cast<long>(r.n), static_cast<long>(r.k), way, 1e3 * dense);
                for (const auto& [attrs, codes] : weights)
                    std::printf(" %8.2f", dense / time_kernel(cpu::sparse_matmul, {x.tensor, codes.tensor, none, none}, {y.tensor}, &attrs,
                                                              threads, repeats, way));
                std::printf("\n");
            }
        }
}

}  // namespace
}  // namespace ds::bench

int main(int argc, char** argv) {
    const int threads = argc > 1 ? std::atoi(argv[1]) : 2;
    const std::string what = argc > 2 ? argv[2] : "";
    const ds::bench::Peaks peaks{ds::bench::gflops_f32(threads),
                                 ds::bench::gflops_bf16(threads, ds::cpu::level() == ds::cpu::Level::amx_bf16)};
    std::printf("%d threads: f32 %.0f GFLOP/s, bf16 %.0f GFLOP/s, triad %.1f GB/s\n", threads, peaks.f32, peaks.bf16,
                ds::bench::triad_gb(threads));
    if (what.empty() || what == "gemm") ds::bench::gemm(threads, peaks);
    if (what.empty() || what == "attention") ds::bench::attention(threads, peaks);
    if (what.empty() || what == "layouts") ds::bench::layouts(threads);
    if (what.empty() || what == "cross_entropy") ds::bench::cross_entropy(threads, peaks);
    if (what.empty() || what == "sparse") ds::bench::sparse(threads);
    return 0;
}
