// Times kernels of a device (the plug-in in DSRT_BACKEND_PATH), replayed as recorded graphs, so that the host's time is not in it. One JSON
// line a kernel: microseconds (the median of some replays), and TFLOP/s of its products or GB/s of what it reads and writes. Usage:
// bench_device [words of names to run]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "device/device.h"
#include "ops/attrs.h"

namespace ds::bench {
namespace {

constexpr int kCalls = 10, kReplays = 7;

Device& device() {
    static std::unique_ptr<Device> opened = [] {
        auto found = Device::open("cuda", 0);
        if (!found.ok()) std::fprintf(stderr, "%s\n", found.status().message().c_str()), std::exit(1);
        return std::move(*found);
    }();
    return *opened;
}
void must(const Status& status) {
    if (!status.ok()) std::fprintf(stderr, "%s\n", status.message().c_str()), std::exit(1);
}

// Random numbers of [-1, 1) in device memory, that go with the object.
class Array {
public:
    Array(DType type, std::vector<int64_t> dims) {
        tensor.dtype = type;
        tensor.rank = static_cast<int32_t>(dims.size());
        std::copy(dims.begin(), dims.end(), tensor.dims);
        tensor.row_stride = tensor.columns();
        tensor.present = true;
        auto memory = device().allocate(static_cast<size_t>(bytes()));
        must(memory.status());
        tensor.data = *memory;
        std::vector<float> numbers(static_cast<size_t>(std::min<int64_t>(tensor.count(), 1 << 20)));
        uint32_t state = 12345;
        for (float& x : numbers) x = static_cast<float>((state = state * 1664525 + 1013904223) >> 8) * 0x1p-23f - 1;
        std::vector<std::byte> converted(numbers.size() * static_cast<size_t>(size_of(type)));
        convert(numbers.data(), DType::f32, converted.data(), type, static_cast<int64_t>(numbers.size()));
        for (int64_t at = 0; at < bytes(); at += static_cast<int64_t>(converted.size()))
            must(device().upload(static_cast<std::byte*>(tensor.data) + at, converted.data(),
                                 static_cast<size_t>(std::min<int64_t>(bytes() - at, static_cast<int64_t>(converted.size())))));
    }
    ~Array() { device().release(tensor.data); }
    Array(const Array&) = delete;
    int64_t bytes() const { return tensor.count() * size_of(tensor.dtype); }

