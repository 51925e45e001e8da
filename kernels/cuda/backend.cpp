// libdsrt_cuda.so as libdsrt sees it: the table of lib/device/backend.h.
#include "device/backend.h"

#include <cstring>
#include <memory>
#include <new>

#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/group.h"
#include "kernels/cuda/optim.h"
#include "kernels/cuda/parcels.h"
#include "kernels/cuda/products.h"
#include "kernels/cuda/queue.h"
#include "kernels/kernel.h"

namespace ds::cuda {

#define DS_CUDA_KERNEL(op) extern const KernelList op;
#include "kernels/cuda/kernels.def"
#undef DS_CUDA_KERNEL

namespace {

const BackendHost* host = nullptr;
thread_local std::string last_error;

int32_t answer(Status status) {
    if (!status.ok()) last_error = status.message();
    return static_cast<int32_t>(status.code());
}

struct Open {
    int index = 0;
    Queue queue;
    std::unique_ptr<Products> products;
    Staging staging;
    Partials partials;
    Parcels parcels{queue};

    ~Open() {
        cudaSetDevice(index);
        queue.synchronize();
        staging.release();
        partials.release();
        parcels.release();
        products.reset();
        if (queue.draws) cudaFree(queue.draws);
        queue.release();
    }
    Status make(int which) {
        index = queue.device = which;
        DS_CHECK(check(cudaSetDevice(index), "choosing the device"));
        DS_CHECK(queue.make());
        cudaDeviceProp properties;
        DS_CHECK(check(cudaGetDeviceProperties(&properties, index), "asking for properties"));
        queue.architecture = 10 * properties.major + properties.minor;
        void* draws = nullptr;
        DS_CHECK(check(cudaMalloc(&draws, sizeof(Draws)), "allocating"));
        queue.draws = static_cast<Draws*>(draws);
        DS_TRY(products, Products::open());
        queue.products = products.get();
        DS_CHECK(products->make_workspace());
        return staging.make();
    }
    Status ready() { return queue.failed() ? queue.why() : check(cudaSetDevice(index), "choosing the device"); }
};

Open& of(void* device) { return *static_cast<Open*>(device); }

// The library's calls come here: nothing is thrown across the table, and a device that failed answers that failure.
template <class F>
int32_t call(void* device, F&& f) {
    try {
        if (Status status = of(device).ready(); !status.ok()) return answer(std::move(status));
        return answer(f(of(device)));
    } catch (const std::exception& e) { return answer(Status(Code::E_INTERNAL, std::string("cuda: ") + e.what())); }
}

Status count_devices(int32_t* devices) {
    int n = 0;
    *devices = 0;
    const cudaError_t error = cudaGetDeviceCount(&n);
    if (error != cudaSuccess) {
        cudaGetLastError();
        return Status(Code::E_DEVICE, std::string("cuda: no device can be used: ") + cudaGetErrorString(error));
    }
    *devices = n;
    return ok();
}

int32_t open_device(int32_t index, void** device) {
    *device = nullptr;
    int32_t n = 0;
    if (Status status = count_devices(&n); !status.ok()) return answer(std::move(status));
    if (index < 0 || index >= n)
        return answer(
            Status(Code::E_DEVICE, "cuda: there is no device " + std::to_string(index) + "; " + std::to_string(n) + " can be used"));
    auto opened = std::make_unique<Open>();
    if (Status status = opened->make(index); !status.ok()) return answer(std::move(status));
    *device = opened.release();
    return 0;
}

Status describe(Open& open, BackendDeviceInfo& info) {
    cudaDeviceProp properties;
    int driver = 0, runtime = 0;
    DS_CHECK(check(cudaGetDeviceProperties(&properties, open.index), "asking for properties"));
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    std::snprintf(info.name, sizeof info.name, "%s", properties.name);
    std::snprintf(info.runtime, sizeof info.runtime, "driver for CUDA %d.%d, runtime %d.%d, cuBLASLt %zu", driver / 1000,
                  driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10, open.products->version());
    std::snprintf(info.pci, sizeof info.pci, "%04x:%02x:%02x.0", static_cast<unsigned>(properties.pciDomainID) & 0xffffu,
                  static_cast<unsigned>(properties.pciBusID) & 0xffu, static_cast<unsigned>(properties.pciDeviceID) & 0xffu);
    info.architecture = open.queue.architecture;
    info.memory_bytes = properties.totalGlobalMem;
    return ok();
}

int32_t allocate(void* device, size_t bytes, void** out) {
    *out = nullptr;
    return call(device, [&](Open&) -> Status {
        const cudaError_t error = cudaMalloc(out, std::max<size_t>(bytes, 1));
        if (error == cudaSuccess) return ok();
        cudaGetLastError();
        *out = nullptr;
        size_t free = 0, total = 0;
        cudaMemGetInfo(&free, &total);
        return Status(error == cudaErrorMemoryAllocation ? Code::E_OUT_OF_MEMORY : Code::E_DEVICE,
                      "cuda: allocating " + std::to_string(bytes) + " bytes: " + cudaGetErrorString(error) + " (" + std::to_string(free) +
                          " of " + std::to_string(total) + " are free)");
    });
}

// Works on a device that has failed too: its memory goes back in any case.
int32_t release(void* device, void* memory) {
    cudaSetDevice(of(device).index);
    if (of(device).queue.failed()) of(device).queue.abort();
    if (!of(device).queue.members.empty())
        static_cast<void>(of(device).queue.wait());  // freeing waits for what runs, which may be waiting for other devices in vain
    return answer(check(cudaFree(memory), "freeing"));
}

int32_t allocate_host(void* device, size_t bytes, void** out) {
    *out = nullptr;
    return call(device, [&](Open&) {
        return check(cudaHostAlloc(out, std::max<size_t>(bytes, 1), cudaHostAllocDefault), "allocating pinned memory");
    });
}
int32_t release_host(void*, void* memory) { return answer(check(cudaFreeHost(memory), "freeing pinned memory")); }

Status finish(Open& open) { return open.queue.wait(); }

Status record(Open& open) {
    return check(cudaStreamBeginCapture(open.queue.stream, cudaStreamCaptureModeThreadLocal), "recording a graph");
}

Status recorded(Open& open, void** graph) {
    cudaGraph_t captured = nullptr;
    DS_CHECK(check(cudaStreamEndCapture(open.queue.stream, &captured), "recording a graph"));
    cudaGraphExec_t exec = nullptr;
    Status status = open.queue.failed() ? open.queue.why() : check(cudaGraphInstantiate(&exec, captured, 0), "instantiating a graph");
    cudaGraphDestroy(captured);
    *graph = exec;
    return status;
}

int32_t join(void* device, const BackendGroup* group, void** member) {
    *member = nullptr;
    return call(device, [&](Open& open) -> Status {
        DS_TRY(auto joined, Member::join(open.queue, *group));
        *member = joined.release();
        return ok();
    });
}

const void* kernels(const char* op) {
    struct Row {
        const char* op;
        const KernelList* list;
    };
    static const Row rows[] = {
#define DS_CUDA_KERNEL(op) {#op, &op},
#include "kernels/cuda/kernels.def"
#undef DS_CUDA_KERNEL
    };
    for (const Row& row : rows)
        if (std::strcmp(row.op, op) == 0) return row.list;
    return nullptr;
}

constexpr BackendTable table = {
    .plugin = {sizeof(BackendTable), "cuda", "CUDA 13, cuBLASLt, NCCL"},
    .stamp = DS_BACKEND_STAMP,
    .attach = [](const BackendHost* given) { host = given; },
    .last_error = [] { return last_error.c_str(); },
    .count = [](int32_t* devices) { return answer(count_devices(devices)); },
    .open = open_device,
    .close = [](void* device) { delete static_cast<Open*>(device); },
    .info = [](void* device, BackendDeviceInfo* info) { return call(device, [&](Open& open) { return describe(open, *info); }); },
    .free_bytes =
        [](void* device, uint64_t* bytes) {
            return call(device, [&](Open&) {
                size_t free = 0, total = 0;
                Status status = check(cudaMemGetInfo(&free, &total), "asking for free memory");
                *bytes = free;
                return status;
            });
        },
    .allocate = allocate,
    .release = release,
    .allocate_host = allocate_host,
    .release_host = release_host,
    .zero =
        [](void* device, void* to, size_t bytes) {
            return call(device, [&](Open& open) {
                return bytes ? check(cudaMemsetAsync(to, 0, bytes, open.queue.stream), "clearing memory") : ok();
            });
        },
    .upload = [](void* device, void* to, const void* from,
                 size_t bytes) { return call(device, [&](Open& open) { return open.staging.upload(open.queue, to, from, bytes); }); },
    .download = [](void* device, void* to, const void* from,
                   size_t bytes) { return call(device, [&](Open& open) { return open.staging.download(open.queue, to, from, bytes); }); },
    .convert =
        [](void* device, void* to, int32_t to_dtype, const void* from, int32_t from_dtype, int64_t count) {
            return call(device, [&](Open& open) {
                return convert_elements(open.queue, to, static_cast<DType>(to_dtype), from, static_cast<DType>(from_dtype), count);
            });
        },
    .scale = [](void* device, float* x, int64_t count,
                float factor) { return call(device, [&](Open& open) { return scale_elements(open.queue, x, count, factor); }); },
    .squares =
        [](void* device, const float* x, int64_t count, double* sum) {
            return call(device, [&](Open& open) { return sum_squares(open.queue, open.staging, open.partials, x, count, *sum); });
        },
    .sweep = [](void* device,
                const BackendSweep* given) { return call(device, [&](Open& open) { return sweep_elements(open.queue, *given); }); },
    .kernels = kernels,
    .queue = [](void* device) -> void* { return &of(device).queue; },
    .begin = [](void* device, uint64_t seed,
                uint64_t step) { return call(device, [&](Open& open) { return set_draws(open.queue, seed, step); }); },
    .status = [](void* device) { return answer(of(device).queue.why()); },
    .finish = [](void* device) { return call(device, finish); },
    .record = [](void* device) { return call(device, record); },
    .recorded =
        [](void* device, void** graph) {
            *graph = nullptr;
            return answer(recorded(of(device), graph));  // a recording ends even where what was queued failed
        },
    .replay =
        [](void* device, void* graph) {
            return call(device, [&](Open& open) {
                return check(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), open.queue.stream), "replaying a graph");
            });
        },
    .forget =
        [](void* device, void* graph) {
            cudaSetDevice(of(device).index);
            static_cast<void>(of(device).queue.wait());
            cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph));
        },
    .add = [](void* device, float* to, const float* from,
              int64_t count) { return call(device, [&](Open& open) { return add_elements(open.queue, to, from, count); }); },
    .begin_beside = [](void* device) { return call(device, [&](Open& open) { return open.queue.begin_beside(); }); },
    .end_beside =
        [](void* device, int64_t* mark) {
            *mark = 0;
            auto ended = of(device).queue.end_beside();  // also where what was queued there failed
            if (ended.ok()) *mark = *ended;
            return answer(std::move(ended).status());
        },
    .await = [](void* device,
                int64_t mark) { return call(device, [&](Open& open) { return mark ? open.queue.await(mark) : open.queue.await_all(); }); },
    .group_library =
        [](int32_t* version) {
            int number = 0;
            const Status status = load_nccl(number);
            *version = number;
            return answer(status);
        },
    .group_id = [](BackendGroupId* id) { return answer(make_group_id(*id)); },
    .join = join,
    .leave =
        [](void* device, void* member) {
            cudaSetDevice(of(device).index);
            delete static_cast<Member*>(member);
            if (of(device).queue.members.empty()) of(device).queue.link_failure = {};
        },
    .exchange =
        [](void* device, void* member, const BackendBlock* send, const BackendBlock* receive) {
            return call(device, [&](Open&) { return static_cast<Member*>(member)->exchange(send, receive); });
        },
    .reduce_scatter =
        [](void* device, void* member, const BackendBlock* send, const BackendBlock* out, int32_t dtype) {
            return call(device, [&](Open&) { return static_cast<Member*>(member)->reduce_scatter(send, *out, static_cast<DType>(dtype)); });
        },
    .all_reduce =
        [](void* device, void* member, const BackendBlock* data, int32_t dtype) {
            return call(device, [&](Open&) { return static_cast<Member*>(member)->all_reduce(*data, static_cast<DType>(dtype)); });
        },
    .post =
        [](void* device, const void* data, size_t bytes, void** parcel) {
            *parcel = nullptr;
            return call(device, [&](Open& open) -> Status {
                DS_TRY(*parcel, open.parcels.post(data, bytes));
                return ok();
            });
        },
    .take = [](void* device, void* parcel,
               void* to) { return call(device, [&](Open& open) { return Parcels::take(open.queue, *static_cast<Parcel*>(parcel), to); }); },
    .drop = [](void* parcel) { Parcels::drop(*static_cast<Parcel*>(parcel)); },
};

}  // namespace
}  // namespace ds::cuda

extern "C" __attribute__((visibility("default"))) const ds::PluginTable* dsrt_plugin_v1() { return &ds::cuda::table.plugin; }
