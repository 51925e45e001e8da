// HostTensor: a dense row-major array in host memory with shared, reference-counted storage. The currency of batches, files and the ABI.
#pragma once

#include <cstdint>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/status.h"

namespace ds {

using Shape = std::vector<int64_t>;

inline int64_t elements(const Shape& shape) { return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>()); }
std::string to_string(const Shape& shape);  // "[8,64]"
// The number of elements, or an error where a dimension is negative or the product leaves 2^60.
Result<int64_t> checked_elements(std::span<const int64_t> shape);

struct HostTensor {
    DType dtype = DType::f32;
    Shape shape;
    std::shared_ptr<void> storage;  // keeps `data` alive; 64-byte aligned where this library allocated it
    void* data = nullptr;

    static HostTensor zeros(DType dtype, Shape shape);
    template <class T>
    static HostTensor of(DType dtype, Shape shape, std::span<const T> values);  // copies; T must be dtype's storage type

    int64_t count() const { return elements(shape); }
    int64_t bytes() const { return count() * size_of(dtype); }
    template <class T>
    std::span<T> as() const {
        return {static_cast<T*>(data), static_cast<size_t>(count())};
    }
    HostTensor to(DType other) const;  // converted copy (a shared reference when the type is already right)
    HostTensor clone() const;          // copy with storage of its own
};

template <class T>
HostTensor HostTensor::of(DType dtype, Shape shape, std::span<const T> values) {
    HostTensor t = zeros(dtype, std::move(shape));
    std::copy(values.begin(), values.end(), static_cast<T*>(t.data));
    return t;
}

// Elements begin..end of one dimension, and the inverse. A dimension below 0: the whole tensor.
HostTensor slice(const HostTensor& whole, int dim, int64_t begin, int64_t end);
HostTensor concat(const std::vector<HostTensor>& parts, int dim);  // at least one; equal in type and other dimensions

}  // namespace ds

template <>
struct fmt::formatter<ds::Shape> : fmt::formatter<std::string> {
    template <class Context>
    auto format(const ds::Shape& shape, Context& context) const {
        return fmt::formatter<std::string>::format(ds::to_string(shape), context);
    }
};