    Tensor tensor;
};

struct Work {
    double flops = 0, bytes = 0;  // one of them
};

void time(const std::string& name, std::string_view op, const std::vector<Tensor>& in, const std::vector<Tensor>& out, const void* attrs,
          Work work) {
    const KernelList* list = device().kernels(op);
    const Request request{in, out, attrs, 1, device().queue()};
    const KernelImpl* kernel =
        std::find_if(list->begin(), list->end(), [&](const KernelImpl& k) { return k.declines(request) == nullptr; });
    auto prepared = kernel->prepare(request);
    must(prepared.status());
    auto scratch = device().allocate(static_cast<size_t>(prepared->scratch_bytes) + 1);
    must(scratch.status());
    must(device().begin(1, 1));
    Runtime runtime;
    runtime.queue = device().queue();
    const Call call{in.data(), out.data(), attrs, prepared->state.get(), *scratch, &runtime, nullptr};
    const auto run = [&] {
        for (const Phase phase : prepared->phases) phase(call, Team{0, 1});
    };
    run();
    must(device().finish());
    must(device().record());
    for (int i = 0; i < kCalls; ++i) run();
    auto graph = device().recorded();
    must(graph.status());
    std::vector<double> times;
    for (int i = 0; i < kReplays; ++i) {
        const auto began = std::chrono::steady_clock::now();
        must(device().replay(*graph));
        must(device().finish());
        times.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count() / kCalls);
    }
    device().forget(*graph);
    device().release(*scratch);
    std::sort(times.begin(), times.end());
    const double seconds = times[kReplays / 2];
    std::printf("{\"kernel\": \"%s\", \"by\": \"%s\", \"us\": %.1f, \"%s\": %.1f}\n", name.c_str(), kernel->name, 1e6 * seconds,
                work.flops > 0 ? "tflops" : "gb_s", work.flops > 0 ? work.flops / seconds / 1e12 : work.bytes / seconds / 1e9);
    std::fflush(stdout);
}

void attention(int64_t rows, int64_t length, int64_t heads, int64_t size) {
    const std::vector<int64_t> shape{rows, length, heads * size};
    Array q(DType::bf16, shape), k(DType::bf16, shape), v(DType::bf16, shape), y(DType::bf16, shape),
        lse(DType::f32, {rows * length, heads});
    const ds::Attention attrs{.heads = heads, .causal = true};
    const std::string name = std::to_string(rows) + " " + std::to_string(length) + " " + std::to_string(heads) + " " + std::to_string(size);
    const double flops =
        2.0 * static_cast<double>(rows * heads * length * length * size);  // of two products, half of whose results causality leaves
    time("attention " + name, "attention", {q.tensor, k.tensor, v.tensor, {}, {}, {}, {}, {}, {}, {}, {}}, {y.tensor, lse.tensor}, &attrs,
         {.flops = flops});
    Array dy(DType::bf16, shape), dq(DType::bf16, shape), dk(DType::bf16, shape), dv(DType::bf16, shape);
    time("attention_grad " + name, "attention_grad",
         {dy.tensor, q.tensor, k.tensor, v.tensor, y.tensor, lse.tensor, {}, {}, {}, {}, {}, {}, {}, {}},
         {dq.tensor, dk.tensor, dv.tensor, {}}, &attrs, {.flops = 2.5 * flops});
}

void elementwise() {
    const std::vector<int64_t> shape{32768, 3072};
    Array a(DType::f32, shape), b(DType::f32, shape), y(DType::f32, shape), low(DType::bf16, shape), other(DType::bf16, shape),
        low_y(DType::bf16, shape);
    const auto bytes = [](std::initializer_list<const Array*> arrays) {
        double sum = 0;
        for (const Array* array : arrays) sum += static_cast<double>(array->bytes());
        return Work{.bytes = sum};
    };
    const ds::Gelu tanh{.tanh = true};
    time("add f32", "add", {a.tensor, b.tensor}, {y.tensor}, nullptr, bytes({&a, &b, &y}));
    time("add bf16", "add", {low.tensor, other.tensor}, {low_y.tensor}, nullptr, bytes({&low, &other, &low_y}));
    time("cast f32 bf16", "cast", {a.tensor}, {low.tensor}, nullptr, bytes({&a, &low}));
    time("silu bf16", "silu", {low.tensor}, {low_y.tensor}, nullptr, bytes({&low, &low_y}));
    time("gelu bf16", "gelu", {low.tensor}, {low_y.tensor}, &tanh, bytes({&low, &low_y}));
    time("gelu_grad bf16", "gelu_grad", {low.tensor, other.tensor}, {low_y.tensor}, &tanh, bytes({&low, &other, &low_y}));
}

void norms(int64_t width) {
    const int64_t rows = (int64_t{1} << 26) / width;
    Array x(DType::f32, {rows, width}), weight(DType::f32, {width}), bias(DType::f32, {width}), low(DType::bf16, {rows, width}),
        mean(DType::f32, {rows}), rstd(DType::f32, {rows});
    const Norm attrs;
    const std::string name = std::to_string(rows) + " " + std::to_string(width);
    time("layernorm f32 bf16 " + name, "layernorm", {x.tensor, weight.tensor, bias.tensor}, {low.tensor, mean.tensor, rstd.tensor}, &attrs,
         {.bytes = static_cast<double>(x.bytes() + low.bytes())});
    Array into(DType::f32, {rows, width}), dx(DType::f32, {rows, width}), dweight(DType::f32, {width}), dbias(DType::f32, {width});
    time("layernorm_grad bf16 f32 " + name, "layernorm_grad",
         {low.tensor, x.tensor, weight.tensor, mean.tensor, rstd.tensor, into.tensor, {}, {}}, {dx.tensor, dweight.tensor, dbias.tensor},
         &attrs, {.bytes = static_cast<double>(low.bytes() + x.bytes() + into.bytes() + dx.bytes())});
}

struct Row {
    std::string name;
    std::function<void()> run;
};

int main(int argc, char** argv) {
    const Row rows[] = {{"attention 64", [] { attention(8, 1024, 12, 64); }},
                        {"attention 128", [] { attention(4, 2048, 16, 128); }},
                        {"attention long", [] { attention(2, 4096, 32, 128); }},
                        {"elementwise", elementwise},
                        {"norms 768", [] { norms(768); }},
                        {"norms 4096", [] { norms(4096); }}};
    for (const Row& row : rows)
        if (argc < 2 || std::any_of(argv + 1, argv + argc, [&](const char* word) { return row.name.find(word) != std::string::npos; }))
            row.run();
    return 0;
}

}  // namespace
}  // namespace ds::bench

int main(int argc, char** argv) { return ds::bench::main(argc, argv); }
