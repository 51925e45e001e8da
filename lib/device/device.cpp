#include "device/device.h"

#include <cstring>

#include "base/log.h"

namespace ds {
namespace {

void log_of_backend(int32_t level, const char* message) { log(static_cast<Level>(level), "device", "{}", message); }

Result<const BackendTable*> table_of(const std::string& kind) {
    auto table = load_plugin<BackendTable>(kind);
    if (!table.ok()) return fail(Code::E_UNSUPPORTED, "device: {}: {}", kind, table.status().message());
    if (std::strcmp((*table)->stamp, DS_BACKEND_STAMP) != 0)
        return fail(Code::E_UNSUPPORTED, "device: {}: the plug-in was built as \"{}\", this library as \"{}\"; install both from one build",
                    kind, (*table)->stamp, DS_BACKEND_STAMP);
    static const BackendHost host{.log = log_of_backend};
    (*table)->attach(&host);
    return *table;
}

Status failure(const BackendTable& table, int32_t code) { return code >= 0 ? ok() : Status(static_cast<Code>(code), table.last_error()); }

}  // namespace

Result<int> device_count(const std::string& kind) {
    DS_TRY(const BackendTable* table, table_of(kind));
    int32_t count = 0;
    DS_CHECK(failure(*table, table->count(&count)));
    return static_cast<int>(count);
}

Result<std::unique_ptr<Device>> Device::open(const std::string& kind, int index) {
    DS_TRY(const BackendTable* table, table_of(kind));
    void* handle = nullptr;
    DS_CHECK(failure(*table, table->open(index, &handle)));
    auto device = std::unique_ptr<Device>(new Device(*table, handle));
    BackendDeviceInfo info;
    DS_CHECK(device->answer(table->info(handle, &info)));
    device->description_ =
        fmt::format("{}:{} ({}, {:.1f} GiB, {})", kind, index, info.name, static_cast<double>(info.memory_bytes) / (1 << 30), info.runtime);
    device->architecture_ = info.architecture;
    return device;
}

Device::~Device() { table_.close(device_); }

Status Device::answer(int32_t code) const { return failure(table_, code); }

Result<std::byte*> Device::allocate(size_t bytes) {
    void* memory = nullptr;
    DS_CHECK(answer(table_.allocate(device_, bytes, &memory)));
    return static_cast<std::byte*>(memory);
}

void Device::release(void* memory) {
    if (const Status status = answer(table_.release(device_, memory)); !status.ok()) log(Level::warn, "device", "{}", status.message());
}

Status Device::zero(void* to, size_t bytes) { return answer(table_.zero(device_, to, bytes)); }
Status Device::upload(void* to, const void* from, size_t bytes) { return answer(table_.upload(device_, to, from, bytes)); }
Status Device::download(void* to, const void* from, size_t bytes) { return answer(table_.download(device_, to, from, bytes)); }
Status Device::convert(void* to, DType to_type, const void* from, DType from_type, int64_t count) {
    return answer(table_.convert(device_, to, static_cast<int32_t>(to_type), from, static_cast<int32_t>(from_type), count));
}
Status Device::scale(float* x, int64_t count, float factor) { return answer(table_.scale(device_, x, count, factor)); }
Result<double> Device::squares(const float* x, int64_t count) {
    double sum = 0;
    DS_CHECK(answer(table_.squares(device_, x, count, &sum)));
    return sum;
}
Status Device::sweep(const BackendSweep& sweep) { return answer(table_.sweep(device_, &sweep)); }
Status Device::add(float* to, const float* from, int64_t count) { return answer(table_.add(device_, to, from, count)); }

const KernelList* Device::kernels(std::string_view op) const {
    return static_cast<const KernelList*>(table_.kernels(std::string(op).c_str()));
}
Status Device::begin(uint64_t seed, uint64_t step) { return answer(table_.begin(device_, seed, step)); }
Status Device::status() { return answer(table_.status(device_)); }
Status Device::finish() { return answer(table_.finish(device_)); }
Status Device::record() { return answer(table_.record(device_)); }
Result<void*> Device::recorded() {
    void* graph = nullptr;
    DS_CHECK(answer(table_.recorded(device_, &graph)));
    return graph;
}
Status Device::replay(void* graph) { return answer(table_.replay(device_, graph)); }
void Device::forget(void* graph) { table_.forget(device_, graph); }
Status Device::begin_beside() { return answer(table_.begin_beside(device_)); }
Result<int64_t> Device::end_beside() {
    int64_t mark = 0;
    DS_CHECK(answer(table_.end_beside(device_, &mark)));
    return mark;
}
Status Device::await(int64_t mark) { return answer(table_.await(device_, mark)); }

Status Device::can_group() const {
    int32_t version = 0;
    DS_CHECK(answer(table_.group_library(&version)));
    log(Level::debug, "device", "groups of devices: NCCL {}.{}.{}", version / 10000, version / 100 % 100, version % 100);
    return ok();
}
Result<BackendGroupId> Device::group_id() {
    BackendGroupId id;
    DS_CHECK(answer(table_.group_id(&id)));
    return id;
}
Result<void*> Device::join(const BackendGroup& group) {
    void* member = nullptr;
    DS_CHECK(answer(table_.join(device_, &group, &member)));
    return member;
}
void Device::leave(void* member) { table_.leave(device_, member); }
Status Device::exchange(void* member, const BackendBlock* send, const BackendBlock* receive) {
    return answer(table_.exchange(device_, member, send, receive));
}
Status Device::reduce_scatter(void* member, const BackendBlock* send, BackendBlock out, DType dtype) {
    return answer(table_.reduce_scatter(device_, member, send, &out, static_cast<int32_t>(dtype)));
}
Status Device::all_reduce(void* member, BackendBlock data, DType dtype) {
    return answer(table_.all_reduce(device_, member, &data, static_cast<int32_t>(dtype)));
}
Result<void*> Device::post(const void* data, size_t bytes) {
    void* parcel = nullptr;
    DS_CHECK(answer(table_.post(device_, data, bytes, &parcel)));
    return parcel;
}
Status Device::take(void* parcel, void* to) { return answer(table_.take(device_, parcel, to)); }

Status to_device(Device* device, void* to, const void* from, size_t bytes) {
    if (device) return device->upload(to, from, bytes);
    std::memcpy(to, from, bytes);
    return ok();
}

Status to_host(Device* device, void* to, const void* from, size_t bytes) {
    if (device) return device->download(to, from, bytes);
    std::memcpy(to, from, bytes);
    return ok();
}

}  // namespace ds
