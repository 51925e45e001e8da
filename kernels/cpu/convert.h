// Rows of f32, bf16 and f16 as f32 and back (round to nearest even), with SIMD. Kernels of this folder compute in f32 on short blocks that
// stay in the first cache: `read` and `Out` convert a block where the tensor is not f32 and cost nothing where it is.
#pragma once

#include <cstddef>

#include "base/round.h"
#include "kernels/kernel.h"

namespace ds::cpu {

void to_f32(const void* x, DType type, int64_t n, float* y);
void from_f32(const float* x, int64_t n, DType type, void* y);

inline bool is_simd_float(DType type) { return type == DType::f32 || type == DType::bf16 || type == DType::f16; }

inline constexpr int64_t kBlock = 1024;  // elements a staged block has at most

inline int64_t float_size(DType type) { return type == DType::f32 ? 4 : 2; }
inline std::byte* address(const Tensor& t, int64_t row, int64_t column = 0) {
    return t.as<std::byte>() + (row * t.row_stride + column) * float_size(t.dtype);
}

// n elements from (row, column) on as f32: in place, or converted into buffer.
inline const float* read(const Tensor& t, int64_t row, int64_t column, int64_t n, float* buffer) {
    const std::byte* p = address(t, row, column);
    if (t.dtype == DType::f32) return reinterpret_cast<const float*>(p);
    to_f32(p, t.dtype, n, buffer);
    return buffer;
}

// Where a kernel puts n f32 results for (row, column) on; done() converts them into the tensor if they are not there yet.
class Out {
public:
    Out(const Tensor& t, int64_t row, int64_t column, float* buffer) : type_(t.dtype), to_(address(t, row, column)), buffer_(buffer) {}
    float* data() const { return type_ == DType::f32 ? reinterpret_cast<float*>(to_) : buffer_; }
    void done(int64_t n) const {
        if (type_ != DType::f32) from_f32(buffer_, n, type_, to_);
    }

private:
    DType type_;
    std::byte* to_;
    float* buffer_;
};

// Scratch of a kernel that gives every thread `arrays` arrays of n floats, each 64-byte aligned.
inline int64_t padded(int64_t n) { return round_up(n, 16); }
inline float* own_array(const Call& call, Team team, int arrays, int64_t n, int which) {
    return reinterpret_cast<float*>(call.scratch) + (int64_t{team.rank} * arrays + which) * padded(n);
}

}  // namespace ds::cpu
