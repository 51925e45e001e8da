#include "base/tensor.h"

#include <cstdlib>
#include <cstring>
#include <utility>
#include <new>

#include "base/round.h"

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
            return fail(Code::E_INVALID_ARGUMENT, "the shape {} has more elements than can be addressed",
                        Shape(shape.begin(), shape.end()));
    }
    return product;
}

HostTensor HostTensor::zeros(DType dtype, Shape shape) {
    HostTensor t;
    t.dtype = dtype;
    t.shape = std::move(shape);
    const size_t bytes = round_up(static_cast<size_t>(t.bytes()), 64);
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

namespace {

// A dimension of a dense tensor as rows of bytes: `outer` of them, `inner` bytes for each element of the dimension.
struct Strips {
    size_t outer = 1, inner;
    Strips(const HostTensor& t, int dim) : inner(static_cast<size_t>(size_of(t.dtype))) {
        for (size_t d = 0; d < t.shape.size(); ++d)
            if (static_cast<int>(d) < dim) outer *= static_cast<size_t>(t.shape[d]);
            else if (static_cast<int>(d) > dim) inner *= static_cast<size_t>(t.shape[d]);
    }
};

void copy_strips(const Strips& s, const HostTensor& from, size_t from_at, size_t from_size, const HostTensor& to, size_t to_at,
                 size_t to_size, size_t count) {
    for (size_t i = 0; i < s.outer && count > 0; ++i)
        std::memcpy(static_cast<char*>(to.data) + (i * to_size + to_at) * s.inner,
                    static_cast<const char*>(from.data) + (i * from_size + from_at) * s.inner, count * s.inner);
}

}  // namespace

HostTensor slice(const HostTensor& whole, int dim, int64_t begin, int64_t end) {
    if (dim < 0) return whole;
    Shape shape = whole.shape;
    const auto full = static_cast<size_t>(std::exchange(shape[static_cast<size_t>(dim)], end - begin)),
               count = static_cast<size_t>(end - begin);
    HostTensor part = HostTensor::zeros(whole.dtype, shape);
    copy_strips(Strips(whole, dim), whole, static_cast<size_t>(begin), full, part, 0, count, count);
    return part;
}

HostTensor concat(const std::vector<HostTensor>& parts, int dim) {
    if (parts.size() == 1) return parts.front();
    Shape shape = parts.front().shape;
    const auto axis = static_cast<size_t>(dim);
    for (size_t i = 1; i < parts.size(); ++i) shape[axis] += parts[i].shape[axis];
    HostTensor whole = HostTensor::zeros(parts.front().dtype, shape);
    size_t at = 0;
    for (const HostTensor& part : parts) {
        const auto count = static_cast<size_t>(part.shape[axis]);
        copy_strips(Strips(part, dim), part, 0, count, whole, at, static_cast<size_t>(shape[axis]), count);
        at += count;
    }
    return whole;
}

}  // namespace ds
