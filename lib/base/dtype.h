// Element types, with the codes of the public header, and the conversions between the 16-bit floats and f32.
#pragma once

#include <bit>
#include <cstdint>
#include <optional>
#include <string_view>

namespace ds {

enum class DType : int32_t { f32 = 0, f16 = 1, bf16 = 2, f64 = 3, i32 = 4, i64 = 5, u8 = 6, boolean = 7, i8 = 8, f8e4m3 = 9, f8e5m2 = 10 };
inline constexpr int kDTypes = 11;

int64_t size_of(DType type);                         // bytes an element
std::string_view name_of(DType type);                // "bf16", "bool"
std::optional<DType> dtype_named(std::string_view);  // the inverse of name_of
bool is_float(DType type);

// Storage of the two 16-bit floats. Arithmetic happens in f32.
struct BF16 {
    uint16_t bits;
};
struct F16 {
    uint16_t bits;
};

inline float to_f32(BF16 x) { return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16); }
float to_f32(F16 x);
inline BF16 to_bf16(float x) {  // round to nearest even; a NaN stays one
    uint32_t u = std::bit_cast<uint32_t>(x);
    if ((u & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((u >> 16) | 0x40u)};
    return {static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16)};
}
F16 to_f16(float x);  // round to nearest even; overflow becomes infinity
float f8e4m3_to_f32(uint8_t x);
float f8e5m2_to_f32(uint8_t x);

// Converts n elements between any two types, as a C cast does: through f64 where either side is f64 or i64, else through f32.
void convert(const void* src, DType src_type, void* dst, DType dst_type, int64_t n);

}  // namespace ds
