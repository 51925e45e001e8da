// DLPack: tensors cross the ABI without a copy. https://dmlc.github.io/dlpack/latest
#include "dsrt/dlpack.h"

#include <cstring>

#include "api/objects.h"
#include "dsrt/tensor.h"

using namespace ds;
using namespace ds::api;

namespace {

struct TypeRow {
    DType type;
    uint8_t code, bits;
};
constexpr TypeRow kTypes[] = {
    {DType::f32, kDLFloat, 32},
    {DType::f16, kDLFloat, 16},
    {DType::bf16, kDLBfloat, 16},
    {DType::f64, kDLFloat, 64},
    {DType::i32, kDLInt, 32},
    {DType::i64, kDLInt, 64},
    {DType::u8, kDLUInt, 8},
    {DType::boolean, kDLBool, 8},
    {DType::i8, kDLInt, 8},
    {DType::f8e4m3, kDLFloat8_e4m3fn, 8},
    {DType::f8e5m2, kDLFloat8_e5m2, 8},
};

Result<DType> type_of(DLDataType type) {
    for (const TypeRow& row : kTypes)
        if (row.code == type.code && row.bits == type.bits && type.lanes == 1) return row.type;
    return fail(Code::E_UNSUPPORTED,
                "DLPack type with code {}, {} bits and {} lanes; accepted are f16, f32, f64, bf16, i8, i32, i64, u8, bool, float8_e4m3fn, "
                "float8_e5m2",
                type.code, type.bits, type.lanes);
}

DLDataType dl_type(DType type) {
    for (const TypeRow& row : kTypes)
        if (row.type == type) return {row.code, row.bits, 1};
    return {};
}

bool row_major(const DLTensor& t) {
    if (!t.strides) return true;
    int64_t dense = 1;
    for (int32_t d = t.ndim - 1; d >= 0; --d) {
        if (t.shape[d] != 1 && t.strides[d] != dense) return false;
        dense *= t.shape[d];
    }
    return true;
}

void gather(const char* from, const DLTensor& t, int64_t element, int32_t dim, char*& to) {
    if (dim == t.ndim) {
        std::memcpy(to, from, static_cast<size_t>(element));
        to += element;
        return;
    }
    for (int64_t i = 0; i < t.shape[dim]; ++i) gather(from + i * t.strides[dim] * element, t, element, dim + 1, to);
}

Result<HostTensor> describe(const DLTensor& t) {
    if (t.device.device_type != kDLCPU && t.device.device_type != kDLCUDAHost && t.device.device_type != kDLROCMHost)
        return fail(Code::E_UNSUPPORTED, "DLPack device type {}: only host memory is accepted (kDLCPU, or pinned)",
                    static_cast<int>(t.device.device_type));
    DS_REQUIRE(t.ndim >= 0 && t.ndim <= 32, "DLPack tensor: ndim must be 0 to 32, but is {}", t.ndim);
    DS_REQUIRE(t.shape || t.ndim == 0, "DLPack tensor: shape must not be NULL where ndim is {}", t.ndim);
    HostTensor tensor;
    DS_TRY(tensor.dtype, type_of(t.dtype));
    tensor.shape.assign(t.shape, t.shape + t.ndim);
    DS_TRY(const int64_t count, checked_elements(tensor.shape));
    DS_REQUIRE(t.data || count == 0, "DLPack tensor {}: data must not be NULL", tensor.shape);
    tensor.data = t.data ? static_cast<char*>(t.data) + t.byte_offset : nullptr;
    return tensor;
}

// Frees the producer's struct once the last reference to its memory is gone. Armed last: until then `src` is the caller's.
template <class Managed>
struct Owner {
    Managed* managed = nullptr;
    ~Owner() {
        if (managed && managed->deleter) managed->deleter(managed);
    }
};

HostTensor copied(const DLTensor& t, const HostTensor& described) {
    HostTensor copy = HostTensor::zeros(described.dtype, described.shape);
    char* to = static_cast<char*>(copy.data);
    if (copy.count() && row_major(t)) std::memcpy(to, described.data, static_cast<size_t>(copy.bytes()));
    else if (copy.count()) gather(static_cast<const char*>(described.data), t, size_of(copy.dtype), 0, to);
    if (copy.dtype == DType::boolean)
        for (uint8_t& b : copy.as<uint8_t>()) b = b != 0;
    return copy;
}

template <class Managed>
ds_tensor* import(Managed* src, HostTensor tensor, bool read_only) {
    auto owner = std::make_shared<Owner<Managed>>();
    auto object = std::make_shared<TensorObject>();
    // Our booleans are 0 or 1, a producer's may not be.
    if (tensor.count() > 0 && row_major(src->dl_tensor) && tensor.dtype != DType::boolean) {
        tensor.storage = owner;
        object->read_only = read_only;
        object->lent = true;
    } else {
        tensor = copied(src->dl_tensor, tensor);
    }
    object->tensor = std::move(tensor);
    ds_tensor* handle = new_handle<ds_tensor>(std::move(object));
    owner->managed = src;  // consumed: at once, where the contents were copied
    return handle;
}

// What an export owns: the memory, and the arrays that DLTensor points to.
struct Lent {
    HostTensor tensor;
    std::vector<int64_t> strides;
};

DLTensor dl_tensor(Lent& lent) {
    HostTensor& t = lent.tensor;
    lent.strides.assign(t.shape.size(), 1);
    for (size_t d = t.shape.size(); d-- > 1;) lent.strides[d - 1] = lent.strides[d] * t.shape[d];
    DLTensor out{};
    out.data = t.count() ? t.data : nullptr;
    out.device = {kDLCPU, 0};
    out.ndim = static_cast<int32_t>(t.shape.size());
    out.dtype = dl_type(t.dtype);
    out.shape = t.shape.empty() ? nullptr : t.shape.data();
    out.strides = t.shape.empty() ? nullptr : lent.strides.data();
    return out;
}

// Deleters are called by the consumer, anywhere: what they free may run the deleter of an imported tensor, so they stand behind a guard.
template <class Managed>
void free_export(Managed* m) {
    guard(
        [&]() -> Status {
            delete static_cast<Lent*>(m->manager_ctx);
            delete m;
            return ok();
        },
        Report::nothing);
}

template <class Managed>
Managed* export_tensor(TensorObject& t, bool copy) {
    // Memory that a batch or another tensor shares stays theirs: the host may write to what it is lent.
    if (!copy && !t.lent && t.tensor.storage.use_count() > 1) t.tensor = t.tensor.clone();
    auto lent = std::make_unique<Lent>(Lent{copy ? t.tensor.clone() : t.tensor, {}});
    auto managed = std::make_unique<Managed>();
    managed->dl_tensor = dl_tensor(*lent);
    managed->deleter = free_export<Managed>;
    managed->manager_ctx = lent.release();
    if (!copy) t.lent = true;
    return managed.release();
}

}  // namespace

