// Tensors, and batches of them by name.
// SPDX-License-Identifier: Apache-2.0
#ifndef DSRT_CPP_TENSOR_HPP
#define DSRT_CPP_TENSOR_HPP

#include <dsrt/cpp/core.hpp>

namespace dsrt {

class Tensor {
public:
    explicit Tensor(ds_tensor* owned) : handle_(owned) {}
    // Zeros.
    Tensor(DType dtype, const Shape& shape) : Tensor(make(dtype, shape, nullptr, 0)) {}
    // No data is data of 0 bytes, never zeros.
    Tensor(DType dtype, const Shape& shape, const void* data, size_t bytes)
        : Tensor(make(dtype, shape, data || bytes ? data : static_cast<const void*>(""), bytes)) {}
    template <class T>
    static Tensor of(const Shape& shape, Span<T> values) {
        return Tensor(detail::TypeCode<T>::value, shape, values.data(), values.size() * sizeof(T));
    }
    template <class T>
    static Tensor of(const Shape& shape, const std::vector<T>& values) {
        return of(shape, Span<T>(values));
    }
    // Consumes src, unless it throws.
    static Tensor from_dlpack(DLManagedTensorVersioned* src) {
        return Tensor(detail::TensorHandle::made([&](auto out) { return ds_tensor_from_dlpack(src, out); }));
    }
    DLManagedTensorVersioned* to_dlpack() {
        DLManagedTensorVersioned* out = nullptr;
        detail::check(ds_tensor_to_dlpack(get(), &out));
        return out;
    }
    // The same for DLPack before 1.0.
    static Tensor from_dlpack_legacy(DLManagedTensor* src) {
        return Tensor(detail::TensorHandle::made([&](auto out) { return ds_tensor_from_dlpack_legacy(src, out); }));
    }
    DLManagedTensor* to_dlpack_legacy() {
        DLManagedTensor* out = nullptr;
        detail::check(ds_tensor_to_dlpack_legacy(get(), &out));
        return out;
    }

    DType dtype() const {
        int32_t code = 0;
        detail::check(ds_tensor_info(get(), &code, nullptr, nullptr));
        return static_cast<DType>(code);
    }
    Shape shape() const {
        int32_t ndim = 0;
        const int64_t* dims = nullptr;
        detail::check(ds_tensor_info(get(), nullptr, &ndim, &dims));
        return Shape(dims, dims + ndim);
    }
    size_t count() const {
        size_t n = 1;
        for (const int64_t d : shape()) n *= static_cast<size_t>(d);
        return n;
    }
    // The contents, converted, into memory of exactly count() elements of that type.
    void read_into(DType dtype, void* dst, size_t bytes) const {
        detail::check(ds_tensor_read(get(), static_cast<int32_t>(dtype), dst, bytes));
    }
    template <class T = float>
    std::vector<T> read() const {
        std::vector<T> values(count());
        detail::check(ds_tensor_read(get(), static_cast<int32_t>(detail::TypeCode<T>::value), values.data(), values.size() * sizeof(T)));
        return values;
    }
    ds_tensor* get() const { return handle_.get(); }
    void close() noexcept { handle_.close(); }

private:
    static ds_tensor* make(DType dtype, const Shape& shape, const void* data, size_t bytes) {
        return detail::TensorHandle::made([&](auto out) {
            return ds_tensor_create(static_cast<int32_t>(dtype), static_cast<int32_t>(shape.size()), shape.data(), data, bytes, out);
        });
    }
    detail::TensorHandle handle_;
};

class Batch {
public:
    Batch() : handle_(make()) {}
    explicit Batch(ds_batch* owned) : handle_(owned) {}
    Batch& set(const std::string& name, const Tensor& t) {
        detail::check(ds_batch_set(get(), detail::c_text(name), t.get()));
        return *this;
    }
    template <class T>
    Batch& set(const std::string& name, const Shape& shape, const std::vector<T>& values) {
        return set(name, Tensor::of(shape, values));
    }
    Tensor operator[](const std::string& name) const {
        return Tensor(detail::TensorHandle::made([&](auto out) { return ds_batch_get(get(), detail::c_text(name), out); }));
    }
    ds_batch* get() const { return handle_.get(); }
    bool holds(const ds_batch* handle) const noexcept { return handle_.holds(handle); }
    void close() noexcept { handle_.close(); }
    ds_batch* release() noexcept { return handle_.release(); }

private:
    static ds_batch* make() {
        return detail::BatchHandle::made([](auto out) { return ds_batch_create(out); });
    }
    detail::BatchHandle handle_;
};

}  // namespace dsrt

#endif  // DSRT_CPP_TENSOR_HPP
