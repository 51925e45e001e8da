// ds_tensor_*: copies in and out. dlpack.cpp has the exchange without copies.
#include "dsrt/tensor.h"

#include <unistd.h>

#include <cstring>

#include "api/objects.h"

using namespace ds;
using namespace ds::api;

namespace {

constexpr int32_t kMaxDims = 32;

// Zeros, unless the machine could never hold them: letting the kernel find that out may cost the host its life.
Result<HostTensor> zeros(DType dtype, const Shape& shape) {
    DS_TRY(const int64_t count, checked_elements(shape));
    const int64_t limit = sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
    if (count > limit / size_of(dtype))
        return fail(Code::E_OUT_OF_MEMORY, "a tensor {}{} takes {} bytes an element times {}; this machine has {} bytes", name_of(dtype),
                    shape, size_of(dtype), count, limit);
    return HostTensor::zeros(dtype, shape);
}

void copy_in(HostTensor& to, const void* data) {
    std::memcpy(to.data, data, static_cast<size_t>(to.bytes()));
    if (to.dtype == DType::boolean)
        for (uint8_t& b : to.as<uint8_t>()) b = b != 0;
}

}  // namespace

static_assert(DS_F32 == int(DType::f32) && DS_F16 == int(DType::f16) && DS_BF16 == int(DType::bf16) && DS_F64 == int(DType::f64) &&
              DS_I32 == int(DType::i32) && DS_I64 == int(DType::i64) && DS_U8 == int(DType::u8) && DS_BOOL == int(DType::boolean) &&
              DS_I8 == int(DType::i8) && DS_F8E4M3 == int(DType::f8e4m3) && DS_F8E5M2 == int(DType::f8e5m2));

Result<DType> ds::api::dtype_argument(int32_t dtype) {
    DS_REQUIRE(dtype >= 0 && dtype < kDTypes, "dtype {} is not a type code, which are 0 (DS_F32) to {}", dtype, kDTypes - 1);
    return static_cast<DType>(dtype);
}

HostTensor ds::api::snapshot(const TensorObject& t) { return t.lent ? t.tensor.clone() : t.tensor; }

ds_tensor* ds::api::new_tensor(HostTensor tensor) {
    auto object = std::make_shared<TensorObject>();
    object->tensor = std::move(tensor);
    return new_handle<ds_tensor>(std::move(object));
}

Result<HostTensor> ds::api::tensor_of(const ds_tensor* t) {
    DS_USE(const auto tensor, t);
    return snapshot(*tensor);
}

ds_status ds_tensor_create(int32_t dtype, int32_t ndim, const int64_t* shape, const void* data, size_t bytes, ds_tensor** out) {
    return guard([&]() -> Status {
        DS_NOT_NULL(out);
        *out = nullptr;
        DS_TRY(const DType type, dtype_argument(dtype));
        DS_REQUIRE(ndim >= 0 && ndim <= kMaxDims, "ndim must be 0 to {}, but is {}", kMaxDims, ndim);
        DS_REQUIRE(shape || ndim == 0, "shape must not be NULL where ndim is {}", ndim);
        DS_REQUIRE(data || bytes == 0, "data is NULL, but bytes is {}: zeros are asked for with 0", bytes);
        const Shape dims(shape, shape + ndim);
        DS_TRY(HostTensor tensor, zeros(type, dims));
        if (data) {
            DS_REQUIRE(bytes == static_cast<size_t>(tensor.bytes()), "a tensor {}{} has {} bytes, but bytes is {}", name_of(type), dims,
                       tensor.bytes(), bytes);
            if (bytes) copy_in(tensor, data);
        }
        *out = new_tensor(std::move(tensor));
        return ok();
    });
}

ds_status ds_tensor_info(const ds_tensor* t, int32_t* dtype, int32_t* ndim, const int64_t** shape) {
    return guard([&]() -> Status {
        static constexpr int64_t kNoDims = 0;
        if (shape) *shape = nullptr;
        DS_USE(const auto tensor, t);
        const Shape& dims = tensor->tensor.shape;
        if (dtype) *dtype = static_cast<int32_t>(tensor->tensor.dtype);
        if (ndim) *ndim = static_cast<int32_t>(dims.size());
        if (shape) *shape = dims.empty() ? &kNoDims : dims.data();
        return ok();
    });
}

ds_status ds_tensor_read(const ds_tensor* t, int32_t dtype, void* dst, size_t bytes) {
    return guard([&]() -> Status {
        DS_USE(const auto tensor, t);
        DS_TRY(const DType type, dtype_argument(dtype));
        const HostTensor& from = tensor->tensor;
        const size_t needed = static_cast<size_t>(from.count() * size_of(type));
        DS_REQUIRE(bytes == needed, "reading {}{} as {} takes {} bytes, but bytes is {}", name_of(from.dtype), from.shape, name_of(type),
                   needed, bytes);
        DS_REQUIRE(dst || needed == 0, "dst must not be NULL");
        if (type != from.dtype && (type == DType::f8e4m3 || type == DType::f8e5m2))
            return fail(Code::E_UNSUPPORTED, "conversion from {} to {}: 8-bit floats can be read as they are or as wider types",
                        name_of(from.dtype), name_of(type));
        convert(from.data, from.dtype, dst, type, from.count());
        return ok();
    });
}

void ds_tensor_destroy(ds_tensor* t) { destroy(t); }