ds_status ds_tensor_from_dlpack(DLManagedTensorVersioned* src, ds_tensor** out) {
    return guard([&]() -> Status {
        DS_NOT_NULL(out);
        *out = nullptr;
        DS_NOT_NULL(src);
        if (src->version.major != DLPACK_MAJOR_VERSION)
            return fail(Code::E_UNSUPPORTED, "DLPack version {}.{}: this library reads major {}", src->version.major, src->version.minor,
                        DLPACK_MAJOR_VERSION);
        DS_TRY(HostTensor tensor, describe(src->dl_tensor));
        *out = import(src, std::move(tensor), src->flags & DLPACK_FLAG_BITMASK_READ_ONLY);
        return ok();
    });
}

ds_status ds_tensor_from_dlpack_legacy(DLManagedTensor* src, ds_tensor** out) {
    return guard([&]() -> Status {
        DS_NOT_NULL(out);
        *out = nullptr;
        DS_NOT_NULL(src);
        DS_TRY(HostTensor tensor, describe(src->dl_tensor));
        *out = import(src, std::move(tensor), false);
        return ok();
    });
}

ds_status ds_tensor_to_dlpack(ds_tensor* t, DLManagedTensorVersioned** out) {
    return guard([&]() -> Status {
        DS_NOT_NULL(out);
        *out = nullptr;
        DS_USE(const auto tensor, t);
        *out = export_tensor<DLManagedTensorVersioned>(*tensor, false);
        (*out)->version = {DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION};
        (*out)->flags = tensor->read_only ? DLPACK_FLAG_BITMASK_READ_ONLY : 0;
        return ok();
    });
}

ds_status ds_tensor_to_dlpack_legacy(ds_tensor* t, DLManagedTensor** out) {
    return guard([&]() -> Status {
        DS_NOT_NULL(out);
        *out = nullptr;
        DS_USE(const auto tensor, t);
        *out = export_tensor<DLManagedTensor>(*tensor, tensor->read_only);
        return ok();
    });
}
