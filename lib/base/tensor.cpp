#include "base/tensor.h"

#include <cstdlib>
#include <cstring>
#include <new>

namespace ds {

std::string to_string(const Shape& shape) {
    std::string text = "[";
    for (size_t i = 0; i < shape.size(); ++i) text += (i ? "," : "") + std::to_string(shape[i]);
    return text + "]";
}

Result<int64_t> checked_elements(std::span<const int64_t> shape) {
    int64_t product = 1;
    for (const int64_t d : shape) {
        DS_REQUIRE(d >= 0, "dimension {} is negative", d);
        if (__builtin_mul_overflow(product, d, &product) || product > (int64_t{1} << 60))
            return fail(Code::E_INVALID_ARGUMENT, "the shape {} has more elements than can be addressed", Shape(shape.begin(), shape.end()));
    }
    return product;
}

HostTensor HostTensor::zeros(DType dtype, Shape shape) {
    HostTensor t;
    t.dtype = dtype;
    t.shape = std::move(shape);
    const size_t bytes = (static_cast<size_t>(t.bytes()) + 63) / 64 * 64;
    void* p = std::aligned_alloc(64, bytes ? bytes : 64);
    if (!p) throw std::bad_alloc();
    std::memset(p, 0, bytes);
    t.storage = std::shared_ptr<void>(p, std::free);
    t.data = p;
    return t;
}

HostTensor HostTensor::to(DType other) const {
    if (other == dtype) return *this;
    HostTensor t = zeros(other, shape);
    convert(data, dtype, t.data, other, count());
    return t;
}

HostTensor HostTensor::clone() const {
    HostTensor t = zeros(dtype, shape);
    if (t.bytes()) std::memcpy(t.data, data, static_cast<size_t>(t.bytes()));
    return t;
}

}  // namespace ds
