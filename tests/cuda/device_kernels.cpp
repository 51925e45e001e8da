#include "tests/cuda/device_kernels.h"

#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <set>

namespace ds {
namespace {

std::set<const KernelImpl*>& device_lists() {
    static std::set<const KernelImpl*> lists;
    return lists;
}

KernelList list_of(const char* op) {
    const KernelList* list = test::device().kernels(op);
    if (!list) {
        static const KernelImpl none[] = {{"none", [](const Request&) -> const char* { return "the device has no kernel"; }, nullptr}};
        return none;
    }
    device_lists().insert(list->entries);
    return *list;
}

}  // namespace

// Every row of the list for the CPU, but for iota, which lies in kernels/ref's folder and so is here already.
#define IS_iota ~, 1
#define SECOND(a, b, ...) b
#define IS_HERE(mark) SECOND(mark, 0, )
#define DEFINE_0(op) const KernelList cpu::op = list_of(#op);
#define DEFINE_1(op)
#define PASTE(a, b) a##b
#define DEFINE(is_here, op) PASTE(DEFINE_, is_here)(op)
#define ref_LIST(op)
#define cpu_LIST(op) DEFINE(IS_HERE(IS_##op), op)
#define DS_KERNEL(device, op) device##_LIST(op)
#include "kernels/kernels.def"
#undef DS_KERNEL

namespace test {

Device& device() {
    static Device* opened = [] {
        auto device = Device::open("cuda", 0);
        if (!device.ok()) {
            std::fprintf(stderr, "%s\n", device.status().message().c_str());
            std::exit(1);
        }
        return device->release();
    }();
    return *opened;
}

KernelList on_device(const char* op) { return list_of(op); }
bool is_of_device(const KernelList& list) { return device_lists().count(list.entries) > 0; }

void* control(const char* function) {
    device();
    void* library = dlopen((std::string(std::getenv("DSRT_BACKEND_PATH")) + "/libdsrt_cuda.so").c_str(), RTLD_NOW | RTLD_NOLOAD);
    return library ? dlsym(library, function) : nullptr;
}

}  // namespace test
}  // namespace ds
